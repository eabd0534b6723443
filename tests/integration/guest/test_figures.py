"""matplotlib's figures: every one, once, in order, whatever backend the code asks for."""

from __future__ import annotations

import struct

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]

PLOT = "import matplotlib.pyplot as plt\nimport matplotlib\n"


def titles(result):
    """Of the figures that were shown, by what is said of their charts."""
    return [shown.chart["title"] or shown.chart["axes"][0]["title"] for shown in result.results if shown.chart]


def images(result):
    return [shown for shown in result.results if "image/png" in shown.data]


def size(png):
    return struct.unpack(">II", png[16:24])


def test_open_figures_are_shown_at_the_end_of_the_cell_and_closed(run):
    result = run(f"{PLOT}for name in 'ab':\n    plt.figure()\n    plt.plot([1, 2])\n    plt.title(name)")

    assert titles(result) == ["a", "b"]
    assert run("print(plt.get_fignums())").stdout == "[]\n"


def test_show_shows_what_is_open_and_the_end_what_came_after(run):
    result = run(
        f"{PLOT}plt.plot([1])\nplt.title('shown')\nplt.show()\nprint('between')\nplt.plot([2])\nplt.title('left')\nNone"
    )

    assert titles(result) == ["shown", "left"]


def test_show_in_a_loop_shows_each(run):
    assert titles(run(f"{PLOT}for n in range(3):\n    plt.plot([n])\n    plt.title(str(n))\n    plt.show()")) == [
        "0",
        "1",
        "2",
    ]


def test_a_closed_figure_is_not_shown(run):
    assert run(f"{PLOT}plt.plot([1])\nplt.close()").results == ()


def test_a_figure_that_is_the_value_of_the_cell_is_shown_once(run):
    assert len(images(run(f"{PLOT}figure, axes = plt.subplots()\naxes.plot([1])\nfigure"))) == 1


def test_a_figure_that_changed_after_it_was_displayed_is_shown_again(run):
    result = run(
        f"{PLOT}figure, axes = plt.subplots()\naxes.plot([1])\naxes.set_title('one')\ndisplay(figure)\naxes.set_title('two');"
    )

    assert titles(result) == ["one", "two"]


def test_a_figure_of_an_earlier_cell_can_be_shown_again(run):
    run(f"{PLOT}figure, axes = plt.subplots()\naxes.plot([1]);")

    assert len(images(run("axes.set_title('again')\nfigure"))) == 1


def test_a_figure_is_shown_also_when_the_cell_fails(run):
    result = run(f"{PLOT}plt.plot([1])\n1 / 0")

    assert result.error.name == "ZeroDivisionError"
    assert len(images(result)) == 1


@pytest.mark.parametrize(
    "choice",
    [
        "matplotlib.use('Agg')",
        "matplotlib.use('TkAgg')",
        "plt.switch_backend('agg')",
        "%matplotlib agg",
        "%matplotlib qt",
    ],
)
def test_figures_are_shown_whatever_backend_is_asked_for(run, choice):
    result = run(f"{PLOT}{choice}\nplt.plot([1])\nplt.title('one')\nplt.show()\nplt.plot([2])\nplt.title('two')\nNone")

    assert result.ok, result.error
    assert titles(result) == ["one", "two"]
    assert result.stderr == ""


def test_the_backend_that_was_asked_for_is_the_one_that_is_told(run):
    assert run(f"{PLOT}matplotlib.use('Agg')\nprint(matplotlib.get_backend().lower())").stdout == "agg\n"


def test_a_backend_for_files_is_left_alone(run):
    result = run(f"{PLOT}matplotlib.use('svg')\nplt.plot([1])\nplt.savefig('drawn')")

    assert [artifact.name for artifact in result.artifacts] == ["drawn.svg"]


def test_interactive_mode_off_means_that_only_show_shows(run):
    kept = run(f"{PLOT}plt.ioff()\nplt.plot([1]);")
    shown = run("plt.show()")

    assert (len(images(kept)), len(images(shown))) == (0, 1)


def test_a_child_of_the_code_draws_without_a_window(run):
    result = run(
        "!python -W error::UserWarning -c \"import matplotlib.pyplot as p; p.plot([1]); p.savefig('c.png'); print(p.get_backend().lower())\""
    )

    assert (result.stdout, result.stderr) == ("agg\n", "")


def test_a_figure_that_was_saved_goes_by_the_name_of_its_file(run):
    result = run(f"{PLOT}plt.plot([1])\nplt.savefig('sales.png')\nplt.savefig('sales.pdf')\nplt.show()")

    assert [shown.artifact for shown in result.results] == ["sales.png"]
    assert sorted(artifact.name for artifact in result.artifacts) == ["sales.pdf", "sales.png"]


def test_a_figure_that_is_saved_after_it_was_shown_goes_by_the_name_of_its_file(run):
    result = run("import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nplt.show()\nfig.savefig('after.png')")

    assert [one.artifact for one in result.results] == ["after.png"]
    assert [artifact.name for artifact in result.artifacts] == ["after.png"]


def test_a_figure_that_changed_before_it_was_saved_is_another_image(run):
    result = run(
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nplt.show()\nax.set_title('x')\nfig.savefig('b.png')"
    )

    assert [one.artifact for one in result.results] == ["figure-1.png"]
    assert [artifact.name for artifact in result.artifacts] == ["b.png", "figure-1.png"]


def test_a_figure_that_was_saved_is_shown_as_its_file(run):
    result = run(f"{PLOT}plt.figure(figsize=(3, 2))\nplt.plot([1])\nplt.savefig('small.png', dpi=50);")

    assert size(images(result)[0].data["image/png"]) == (150, 100)
    assert result.artifact("small.png").read_bytes() == images(result)[0].data["image/png"]


def test_a_figure_that_changed_after_it_was_saved_is_drawn_again(run):
    result = run(f"{PLOT}plt.plot([1])\nplt.savefig('before.png')\nplt.title('after');")

    assert titles(result) == ["after"]
    assert result.artifact("before.png").read_bytes() != images(result)[0].data["image/png"]


def test_a_name_without_an_ending_and_a_folder_are_followed(run):
    result = run(
        f"{PLOT}import os, pathlib\nos.mkdir('out')\nplt.plot([1])\nplt.savefig(pathlib.Path('out') / 'chart')\nplt.show()"
    )

    assert [shown.artifact for shown in result.results] == ["out/chart.png"]


def test_a_file_that_was_replaced_is_not_taken_for_the_figure(run):
    result = run(
        f"{PLOT}from PIL import Image\nplt.plot([1])\nplt.savefig('x.png')\nImage.new('RGB', (7, 7)).save('x.png')\nplt.show()"
    )

    assert size(images(result)[0].data["image/png"]) != (7, 7)


def test_the_form_of_figures_can_be_chosen(run):
    vector = run(f"%config InlineBackend.figure_formats = ['svg']\n{PLOT}plt.plot([1]);")
    both = run("%config InlineBackend.figure_formats = {'png', 'svg'}\nplt.plot([1]);")
    sharp = run("%config InlineBackend.figure_format = 'retina'\nplt.plot([1]);")

    assert "image/png" not in vector.results[0].data
    assert vector.results[0].data["image/svg+xml"].startswith("<?xml")
    assert {"image/png", "image/svg+xml"} <= set(both.results[0].data)
    assert sharp.results[0].metadata["image/png"]["width"] * 2 == size(sharp.results[0].data["image/png"])[0]


def test_a_figure_that_cannot_be_drawn_is_told_and_the_next_is_drawn(run):
    result = run(f"{PLOT}plt.title('$\\\\nonsense{{$')\nplt.show()\nplt.plot([1])\nplt.title('good')\nNone")

    assert "ParseException" in result.stderr or "ValueError" in result.stderr
    assert titles(result)[-1:] == ["good"]


def test_an_interrupt_while_figures_are_drawn_is_the_cells(interrupted):
    result = interrupted(
        f"{PLOT}from matplotlib.artist import Artist\n"
        "class Endless(Artist):\n"
        "    def draw(self, renderer):\n"
        "        open('begun', 'w').close()\n"
        "        while True: pass\n"
        "figure, axes = plt.subplots()\n"
        "axes.add_artist(Endless())\n"
        "None"
    )

    assert result.error.name == "KeyboardInterrupt"


def test_figures_of_threads_and_subplots_come_out_whole(run):
    result = run(
        f"{PLOT}figure, axes = plt.subplots(2, 2, figsize=(4, 3))\nfor ax in axes.flat: ax.plot([1, 2])\nplt.tight_layout()\nplt.show()"
    )

    assert len(images(result)) == 1


def test_a_program_that_imports_matplotlib_itself_shows_its_figures(run_script):
    result = run_script(f"{PLOT}plt.plot([1])\nplt.title('program')")

    assert titles(result) == ["program"]
