"""Displayed values: forms, order, updates, and what is too much."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from bichat.events import Completed, Displayed, Stderr, Stdout

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]


def forms(result):
    return [sorted(shown.data) for shown in result.results]


def test_objects_are_shown_in_their_own_forms(run):
    result = run(
        """
        class Rich:
            def _repr_html_(self): return "<b>rich</b>"
            def _repr_markdown_(self): return "**rich**"
            def _repr_latex_(self): return "$rich$"
            def _repr_json_(self): return {"a": [1, float("nan")]}
            def _repr_svg_(self): return "<svg/>"
            def __repr__(self): return "rich"
        Rich()
        """
    )

    assert result.results[0].data == {
        "text/plain": "rich",
        "text/html": "<b>rich</b>",
        "text/markdown": "**rich**",
        "text/latex": "$rich$",
        "application/json": {"a": [1, None]},
        "image/svg+xml": "<svg/>",
    }


def test_a_bundle_of_its_own_is_shown(run):
    result = run(
        "class Own:\n"
        "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'application/x-own+json': {'n': 1, (2, 3): {4}}, 'text/plain': 'own'}, {'text/plain': {'k': 1}}\n"
        "Own()"
    )

    assert result.results[0].data == {"application/x-own+json": {"n": 1, "(2, 3)": [4]}, "text/plain": "own"}
    assert result.results[0].metadata == {"text/plain": {"k": 1}}


def test_values_are_shown_in_order_among_what_is_printed(portal, session):
    code = "print('a', end='')\ndisplay(1)\nimport os\nos.system('echo b')\ndisplay(2)\nprint('c')\n3"

    async def order():
        async with aclosing(session.stream(code)) as events:
            return [
                event.text if isinstance(event, (Stdout, Stderr)) else event.result.text
                async for event in events
                if not isinstance(event, Completed)
            ]

    assert portal.call(order) == ["a", "1", "b\n", "2", "c\n", "3"]


def test_a_display_is_updated_in_its_place(run):
    result = run("handle = display('first', display_id=True)\ndisplay('second')\nhandle.update('changed')")

    assert [shown.text for shown in result.results] == ["'changed'", "'second'"]


def test_cleared_output_is_gone(run):
    result = run("from IPython.display import clear_output\ndisplay(1)\nclear_output()\ndisplay(2)")

    assert [shown.text for shown in result.results] == ["2"]


def test_captured_output_is_not_shown_until_it_is(run):
    assert run("%%capture kept\nprint('out')\ndisplay('shown')\n'value'").results == ()
    result = run("kept.show()")

    assert result.stdout == "out\n"
    assert [shown.text for shown in result.results] == ["'shown'", "'value'"]


def test_a_form_that_raises_is_told_and_the_others_are_shown(run):
    result = run(
        "class Half:\n    def __repr__(self): raise ValueError('no words')\n    def _repr_html_(self): return '<i>half</i>'\nHalf()"
    )

    assert result.ok
    assert forms(result) == [["text/html"]]
    assert result.stderr.startswith('Traceback (most recent call last):\n  File "<cell 1>", line 2, in __repr__\n')


def test_a_form_that_hangs_is_interrupted_as_any_code(run, interrupted):
    result = interrupted(
        "class Stuck:\n    def __repr__(self):\n        open('begun', 'w').close()\n        while True: pass\nStuck()"
    )

    assert result.error.name == "KeyboardInterrupt"
    assert run("1").results[0].text == "1"


def test_a_text_without_end_is_cut_and_other_forms_that_are_too_large_are_left_out(run):
    result = run(
        "class Huge:\n"
        "    def __repr__(self): return 'x' * 100_000_000\n"
        "    def _repr_html_(self): return 'y' * 20_000_000\n"
        "    def _repr_markdown_(self): return 'small'\n"
        "Huge()"
    )

    assert forms(result) == [["text/markdown", "text/plain"]]
    assert "characters omitted" in result.results[0].text
    assert result.results[0].text.endswith("[text/html left out: too large to be displayed; save it to a file instead]")


def test_structures_without_end_are_left_out(run):
    result = run("display({'application/json': list(range(600_000)), 'text/plain': 'many'}, raw=True)")

    assert forms(result) == [["text/plain"]]


def test_a_value_may_hold_anything_that_text_can(run):
    result = run("display({'text/plain': 'a\\ud800\\x00é売'}, raw=True)\n'\\ud800'")

    assert result.ok
    assert len(result.results) == 2


def test_images_of_pillow_are_shown_and_kept(run):
    result = run("from PIL import Image\nImage.new('RGB', (5, 4), 'red').show()\nImage.new('L', (3, 3))")

    assert [shown.artifact for shown in result.results] == ["figure-1.png", "figure-2.png"]
    assert result.artifact("figure-1.png").read_bytes() == result.results[0].data["image/png"]


def test_a_program_started_by_code_prints_what_it_cannot_display(run):
    result = run(
        "import multiprocessing\n"
        "def work(n):\n    display(n)\n    return n\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(work, [7]))"
    )

    assert result.stdout == "7\n[7]\n"
    assert result.results == ()


def test_values_displayed_by_threads_arrive_whole(run):
    result = run(
        "import threading\n"
        "threads = [threading.Thread(target=lambda: [display({'text/html': 'x' * 50_000}, raw=True) for _ in range(5)]) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    )

    assert result.ok
    assert [len(shown.data["text/html"]) for shown in result.results] == [50_000] * 40


def test_the_event_of_a_value_comes_when_it_is_displayed(portal, session):
    async def first():
        async with aclosing(session.stream("display('now')\nimport time\ntime.sleep(60)")) as events:
            async for event in events:
                if isinstance(event, Displayed):
                    return event.result.text
        return None

    assert portal.call(first) == "'now'"
