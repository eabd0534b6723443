"""How sessions end, by their owner, their time or their own code, and how they are restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bichat import CodeInterpreter, Status
from bichat.errors import SandboxUnavailableError, SessionEndedError, SessionLostError
from bichat.session import Session
from bichat.sizes import MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]

WAIT = "import time\nprint('started', flush=True)\ntime.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAIT


# ----------------------------------------------------------------------------------------------------------------- ends


async def test_an_ended_session_says_when_and_why_whatever_is_asked_of_it(interpreter, family):
    before = datetime.now(UTC)
    session = await interpreter.open_session()
    pid = session._sandbox.pid
    await session.close()
    await session.close()

    for call in (
        lambda: session.run("pass"),
        lambda: anext(session.stream("pass")),
        session.interrupt,
        lambda: session.put("a", b""),
        session.files,
        lambda: session.open("a"),
        session.restart,
    ):
        with pytest.raises(SessionEndedError) as caught:
            await call()
        assert caught.value.reason == "closed"
        assert before <= caught.value.ended_at <= datetime.now(UTC)
        assert f"{caught.value.ended_at:%H:%M:%S}" in str(caught.value)
        assert caught.value.to_dict()["ended_at"] == caught.value.ended_at.isoformat()
    assert not session.alive
    assert family(pid) == []


@pytest.mark.parametrize("code", [WAIT, DEAF], ids=["heeds", "ignores"])
async def test_closing_a_session_while_its_code_runs_ends_it_for_whoever_waits(interpreter, code, begun, ended_error):
    session = await interpreter.open_session()
    queued: dict[str, Any] = {}

    async def wait() -> None:
        queued["error"] = await ended_error(session)

    async with begun(session, code) as outcome, anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await session.close()

    assert (outcome["error"].reason, queued["error"].reason) == ("closed", "closed")


async def test_closing_a_session_waits_until_its_processes_are_gone_also_when_it_has_just_ended(interpreter, family):
    session = await interpreter.open_session()
    pid = session._sandbox.pid
    session.end("evicted")
    await checkpoint()

    await session.close()

    assert family(pid) == []


async def test_leaving_the_interpreter_ends_sessions_and_whoever_waits_for_them(bare_settings, until):
    errors: list[SessionEndedError] = []

    async def run(session: Session, code: str) -> None:
        try:
            await session.run(code)
        except SessionEndedError as error:
            errors.append(error)

    with anyio.fail_after(30):
        async with (
            anyio.create_task_group() as tasks,
            CodeInterpreter(settings=bare_settings(), preload=False) as interpreter,
        ):
            sessions = [await interpreter.open_session() for _ in range(3)]
            for session in sessions:
                tasks.start_soon(run, session, WAIT)
                tasks.start_soon(run, session, "pass")
            await until(lambda: all(session.execution_count for session in sessions))

    assert [error.reason for error in errors] == ["closed"] * 6


async def test_an_interpreter_that_is_left_while_sessions_open_leaves_nothing(bare_settings, until, family):
    opened: list[Session] = []
    refused: list[Exception] = []

    async def open_one(interpreter: CodeInterpreter) -> None:
        try:
            opened.append(await interpreter.open_session())
        except (RuntimeError, SandboxUnavailableError) as error:
            refused.append(error)

    before = family(os.getpid())
    for pauses, pause_s in ((0, 0), (4, 0), (6, 0), (8, 0), (10, 0), (12, 0), (16, 0), (9, 0.01), (9, 0.06), (9, 0.12)):
        with anyio.fail_after(30):
            async with (
                anyio.create_task_group() as tasks,
                CodeInterpreter(settings=bare_settings(), preload=False) as interpreter,
            ):
                tasks.start_soon(open_one, interpreter)
                for _ in range(pauses):
                    await checkpoint()
                await anyio.sleep(pause_s)

    assert len(opened) + len(refused) == 10
    assert not any(session.alive for session in opened)
    await until(lambda: set(family(os.getpid())) <= set(before))


async def test_closing_while_files_come_and_go_never_touches_another_sessions_files(interpreter, answer):
    async def use(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
        with suppress(SessionEndedError):
            await call(*arguments)

    for _ in range(10):
        session = await interpreter.open_session(files={"a": bytes(MIB)})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, session.put, "b", bytes(8 * MIB))
            tasks.start_soon(use, session.files)
            tasks.start_soon(use, session.open, "a")
            tasks.start_soon(use, session.run, "open('c', 'w')")
            await checkpoint()
            tasks.start_soon(session.close)
            async with interpreter.session(files={"b": b"other's"}) as other:
                assert await answer(other, "__import__('os').listdir(), open('b').read()") == "['b'] other's"


async def test_nobodys_use_for_the_idle_time_ends_a_session(interpreter, limits, until, answer, ended_error, family):
    async with interpreter.session(limits=limits(idle_s=0.3)) as session:
        pid = session._sandbox.pid
        await session.run("x = 1\nimport time; time.sleep(0.6)")
        assert await answer(session, "x") == "1"

        await until(lambda: not session.alive)

        error = await ended_error(session)
        assert error.reason == "idle"
        assert "0.3 s" in str(error)
        await until(lambda: family(pid) == [])


async def test_files_and_waiting_cells_are_use_too(interpreter, limits):
    async with interpreter.session(limits=limits(idle_s=0.3)) as session:
        with anyio.move_on_after(1):
            while True:
                await session.files()
                await anyio.sleep(0.05)

        assert session.alive


@pytest.mark.parametrize("piece", [100_000, 3_000_000, 10_000_000])
async def test_code_that_met_a_memory_error_has_room_to_go_on_in(interpreter, limits, piece):
    async with interpreter.session(limits=limits(memory_bytes=128 * MIB)) as session:
        result = await session.run(f"x = []\nwhile True: x.append(bytearray({piece}))")
        assert (result.status, result.session_alive) == (Status.OUT_OF_MEMORY, True)

        assert (await session.run("print(len(x) > 0)")).stdout == "True\n"
        assert (await session.run("del x")).ok
        assert (await session.run("x = bytearray(50_000_000); print(len(x))")).stdout == "50000000\n"


async def test_at_the_end_of_its_life_a_session_ends_in_use_or_not(interpreter, limits, until, ended_error):
    async with interpreter.session(limits=limits(life_s=0.6)) as session:
        result = await session.run(WAIT)

        assert (result.status, result.session_alive) == (Status.TIMEOUT, False)
        assert result.error is not None
        assert result.error.message == "the session's life of 0.6 s ended while the code ran"
        error = await ended_error(session)
        assert (error.reason, "0.6 s" in str(error)) == ("life", True)

    async with interpreter.session(limits=limits(life_s=0.2)) as session:
        await until(lambda: not session.alive)
        assert (await ended_error(session)).reason == "life"


@pytest.mark.parametrize(
    "code, status, reason",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Status.KILLED, "killed"),
        ("import os; os._exit(5)", Status.ERROR, "exited"),
        ("import os; os.execv('/bin/true', ['true'])", Status.COMPLETED, "exited"),
        ("x = [bytearray(os.urandom(1 << 20) * 8) for _ in range(100)]", Status.OUT_OF_MEMORY, "out_of_memory"),
        ("while True: print('x' * 10_000)", Status.OUTPUT_LIMIT, "output_limit"),
    ],
    ids=["signal", "exit", "exec", "memory", "output"],
)
async def test_code_that_ends_its_session_is_told_so(session, code, status, reason, ended_error):
    result = await session.run(
        "import os, resource; resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)) if 0 else 0\n" + code
    )

    if status is Status.OUT_OF_MEMORY and result.session_alive:
        return  # one process alone meets a MemoryError first, and lives on
    assert (result.status, result.session_alive) == (status, False)
    assert (await ended_error(session)).reason == reason


async def test_memory_that_a_session_takes_between_two_cells_ends_it_with_that_reason(session, until, ended_error):
    result = await session.run(
        "import subprocess, sys\n"
        "hog = 'import os, time; x = bytearray(os.urandom(1 << 20) * 90); time.sleep(60)'\n"
        "children = [subprocess.Popen([sys.executable, '-c', hog]) for _ in range(4)]"
    )
    assert result.session_alive

    await until(lambda: not session.alive)

    assert (await ended_error(session)).reason == "out_of_memory"


# ----------------------------------------------------------------------------------------------------------- restarting


async def test_a_restart_keeps_files_and_drops_variables_threads_and_programs(session):
    await session.run(
        "import os, subprocess, threading, time\nx = 1\nopen('kept.txt', 'w').write('x')\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)\n"
    )

    await session.restart()
    result = await session.run(
        "import os; print('x' in globals(), os.listdir(), [pid for pid in os.listdir('/proc') if pid.isdigit()] == [str(os.getpid())])"
    )

    assert result.stdout == "False ['kept.txt'] True\n"
    assert result.artifacts == ()
    assert result.session_alive


@pytest.mark.parametrize("code", [WAIT, DEAF], ids=["heeds", "ignores"])
async def test_a_restart_ends_what_runs_and_what_waited_runs_in_the_fresh_interpreter(session, code, begun):
    await session.run("x = 1")
    waited: dict[str, Any] = {}

    async def wait() -> None:
        waited["result"] = await session.run("print('x' in globals())")

    async with begun(session, code) as outcome, anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await session.restart()

    assert (outcome["result"].status, outcome["result"].session_alive) == (Status.CANCELLED, True)
    assert "restarted" in outcome["result"].error.message
    assert waited["result"].stdout == "False\n"


async def test_restarts_at_once_and_in_a_row_each_give_a_fresh_interpreter(session, answer):
    for _ in range(5):
        await session.run("x = 1")
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(session.restart)
        assert await answer(session, "'x' in globals()") == "False"


@pytest.mark.parametrize("pauses", [0, 1, 2, 5])
async def test_a_cancelled_restart_leaves_a_session_that_works(session, pauses):
    await session.run("x = 1; open('a', 'w')")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.restart)
        for _ in range(pauses):
            await checkpoint()
        tasks.cancel_scope.cancel()

    with anyio.fail_after(20):
        result = await session.run("import os; print(os.listdir())")

    assert result.stdout == "['a']\n"


@pytest.mark.parametrize("pauses", [0, 1, 2, 3, 4, 6, 10])
async def test_closing_a_session_while_it_is_restarted_ends_it_for_whoever_waits(interpreter, pauses):
    session = await interpreter.open_session()

    async def restart() -> None:
        with suppress(SessionEndedError):
            await session.restart()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(restart)
            for _ in range(pauses):
                await checkpoint()
            await session.close()

    assert (await interpreter.run("print('works')")).stdout == "works\n"


async def test_a_session_whose_caller_walked_away_from_deaf_code_can_be_restarted(session, answer):
    async with aclosing(session.stream(DEAF)) as events:
        async for _ in events:
            break

    await session.restart()

    assert await answer(session, "'time' in globals()") == "False"


async def test_a_restarted_session_is_interrupted_timed_out_and_watched_as_before(session, begun, ended_error):
    await session.restart()

    assert (await session.run(WAIT, timeout_s=0.2)).status is Status.TIMEOUT
    async with begun(session) as outcome:
        await session.interrupt()
    assert outcome["result"].status is Status.CANCELLED
    await session.run("import os; os._exit(3)")
    assert (await ended_error(session)).reason == "exited"


async def test_a_session_killed_while_it_is_restarted_is_lost(session):
    os.kill(session._sandbox.pid, signal.SIGKILL)

    with anyio.fail_after(40), pytest.raises(SessionLostError) as caught:
        await session.restart()

    assert caught.value.code == "session_lost"
