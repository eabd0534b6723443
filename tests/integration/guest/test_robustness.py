"""Code that breaks what it runs in: a clear end each time, and wherever possible a next cell."""

from __future__ import annotations

import pytest

from bichat.domain import Status
from bichat.errors import SessionEndedError

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]


@pytest.fixture
def still_runs(run):
    """Whether the next cell runs as if nothing had been."""
    return lambda: "still 1\n" in run("print('still', len([1]))").stdout


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import asyncio\nawait asyncio.sleep(60)",
        "import asyncio\nasyncio.run(asyncio.sleep(60))",
        "!sleep 60",
        "%%bash\ntouch begun\nsleep 60",
        "%%capture\nopen('begun', 'w').close()\nwhile True: pass",
        "get_ipython().run_cell('while True: pass')\nprint('never')",
    ],
)
def test_an_interrupt_ends_the_cell_and_keeps_its_variables(interrupted, run, code):
    run("kept = 42")
    result = interrupted(code if "begun" in code else f"open('begun', 'w').close()\n{code}")

    assert result.error.name == "KeyboardInterrupt"
    assert "never" not in result.stdout
    assert run("kept").results[0].text == "42"


def test_an_interrupt_comes_through_whatever_an_earlier_cell_made_of_it(interrupted, run):
    run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")

    assert interrupted("open('begun', 'w').close()\nwhile True: pass").error.name == "KeyboardInterrupt"


def test_an_interrupt_between_cells_does_nothing(portal, session, run, still_runs):
    run("1")
    portal.call(session.interrupt)

    assert still_runs()


def test_an_alarm_that_goes_off_after_its_cell_is_an_error_of_the_next(run, still_runs):
    first = run(
        "import signal\n"
        "class Alarm(Exception): pass\n"
        "def raise_alarm(*_): raise Alarm\n"
        "signal.signal(signal.SIGALRM, raise_alarm)\n"
        "_ = signal.setitimer(signal.ITIMER_REAL, 0.05)"
    )
    second = run("import time\ntime.sleep(1)")

    assert [result.error.name for result in (first, second) if result.error] == ["Alarm"]
    assert still_runs()


def test_values_are_displayed_whole_while_alarms_go_off(run):
    result = run(
        "import signal\n"
        "class Alarm(Exception): pass\n"
        "def raise_alarm(*_): raise Alarm\n"
        "signal.signal(signal.SIGALRM, raise_alarm)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "shown = 0\n"
        "while shown < 30:\n"
        "    try:\n"
        "        display({'text/html': 'x' * 200_000}, raw=True)\n"
        "    except Alarm: pass\n"
        "    shown += 1\n"
        "_ = signal.setitimer(signal.ITIMER_REAL, 0)"
    )

    assert result.status in (Status.COMPLETED, Status.ERROR)
    assert {len(shown.data["text/html"]) for shown in result.results} <= {200_000}


def test_a_fork_that_comes_to_the_end_of_the_cell_ends_there(run, still_runs):
    result = run(
        "import os\npid = os.fork()\nif pid:\n    print('child left with', os.waitpid(pid, 0)[1] >> 8)\nelse:\n    1 / 0"
    )

    assert result.ok
    assert result.stdout == "child left with 1\n"
    assert "ZeroDivisionError" in result.stderr
    assert still_runs()


def test_a_fork_leaves_with_the_code_that_it_asks_for(run):
    result = run("import os, sys\npid = os.fork()\nif not pid: sys.exit(7)\nprint(os.waitpid(pid, 0)[1] >> 8)")

    assert result.stdout == "7\n"


def test_a_daemon_does_not_hold_the_channel(run, still_runs):
    run("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n    os._exit(0)")

    assert still_runs()


@pytest.mark.parametrize("first", [0, 3])
def test_closed_descriptors_are_a_clear_end(run, first):
    result = run(f"import os\nos.closerange({first}, 4096)")

    assert result.error.name == "ProcessExited"
    assert "closed the connection" in result.error.message
    with pytest.raises(SessionEndedError, match="closed the connection"):
        run("1")


def test_what_takes_the_place_of_the_channel_is_not_written_to(run_script):
    result = run_script(
        "import os\nos.closerange(0, 4096)\nfiles = [open(f'{n}.txt', 'w') for n in range(9)]\nfor file in files: file.write('mine')"
    )

    assert result.status is not Status.COMPLETED
    assert {artifact.read_bytes() for artifact in result.artifacts} <= {b"mine", b""}


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = None",
        "import sys\ndel sys.stdout, sys.stderr",
        "import sys\nsys.stderr.close()",
        "import builtins\nbuiltins.__dict__.clear()",
        "import builtins\ndel builtins.print, builtins.len, builtins.Exception",
        "del __builtins__, get_ipython",
        "import sys\nsys.displayhook = None",
        "import sys\nsys.excepthook = 1 / 1",
        "import os\nos.chdir('/tmp')",
        "import sys\nsys.path.clear()",
        "import threading\nthreading.excepthook = None",
        "get_ipython().events.register('post_execute', lambda: 1 / 0)",
        "get_ipython().display_formatter.format = None",
    ],
)
def test_the_next_cell_runs_after_one_that_broke_its_interpreter(run, still_runs, code):
    run(code)

    assert still_runs()


def test_a_stream_that_was_replaced_stays_so(run):
    run("import io, sys\nsys.stdout = io.StringIO()\nprint('kept')")

    assert run("text = sys.stdout.getvalue()\nsys.stdout = sys.__stdout__\nprint(repr(text))").stdout == "'kept\\n'\n"


@pytest.mark.parametrize(
    "code",
    [
        "type(get_ipython()).run_cell = None",
        "get_ipython().run_cell_async = None",
        "import sys; sys.modules.clear()",
    ],
)
def test_a_broken_interpreter_is_a_clear_error_each_time(run, code):
    run(code)

    for _ in range(2):
        assert "earlier code has broken this interpreter: restart the session" in run("print(1)").error.message


@pytest.mark.parametrize(
    "code",
    [
        "%%bash\nexit 3",
        "%timeit 1/0",
        "%nosuch",
        "raise KeyError('_oh')",
        "x = (",
        "1/0",
        "x = '\ud800'",
        "x = '\0'",
        pytest.param("x = " + "+".join(["1"] * 50_000), id="too deep to be compiled"),
    ],
)
def test_an_error_of_the_cell_is_not_said_to_be_somebody_elses(run, code):
    assert "earlier code" not in run(code).error.message


def test_what_a_thread_prints_after_its_cell_comes_with_the_next(run):
    run(
        "import threading, time\nthread = threading.Thread(target=lambda: (time.sleep(0.05), print('late')))\nthread.start()"
    )

    assert run("thread.join()\nprint('next')").stdout == "late\nnext\n"


def test_much_output_leaves_nothing_behind_in_the_guest(run):
    run("import resource\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nline = 'x' * 999")
    run("for _ in range(20_000): print(line)")

    grown = int(run("print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)").stdout)
    assert grown < 10_000


def test_many_cells_run_one_after_the_other(run):
    for number in range(200):
        assert run(f"{number}").results[0].text == str(number)
