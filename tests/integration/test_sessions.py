"""Sessions: variables that live on, cells one after another, output, interrupts and timeouts."""

from __future__ import annotations

import gc
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from textwrap import indent
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bichat import CodeInterpreter, Completed, FileChanged, LimitError, Status, Stdout, UserInputError
from bichat.errors import SessionEndedError
from bichat.relay import MAX_WAITING
from bichat.session import MAX_CODE_BYTES

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]

WAIT = "import time\nprint('started', flush=True)\ntime.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT

#: Of the guest: waits for a file, and reads it.
READ_WHEN_THERE = """
import os, time
def read(name):
    while not os.path.exists(name):
        time.sleep(0.001)
    return open(name).read()
"""


# -------------------------------------------------------------------------------------------------------- what lives on


async def test_variables_functions_and_imports_live_on(session, answer):
    await session.run("import math\nx = 41\ndef area(r): return math.pi * r ** 2")

    assert await answer(session, "x + 1, round(area(1), 2)") == "42 3.14"


async def test_an_error_ends_the_cell_and_not_the_session(session, answer):
    failed = await session.run("y = 1\n1 / 0")

    assert (failed.status, failed.session_alive) == (Status.ERROR, True)
    assert await answer(session, "y") == "1"


async def test_tracebacks_name_the_cell_and_show_its_line_also_in_functions_of_earlier_cells(session):
    await session.run("def divide(a, b):\n    return a / b")

    result = await session.run("divide(1, 0)")

    assert result.error is not None
    assert 'File "<cell 2>", line 1, in <module>\n    divide(1, 0)\n' in result.error.traceback
    assert 'File "<cell 1>", line 2, in divide\n    return a / b\n' in result.error.traceback
    assert session.execution_count == 2


async def test_a_cell_may_be_given_a_name(session):
    result = await session.run("1 / 0", name="load.py")

    assert result.error is not None
    assert 'File "load.py", line 1' in result.error.traceback


async def test_sys_exit_ends_the_cell_and_an_exit_of_the_process_the_session(session, answer, ended_error):
    stopped = await session.run("kept = 1\nimport sys\nsys.exit(3)\nkept = 2")
    assert (stopped.session_alive, await answer(session, "kept")) == (True, "1")

    gone = await session.run("import os\nprint('last', flush=True)\nos._exit(0)")

    assert (gone.stdout, gone.session_alive) == ("last\n", False)
    assert (await ended_error(session)).reason == "exited"


async def test_two_sessions_share_neither_variables_nor_files_nor_environment_nor_processes(interpreter, answer):
    async with interpreter.session() as one, interpreter.session() as two:
        await one.run(
            "import os, subprocess\nx = 1\nos.environ['MINE'] = '1'\n"
            "for name in ('/mnt/data/a', '/tmp/a', '/dev/shm/a'): open(name, 'w').close()\n"
            "child = subprocess.Popen(['sleep', '60'])"
        )
        seen = (
            "'x' in globals(), os.environ.get('MINE'), os.listdir('/mnt/data'), os.path.exists('/tmp/a'), "
            "os.listdir('/dev/shm'), len([pid for pid in os.listdir('/proc') if pid.isdigit()])"
        )
        await two.run("import os")

        assert await answer(two, f"({seen})") == "(False, None, [], False, [], 1)"
        assert await answer(one, "x, child.poll()") == "1 None"


async def test_what_a_cell_does_to_streams_and_builtins_does_not_reach_the_next(session, answer):
    for vandal in (
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import sys; sys.stdout = sys.stderr = None",
        "import builtins; del builtins.print, builtins.len",
        "import os; os.close(0)",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))",
        "import sys; sys.setrecursionlimit(50)",
        "import os; os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None",
    ):
        assert (await session.run(vandal)).session_alive
        assert await answer(session, "len('four')") == "4"


async def test_what_is_no_code_is_refused_and_the_session_goes_on(session, answer):
    for code in (b"print(1)", None, "", " \n"):
        with pytest.raises(UserInputError):
            await session.run(code)
    with pytest.raises(LimitError):
        await session.run("#" * (MAX_CODE_BYTES + 1))

    assert session.execution_count == 0
    assert await answer(session, "1") == "1"


async def test_the_longest_code_that_is_allowed_runs(session):
    head = "print('x')\n#"

    result = await session.run(head + "\N{EURO SIGN}" * ((MAX_CODE_BYTES - len(head)) // 3))

    assert result.stdout == "x\n"


async def test_code_of_halves_of_characters_is_an_error_of_the_code(session, answer):
    result = await session.run("x = '\ud800'")

    assert result.session_alive
    assert await answer(session, "1") == "1"


# ---------------------------------------------------------------------------------------------------- one after another


async def test_cells_that_are_sent_at_once_run_one_at_a_time_in_the_order_of_the_calls(session, answer):
    await session.run("seen, inside = [], 0")
    cell = "inside += 1; assert inside == 1; import time; time.sleep(0.002); seen.append({}); inside -= 1"

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(session.run, cell.format(number))

    assert await answer(session, "seen == list(range(20))") == "True"


async def test_a_cell_that_was_cancelled_while_it_waited_never_ran_and_keeps_nobody_waiting(session, begun, answer):
    await session.run("ran = []")
    first = READ_WHEN_THERE + "print('x', flush=True)\nread('go')\nran.append(1)"
    async with begun(session, first) as outcome, anyio.create_task_group() as patient:
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(session.run, "ran.append(2)")
            await anyio.wait_all_tasks_blocked()
            patient.start_soon(session.run, "ran.append(3)")
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        await session.put("go", b"")

    assert outcome["result"].ok
    assert await answer(session, "ran") == "[1, 3]"


# ------------------------------------------------------------------------------------------------ environment variables


async def test_environment_variables_are_the_sessions_own_and_never_the_servers(interpreter, monkeypatch, answer):
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "s")
    all_of_them = "sorted(__import__('os').environ.items())"
    async with interpreter.session() as plain, interpreter.session(variables={"MINE": "\xe9=\n", "PATH": "/x"}) as own:
        before = eval(await answer(plain, all_of_them))
        mine = dict(eval(await answer(own, all_of_them)))

        assert mine == dict(before) | {"MINE": "\xe9=\n", "PATH": "/x"}
        assert (
            await answer(own, "__import__('subprocess').check_output(['/usr/bin/env']).decode().count('MINE')") == "1"
        )
        assert "SECRET_OF_THE_SERVER" not in mine
        assert eval(await answer(plain, all_of_them)) == before


async def test_a_time_zone_among_the_variables_holds(interpreter, answer):
    async with interpreter.session(variables={"TZ": "UTC-3"}) as session:
        assert await answer(session, "__import__('time').strftime('%z', __import__('time').localtime(0))") == "+0300"


async def test_variables_of_the_environment_outlive_a_restart(interpreter, answer):
    async with interpreter.session(variables={"MINE": "1"}) as session:
        await session.run("import os; os.environ['OTHER'] = '2'")
        await session.restart()

        assert (
            await answer(session, "[__import__('os').environ.get(name) for name in ('MINE', 'OTHER')]") == "['1', None]"
        )


# --------------------------------------------------------------------------------------------------------------- output


async def test_a_stream_gives_output_as_it_comes_then_files_and_the_result_last(session):
    seen: list[Any] = []
    code = READ_WHEN_THERE + "print('one', flush=True)\nread('go')\nprint('two')\nopen('a', 'w')\nopen('b', 'w')"

    async with aclosing(session.stream(code)) as events:
        async for event in events:
            seen.append(event)
            if event == Stdout("one\n"):
                await session.put("go", b"")

    assert [type(event) for event in seen] == [Stdout, Stdout, FileChanged, FileChanged, Completed]
    assert [event.artifact.name for event in seen if isinstance(event, FileChanged)] == ["a", "b"]
    assert seen[-1].result.stdout == "one\ntwo\n"


async def test_output_above_the_limit_is_cut_in_the_result_and_whole_beside_it(interpreter, limits):
    async with interpreter.session(limits=limits(output_bytes=1000)) as session:
        whole = "".join(f"line {number}\n" for number in range(10_000))

        result = await session.run(
            "import sys\nfor number in range(10_000): print('line', number)\nprint('e' * 1001, file=sys.stderr)"
        )
        next_one = await session.run("print('short')")

    assert result.stdout_omitted_bytes > 80_000
    assert [(one.name, one.source, one.mime_type) for one in result.artifacts] == [
        ("stderr.txt", "output", "text/plain"),
        ("stdout.txt", "output", "text/plain"),
    ]
    assert result.artifact("stdout.txt").read_bytes().decode() == whole
    assert result.artifact("stdout.txt").size_bytes == len(whole)
    assert result.artifact("stderr.txt").read_bytes() == b"e" * 1001 + b"\n"
    assert next_one.artifacts == ()


async def test_the_whole_of_cut_output_ends_at_the_limit_for_one_file(interpreter, limits):
    async with interpreter.session(limits=limits(output_bytes=100, artifact_bytes=5000)) as session:
        result = await session.run("print('x' * 100_000)")

    assert result.artifact("stdout.txt").read_bytes() == b"x" * 5000


async def test_cut_output_is_kept_beside_a_file_of_the_users_that_has_its_name(interpreter, limits):
    async with interpreter.session(limits=limits(output_bytes=10), files={"stdout.txt": b"mine"}) as session:
        result = await session.run("print('x' * 100)")

        (kept,) = result.artifacts
        assert (kept.source, kept.read_bytes()) == ("output", b"x" * 100 + b"\n")
        assert kept.name != "stdout.txt"
        assert (await session.open("stdout.txt")).read_bytes() == b"mine"


# ----------------------------------------------------------------------------------------------------------- interrupts


async def test_an_interrupt_raises_in_the_code_and_keeps_the_session(session, begun, answer):
    await session.run("x = 1")
    async with begun(
        session, "try:\n    x = 2\n    " + WAIT.replace("\n", "\n    ") + "\nfinally:\n    y = 3"
    ) as outcome:
        assert await session.interrupt()

    result = outcome["result"]
    assert (result.status, result.session_alive) == (Status.CANCELLED, True)
    assert result.error.name == "KeyboardInterrupt"
    assert 'File "<cell 2>"' in result.error.traceback
    assert await answer(session, "x, y") == "2 3"


async def test_an_interrupt_stops_the_program_that_a_cell_waits_for(session, begun, answer):
    async with begun(session, "import subprocess\nprint('x', flush=True)\nsubprocess.run(['sleep', '60'])") as outcome:
        await session.interrupt()

    assert outcome["result"].status is Status.CANCELLED
    assert await answer(session, "1") == "1"


async def test_an_interrupt_in_the_middle_of_printing_prints_nothing_twice(session, begun):
    for _ in range(20):
        async with begun(session, "n = 0\nwhile True:\n    print(n)\n    n += 1") as outcome:
            await session.interrupt()

        lines = outcome["result"].stdout.splitlines()
        assert lines == [str(number) for number in range(len(lines))]
        assert outcome["result"].status is Status.CANCELLED


async def test_an_interrupt_between_two_cells_hits_nothing(session, answer):
    assert not await session.interrupt()

    assert await answer(session, "1") == "1"


async def test_a_late_interrupt_never_hits_the_next_cell(session, answer):
    await session.run("count = 0")
    for pauses in range(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, "pass")
            for _ in range(pauses % 12):
                await checkpoint()
            with suppress(SessionEndedError):
                await session.interrupt()

        result = await session.run("for _ in range(500): count += 1")
        assert result.ok, result.error

    assert await answer(session, "count") == "30000"


async def test_code_that_catches_the_interrupt_and_ends_well_has_completed(session, begun):
    code = f"try:\n{indent(WAIT, '    ')}\nexcept KeyboardInterrupt:\n    print('caught')"
    async with begun(session, code) as outcome:
        await session.interrupt()

    assert (outcome["result"].status, outcome["result"].stdout) == (Status.COMPLETED, "started\ncaught\n")


# ------------------------------------------------------------------------------------------------------------- timeouts


async def test_at_its_timeout_a_cell_is_interrupted_and_the_session_lives(session, answer):
    await session.run("x = 1")

    result = await session.run("x = 2\n" + WAIT, timeout_s=0.2)

    assert (result.status, result.session_alive, result.stdout) == (Status.TIMEOUT, True, "started\n")
    assert result.error is not None
    assert (result.error.name, "0.2 s" in result.error.message) == ("Timeout", True)
    assert "KeyboardInterrupt" in result.error.traceback
    assert 'File "<cell 2>", line 4' in result.error.traceback
    assert await answer(session, "x") == "2"


@pytest.mark.parametrize(
    "deaf",
    [
        "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "sum(range(10**12))",
        "while True:\n    try: time.sleep(60)\n    except BaseException: pass",
    ],
    ids=["ignored", "blocked", "stopped", "in C", "caught"],
)
async def test_code_that_does_not_heed_the_interrupt_is_killed_after_its_grace_and_the_result_says_so(
    interpreter, limits, deaf, ended_error
):
    async with interpreter.session(limits=limits(grace_s=0.2)) as session:
        before = datetime.now(UTC)
        code = f"import os, signal, time\nopen('kept.txt', 'w').write('x')\nprint('started', flush=True)\n{deaf}"
        result = await session.run(code, timeout_s=0.2)

        assert (result.status, result.session_alive, result.stdout) == (Status.TIMEOUT, False, "started\n")
        assert [artifact.name for artifact in result.artifacts] == ["kept.txt"]
        error = await ended_error(session)
        assert (error.reason, error.code) == ("timeout", "session_ended")
        assert before - timedelta(seconds=1) < error.ended_at < datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("timeout_s", [0, -1, 31, float("inf"), float("nan")])
async def test_a_timeout_beyond_the_sessions_limit_is_refused(session, timeout_s, answer):
    with pytest.raises(LimitError):
        await session.run("pass", timeout_s=timeout_s)

    assert await answer(session, "1") == "1"


async def test_code_ends_in_its_own_time_however_slow_its_reader_is(session, interpreter, until, answer):
    async with aclosing(session.stream("x = 1\nprint('x', flush=True)", timeout_s=0.2)) as events:
        assert await anext(events) == Stdout("x\n")
        await until(lambda: session.idle_since is not None)
        assert interpreter._admission.executions == 0
        assert await answer(session, "x") == "1"
        [completed] = [event async for event in events]

    assert completed.result.status is Status.COMPLETED


async def test_code_is_interrupted_at_its_timeout_however_slow_its_reader_is(session, until, answer):
    code = "import time\nprint('x', flush=True)\ntry:\n    time.sleep(60)\nfinally:\n    x = 'interrupted'"
    async with aclosing(session.stream(code, timeout_s=0.2)) as events:
        await anext(events)
        await until(lambda: session.idle_since is not None)
        completed = [event async for event in events][-1]

    assert (completed.result.status, completed.result.session_alive) == (Status.TIMEOUT, True)
    assert await answer(session, "x") == "interrupted"


async def test_output_that_nobody_reads_waits_with_the_code_and_is_all_there_in_the_end(session, until):
    count = 3 * MAX_WAITING
    async with aclosing(session.stream(f"print('x' * {count})\nprint('y' * {count})\nprint('end')")) as events:
        text = [(await anext(events)).text]
        await until(lambda: session._sandbox._connection._held)
        text += [event.text async for event in events if isinstance(event, Stdout)]

    assert "".join(text) == "x" * count + "\n" + "y" * count + "\nend\n"


async def test_code_that_waits_for_its_reader_ends_at_its_timeout(session, answer):
    async with aclosing(session.stream("while True: print('x' * 1000)", timeout_s=0.5)) as events:
        await anext(events)
        assert await answer(session, "'next'") == "next"
        completed = [event async for event in events][-1]

    assert completed.result.status is Status.TIMEOUT


async def test_a_stream_that_is_closed_while_the_code_waits_for_its_reader_interrupts_it(session, until, answer):
    async with aclosing(session.stream("while True: print('x' * 1000)")) as events:
        await anext(events)
        await until(lambda: session._sandbox._connection._held)

    assert await answer(session, "'next'") == "next"


async def test_a_session_is_free_once_its_stream_says_that_the_code_has_ended(session):
    async for event in session.stream("x = 1"):
        if isinstance(event, Completed):
            assert (await session.run("print(x + 1)")).stdout == "2\n"
            await session.restart()

    assert (await session.run("x")).status is Status.ERROR


async def test_another_cell_may_be_run_while_the_events_of_one_are_read(session):
    read = []
    async for event in session.stream("print('first', flush=True)\nprint('last')"):
        if isinstance(event, Stdout):
            read.append(event.text)
            assert (await session.run("print('between')")).stdout == "between\n"

    assert "".join(read) == "first\nlast\n"


async def test_a_restart_in_the_midst_of_a_stream_ends_it(session):
    async for event in session.stream("print('x', flush=True)\nimport time; time.sleep(60)"):
        if isinstance(event, Stdout):
            await session.restart()
        elif isinstance(event, Completed):
            assert event.result.status is Status.CANCELLED

    assert (await session.run("1")).ok


async def test_an_error_comes_to_the_reader_of_a_stream(session):
    await session.close()

    with pytest.raises(SessionEndedError):
        async for _ in session.stream("1"):
            pass


async def test_the_life_of_a_session_ends_though_a_stream_of_it_is_not_read_to_its_end(interpreter, until):
    limits = replace(interpreter._settings.limits, life_s=0.6)
    async with interpreter.session(limits=limits) as session:
        async with aclosing(session.stream("print('x', flush=True)")) as events:
            await anext(events)
            await until(lambda: not session.alive)
        with pytest.raises(SessionEndedError, match="sessions live"):
            await session.run("1")


async def test_leaving_the_interpreter_ends_a_stream_that_is_being_read(bare_settings):
    async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
        session = await interpreter.open_session()
        events = session.stream("print('x', flush=True)\nimport time; time.sleep(60)")
        await anext(events)

    with pytest.raises(SessionEndedError):
        await anext(events)


# ----------------------------------------------------------------------------------------------------------- cancelling


async def test_cancelling_the_caller_interrupts_the_code_and_the_session_lives(session, until, answer):
    code = "x = 1\ntry:\n    print('x', flush=True)\n    import time; time.sleep(60)\nexcept BaseException as e:\n    x = e"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run, code)
        await until(lambda: session._is_running)
        tasks.cancel_scope.cancel()

    await until(lambda: not session._sandbox.is_unsettled)
    assert await answer(session, "repr(x)") == "KeyboardInterrupt()"


@pytest.mark.parametrize("pauses", range(12))
async def test_cancelling_the_caller_as_the_code_begins_interrupts_it_too(session, pauses, answer):
    await session.run("x = 1")
    for _ in range(4):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, "import time; time.sleep(60)")
            for _ in range(pauses):
                await checkpoint()
            tasks.cancel_scope.cancel()

        assert await answer(session, "x") == "1"


async def test_code_that_ignores_its_cancelled_caller_is_killed_and_the_next_one_is_told(
    interpreter, limits, ended_error
):
    async with interpreter.session(limits=limits(grace_s=0.2)) as session:
        async with aclosing(session.stream(DEAF)) as events:
            async for _ in events:
                break

        error = await ended_error(session)

    assert error.reason == "cancelled"


async def test_cancelling_the_caller_while_files_are_captured_loses_neither_session_nor_files(session, until):
    await session.run("x = 0")
    turn = session._sandbox._folder._turn
    async with anyio.create_task_group() as tasks, turn:
        tasks.start_soon(session.run, "x = 1; open('a', 'w').write('1')")
        await until(lambda: turn.statistics().tasks_waiting == 1)
        tasks.cancel_scope.cancel()

    result = await session.run("print(x)")

    assert result.stdout == "1\n"
    assert [artifact.name for artifact in result.artifacts] == ["a"]


async def test_leaving_a_stream_interrupts_the_code_also_without_closing_it(session, answer):
    async for _ in session.stream("x = 1\n" + WAIT):
        break
    gc.collect()

    with anyio.fail_after(20):
        assert await answer(session, "x") == "1"


# ------------------------------------------------------------------------------------------------------------- one-shot


async def test_a_one_shot_run_is_a_session_of_one_cell_that_does_not_survive(interpreter):
    result = await interpreter.run("1 / 0")

    assert (result.status, result.session_alive) == (Status.ERROR, False)
    assert result.error is not None
    assert 'File "main.py", line 1' in result.error.traceback


async def test_a_one_shot_run_is_interrupted_at_its_timeout_with_a_traceback(interpreter):
    result = await interpreter.run("def wait():\n    import time; time.sleep(60)\nwait()", timeout_s=0.3)

    assert result.status is Status.TIMEOUT
    assert result.error is not None
    assert 'File "main.py", line 2, in wait' in result.error.traceback
