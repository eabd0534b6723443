"""Cells as people and models write them for a notebook."""

from __future__ import annotations

import pytest

from bichat.domain import Status

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]


def texts(result):
    return [shown.text for shown in result.results]


def test_the_last_expression_is_shown(run):
    result = run("x = 20\nx + 1\nx * 2 + 2")

    assert texts(result) == ["42"]


def test_a_semicolon_hides_the_last_expression(run):
    assert texts(run("'a;b'")) == ["'a;b'"]
    assert texts(run("42;")) == []
    assert texts(run("42;  # hidden")) == []


def test_earlier_results_and_inputs_can_be_used(run):
    run("40 + 2")

    assert texts(run("_ + Out[1], In[1]")) == ["(84, '40 + 2')"]


def test_await_works_at_the_top(run):
    assert texts(run("import asyncio\nawait asyncio.sleep(0, 'slept')")) == ["'slept'"]


def test_asyncio_run_works_in_a_cell(run):
    assert texts(run("import asyncio\nasyncio.run(asyncio.sleep(0, 1))")) == ["1"]


def test_an_event_loop_can_be_asked_for(run):
    run("import asyncio\nasyncio.run(asyncio.sleep(0))")

    assert texts(run("asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 2))")) == ["2"]


def test_a_task_that_was_left_goes_on_in_the_next_cell_that_waits(run):
    run(
        "import asyncio\n"
        "async def later():\n    await asyncio.sleep(0)\n    return 'done'\n"
        "task = asyncio.get_event_loop().create_task(later())"
    )

    assert texts(run("await task")) == ["'done'"]


def test_indented_code_runs(run):
    assert run("    if True:\n        print('indented')\n    print('all')").stdout == "indented\nall\n"


def test_a_line_of_shell_prints_where_python_prints(run):
    result = run("print('a', end=' ')\n!echo b; echo c >&2\nprint('d')")

    assert result.stdout == "a b\nd\n"
    assert result.stderr == "c\n"
    assert texts(run("_exit_code")) == ["0"]


def test_variables_stand_in_lines_of_shell(run):
    result = run("who = 'you'\ndef f(greeting):\n    !echo {greeting} $who $$HOME\nf('hi')")

    assert result.stdout == "hi you /tmp\n"


def test_what_a_line_of_shell_prints_can_be_kept(run):
    assert texts(run("lines = !printf 'a\\nb'\nlines")) == ["['a', 'b']"]


def test_a_cell_of_bash_runs_and_its_failure_is_the_cells(run):
    result = run("%%bash\necho out\necho err >&2\nexit 3")

    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert result.error.name == "CalledProcessError"
    assert "run_cell_magic" in result.error.traceback
    assert "site-packages" not in result.error.traceback


def test_common_magics_work(run):
    assert run("%matplotlib inline").ok
    assert run("%%time\nx = 1").stdout.startswith("CPU times")
    assert "loop" in run("%timeit -n1 -r1 pass").stdout
    assert run("%cd /tmp\n%pwd").results[0].text == "'/tmp'"
    assert run("%who_ls").ok


def test_an_unknown_magic_says_so_without_a_traceback(run):
    error = run("%nonsense").error

    assert (error.name, error.message) == ("UsageError", "Line magic function `%nonsense` not found.")
    assert "File" not in error.traceback


def test_help_is_shown_and_not_paged(run):
    assert "Return the absolute value" in texts(run("abs?"))[0]


def test_a_file_that_is_run_has_its_arguments_and_its_error(run):
    run("%%writefile tool.py\nimport sys\nprint(sys.argv, __name__)\nif len(sys.argv) > 1: 1 / 0\nsys.exit(0)")

    assert run("%run tool.py\nprint('after')").stdout == "['tool.py'] __main__\nafter\n"
    failed = run("%run tool.py now")
    assert failed.error.name == "ZeroDivisionError"
    assert 'File "/mnt/data/tool.py", line 3' in failed.error.traceback


def test_a_module_beside_the_data_can_be_imported(run):
    run("%%writefile helper.py\ndef double(x): return 2 * x")

    assert texts(run("import helper\nhelper.double(21)")) == ["42"]


@pytest.mark.parametrize("code", ["exit", "exit()", "quit()", "import sys; sys.exit()", "import sys; sys.exit(0)"])
def test_leaving_without_a_code_ends_the_cell_and_not_the_session(run, code):
    result = run(f"print('before')\n{code}\nprint('after')" if code != "exit" else code)

    assert result.status is Status.COMPLETED
    assert "after" not in result.stdout
    assert run("print('here')").stdout == "here\n"


@pytest.mark.parametrize("code, message", [("exit(3)", "3"), ("import sys; sys.exit('bye')", "bye")])
def test_leaving_with_a_code_is_an_error_of_the_cell(run, code, message):
    error = run(code).error

    assert (error.name, error.message) == ("SystemExit", message)
    assert "bichat" not in error.traceback
    assert run("print('here')").stdout == "here\n"


@pytest.mark.parametrize("code", ["input('name? ')", "import getpass; getpass.getpass()", "breakpoint()\n1"])
def test_asking_at_the_keyboard_says_that_nobody_answers(run, code):
    error = run(code).error

    assert error.name == "StdinNotImplementedError"
    assert "without a keyboard" in error.message


@pytest.mark.parametrize("code", ["%pip install -q pandas", "!pip install pandas>=2", "!python -m pip install pandas"])
def test_installing_what_is_there_says_so_and_goes_on(run, code):
    result = run(f"{code}\nprint('on')")

    assert result.stdout.startswith("pandas is installed already: version ")
    assert result.stdout.endswith("\non\n")


@pytest.mark.parametrize(
    "code", ["%pip install nowhere", "%conda install -y nowhere", "!pip install nowhere", "%uv pip install x"]
)
def test_installing_says_how_packages_get_in(run, code):
    result = run(code)

    assert result.ok
    assert "bichat env build" in result.stdout


def test_a_traceback_shows_the_users_lines_under_the_cells_name(run):
    run("def f(x):\n    return 1 / x")
    error = run("\n\nf(0)").error

    assert error.traceback == (
        "Traceback (most recent call last):\n"
        '  File "<cell 2>", line 3, in <module>\n'
        "    f(0)\n"
        '  File "<cell 1>", line 2, in f\n'
        "    return 1 / x\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_a_syntax_error_points_at_its_place(run):
    error = run("x = 1\ny = = 2").error

    assert error.traceback == ('  File "<cell 1>", line 2\n    y = = 2\n        ^\nSyntaxError: invalid syntax\n')


def test_a_cell_that_cannot_be_read_is_its_own_error_alone(run):
    result = run("if True:\n    x = 1\n  y = 2")

    assert result.error.name == "IndentationError"
    assert result.stderr == ""


def test_an_error_of_a_cell_within_a_cell_is_printed(run):
    result = run("get_ipython().run_cell('1 / 0')\nprint('on')")

    assert result.ok
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_the_source_of_what_a_cell_defines_can_be_read(run):
    run("def f():\n    return 'here'")

    assert run("import inspect\nprint(inspect.getsource(f))").stdout == "def f():\n    return 'here'\n\n"


def test_main_is_one_module_that_lives_on(run):
    run("import sys\nhere = sys.modules['__main__']")

    assert run("print(__name__, here is sys.modules['__main__'], here.sys is sys)").stdout == "__main__ True True\n"


def test_a_warning_is_shown_as_python_shows_it(run):
    result = run("import warnings\nwarnings.warn('old ways', DeprecationWarning)")

    assert result.stderr.startswith("<cell 1>:2: DeprecationWarning: old ways\n")


def test_wide_tables_are_printed_as_in_a_notebook(run):
    result = run("import pandas\nprint(pandas.DataFrame([range(15)], columns=[f'column_{n}' for n in range(15)]))")

    assert all(f"column_{number}" in result.stdout for number in range(15))


def test_a_program_shows_what_a_cell_shows_and_ends_as_a_program(run_script):
    result = run_script(
        "import atexit, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\n"
        "'the value'"
    )

    assert result.stdout == "thread\nat exit\n"
    assert ["image/png" in shown.data for shown in result.results] == [False, True]
    assert result.results[0].text == "'the value'"
    assert [artifact.name for artifact in result.artifacts] == ["figure-1.png"]
