"""Caps, eviction and the queue, with real sandboxes behind them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bichat import CapacityError, CodeInterpreter, LimitError, Status, UserInputError
from bichat.errors import SessionEndedError
from bichat.session import IDLE_BYTES, Session
from bichat.settings.settings import Caps
from bichat.sizes import MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces, pytest.mark.usefixtures("needs_namespaces_here")]

Capped = Callable[..., AbstractAsyncContextManager[CodeInterpreter]]


@pytest.fixture
def capped(bare_settings) -> Capped:
    """Opens an interpreter with the caps that it is given, and sees that nothing is held in the end."""

    @asynccontextmanager
    async def opened(ready_sandboxes: int = 0, **caps: Any) -> AsyncGenerator[CodeInterpreter]:
        roomy = Caps(memory_bytes=64 << 30, tenant_memory_bytes=64 << 30, queue_wait_s=20)
        settings = bare_settings(
            environment="ready" if ready_sandboxes else "bare",
            caps=replace(roomy, **caps),
            ready_sandboxes=ready_sandboxes,
        )
        async with CodeInterpreter(settings=settings, preload=bool(ready_sandboxes)) as interpreter:
            if ready_sandboxes:
                with anyio.fail_after(40):
                    await interpreter.warm()
            yield interpreter
        admission = interpreter._admission
        assert (admission._held.sessions, admission._held.executions, admission._held.memory_bytes) == (0, 0, 0)
        assert admission._held_by == {}
        assert not any(admission._lines)

    return opened


@pytest.fixture(scope="session")
def whole_bytes(limits) -> int:
    """What one execution is counted with."""
    return limits().memory_bytes + limits().disk_bytes


# ------------------------------------------------------------------------------------------------------------ eviction


#: Leaves a thread that takes 100 MiB once the cell has ended.
GROW = """
import os, threading, time
def grow():
    while not os.path.exists('now'): time.sleep(0.001)
    global held
    held = os.urandom(1 << 20) * 120
thread = threading.Thread(target=grow, daemon=True)
thread.start()
"""


async def test_what_an_idle_session_takes_later_is_counted(capped, until):
    async with capped() as interpreter, interpreter.session() as session:
        await session.run(GROW)
        await session.put("now", b"")

        await until(lambda: session.held.memory_bytes > 100 * MIB)

        assert interpreter._admission._held == session.held
        assert (await session.run("thread.join(); print(len(held) >> 20)")).stdout == "120\n"


async def test_a_restart_gives_back_what_the_old_interpreter_was_counted_with(capped):
    async with capped() as interpreter, interpreter.session() as session:
        await session.run("held = bytes(1 << 20) * 100")
        before = session.held.memory_bytes

        await session.restart()

        assert before > 100 * MIB
        assert interpreter._admission._held == session.held
        assert session.held.memory_bytes == IDLE_BYTES


async def test_an_idle_session_that_takes_more_than_there_is_room_for_ends(capped, whole_bytes, until, ended_error):
    async with (
        capped(tenant_memory_bytes=whole_bytes + 2 * IDLE_BYTES) as interpreter,
        interpreter.session() as session,
        interpreter.session() as neighbour,
    ):
        await session.run(GROW)
        async with aclosing(neighbour.stream("print('x', flush=True)\nimport time; time.sleep(60)")) as events:
            await anext(events)
            await session.put("now", b"")
            await until(lambda: not session.alive)

            assert (await ended_error(session)).reason == "grown"
            assert neighbour.alive


async def test_at_a_tenants_cap_its_longest_idle_session_ends_and_is_told_so(capped, ended_error):
    async with capped(tenant_sessions=2) as interpreter:
        first, second = await interpreter.open_session(), await interpreter.open_session()
        others = await interpreter.open_session(tenant="other")
        await first.run("x = 1")  # so that the second is idle for longer

        third = await interpreter.open_session()

        error = await ended_error(second)
        assert error.reason == "evicted"
        assert "its tenant needed the room" in str(error)
        for session in (first, third, others):
            assert (await session.run("print('alive')")).stdout == "alive\n"


async def test_at_the_cap_for_all_a_tenant_ends_its_own_session_or_waits_and_never_anothers(capped, ended_error):
    async with capped(sessions=2, queue_wait_s=0.2) as interpreter:
        anns, bobs = await interpreter.open_session(tenant="ann"), await interpreter.open_session(tenant="bob")

        with anyio.fail_after(20), pytest.raises(CapacityError) as caught:
            await interpreter.open_session(tenant="cat")
        assert caught.value.retry_after_s >= 1
        assert (caught.value.code, caught.value.stage) == ("capacity", "admission")

        again = await interpreter.open_session(tenant="ann")
        assert (await ended_error(anns)).reason == "evicted"
        for session in (again, bobs):
            assert (await session.run("print('alive')")).stdout == "alive\n"


async def test_a_session_in_use_is_never_ended_for_another_and_makes_way_once_it_is_idle(capped, begun, ended_error):
    opened: list[Session] = []

    async with capped(tenant_sessions=1) as interpreter:
        first = await interpreter.open_session()

        async def open_another() -> None:
            opened.append(await interpreter.open_session())

        async with begun(first) as outcome, anyio.create_task_group() as tasks:
            tasks.start_soon(open_another)
            await anyio.wait_all_tasks_blocked()
            assert opened == []
            assert first.alive
            await first.interrupt()

        assert outcome["result"].status is Status.CANCELLED
        assert (await ended_error(first)).reason == "evicted"
        assert (await opened[0].run("print('alive')")).stdout == "alive\n"


async def test_ready_sandboxes_are_given_up_before_any_session_ends(capped, whole_bytes, until):
    room = whole_bytes + 2 * IDLE_BYTES
    async with capped(ready_sandboxes=2, memory_bytes=room, tenant_memory_bytes=room) as interpreter:
        pool = (await interpreter._supervisor("ready"))._pool
        assert len(pool) == 2
        session = await interpreter.open_session()
        await until(lambda: len(pool) == 1)

        result = await interpreter.run("print('one-shot')", limits=replace(session.limits, pids=63))

        assert result.stdout == "one-shot\n"
        assert session.alive
        assert (await session.run("print('alive')")).stdout == "alive\n"


async def test_idle_memory_counts_and_what_an_idle_session_gives_up_goes_to_its_tenant(
    capped, whole_bytes, ended_error
):
    room = whole_bytes + 80 * MIB
    async with capped(memory_bytes=room, tenant_memory_bytes=room) as interpreter:
        large = await interpreter.open_session()
        await large.run("import os; x = bytearray(os.urandom(1 << 20)) * 100")
        assert interpreter._admission._held.memory_bytes > 100 * MIB

        small = await interpreter.open_session()

        assert (await ended_error(large)).reason == "evicted"
        assert (await small.run("print('alive')")).stdout == "alive\n"


async def test_memory_that_a_session_has_given_back_is_not_counted_any_more(capped):
    async with capped() as interpreter:
        session = await interpreter.open_session()
        assert interpreter._admission._held.memory_bytes == IDLE_BYTES
        await session.run("import os; x = bytearray(os.urandom(1 << 20)) * 100; open('a', 'wb').write(bytes(20 << 20))")
        assert interpreter._admission._held.memory_bytes > 120 * MIB

        await session.run("import os; del x; os.remove('a')")

        assert interpreter._admission._held.memory_bytes == IDLE_BYTES


# -------------------------------------------------------------------------------------------------- waiting in the queue


@pytest.mark.parametrize("cap", ["executions", "tenant_executions"])
async def test_code_above_the_cap_of_executions_waits_and_runs_then(capped, begun, cap):
    answers: list[str] = []

    async with capped(**{cap: 1}) as interpreter:
        first, second = await interpreter.open_session(), await interpreter.open_session()

        async def run_second() -> None:
            answers.append((await second.run("print('second')")).stdout)

        async with begun(first), anyio.create_task_group() as tasks:
            tasks.start_soon(run_second)
            await anyio.wait_all_tasks_blocked()
            assert (answers, second.execution_count) == ([], 0)
            await first.interrupt()

        assert answers == ["second\n"]


async def test_code_that_had_no_room_in_time_has_not_run_and_its_session_lives(capped, begun):
    async with capped(executions=1, queue_wait_s=0.2) as interpreter:
        first, second = await interpreter.open_session(), await interpreter.open_session()
        async with begun(first):
            for call in (lambda: second.run("x = 1"), lambda: interpreter.run("pass")):
                with pytest.raises(CapacityError) as caught:
                    await call()
                assert caught.value.retry_after_s >= 1
            await first.interrupt()

        assert (await second.run("print('x' in globals())")).stdout == "False\n"


async def test_a_full_queue_refuses_at_once(capped, begun):
    async with capped(executions=1, queue=2) as interpreter:
        first = await interpreter.open_session()
        async with begun(first), anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(interpreter.run, "pass")
            await anyio.wait_all_tasks_blocked()

            with anyio.fail_after(5), pytest.raises(CapacityError, match="queue is full"):
                await interpreter.run("pass")

            await first.interrupt()


async def test_what_could_never_fit_is_refused_before_anything_is_started(capped, whole_bytes):
    async with capped(tenant_memory_bytes=whole_bytes - 1) as interpreter:
        for call in (interpreter.open_session, lambda: interpreter.run("pass")):
            with pytest.raises(LimitError, match="one tenant"):
                await call()

        assert interpreter._supervisors == {}


async def test_a_tenant_has_a_name(capped):
    async with capped() as interpreter:
        with pytest.raises(UserInputError):
            await interpreter.open_session(tenant="")


async def test_those_who_are_cancelled_while_they_wait_leave_nothing_held(capped, begun):
    async with capped(executions=1, sessions=3, tenant_sessions=3) as interpreter:
        first, second = await interpreter.open_session(), await interpreter.open_session()
        async with begun(first):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(second.run, "pass")
                    tasks.start_soon(interpreter.run, "pass")
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert interpreter._admission._held.executions == 1
            await first.interrupt()

        assert (await second.run("print('alive')")).stdout == "alive\n"


# ------------------------------------------------------------------------------------------------------------- fairness


async def test_a_hundred_requests_of_one_tenant_beside_one_of_another(capped):
    finished: list[str] = []
    before = 0

    async with capped(executions=2, tenant_executions=2) as interpreter:
        first = await interpreter.open_session(tenant="many")
        await first.run("pass")

        async def one(tenant: str) -> None:
            await interpreter.run("pass", tenant=tenant)
            finished.append(tenant)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(one, "many")
                await anyio.wait_all_tasks_blocked()
                before = len(finished)
                tasks.start_soon(one, "one")

    assert len(finished) == 101
    # Those two that run, the one whose turn it is, and those that overtake it by being quicker.
    assert finished.index("one") - before < 8


async def test_a_tenant_that_keeps_its_sessions_busy_does_not_starve_another(capped):
    finished: list[str] = []
    before = 0

    async with capped(executions=1, tenant_executions=1) as interpreter:
        sessions = [await interpreter.open_session(tenant="busy") for _ in range(4)]
        await sessions[0].run("pass")

        async def keep_busy(session: Session) -> None:
            while "other" not in finished:
                await session.run("pass")
                finished.append("busy")

        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                for session in sessions:
                    tasks.start_soon(keep_busy, session)
                while not finished:
                    await checkpoint()
                before = len(finished)
                await interpreter.run("pass", tenant="other")
                finished.append("other")

    assert finished.index("other") - before < 8


async def test_many_tenants_at_every_cap_at_once_are_all_served_in_the_end(capped, whole_bytes):
    answers: list[str] = []
    reasons: set[str] = set()
    caps = {
        "sessions": 6,
        "tenant_sessions": 3,
        "executions": 2,
        "tenant_executions": 1,
        "memory_bytes": 3 * whole_bytes,
        "tenant_memory_bytes": 2 * whole_bytes,
    }

    async with capped(**caps) as interpreter:

        async def one(number: int) -> None:
            while True:
                try:
                    async with interpreter.session(tenant=f"tenant-{number % 4}") as session:
                        await session.run(f"x = {number}")
                        answers.append((await session.run("print(x)")).stdout)
                        return
                except SessionEndedError as error:
                    reasons.add(error.reason)

        with anyio.fail_after(80):
            async with anyio.create_task_group() as tasks:
                for number in range(24):
                    tasks.start_soon(one, number)

    assert sorted(answers) == sorted(f"{number}\n" for number in range(24))
    assert reasons <= {"evicted"}


# ---------------------------------------------------------------------------------------------- whatever goes wrong


@pytest.mark.parametrize(
    "options",
    [{"files": {"a": "/no/such/file"}}, {"environment": "nope"}, {"files": {"a": bytes(65 * MIB)}}],
    ids=["missing file", "no environment", "too large"],
)
async def test_an_opening_that_fails_gives_back_what_it_held(capped, options):
    async with capped(sessions=1, tenant_sessions=1, queue_wait_s=0.2) as interpreter:
        for _ in range(2):
            with pytest.raises(Exception) as caught:
                await interpreter.open_session(**options)
            assert not isinstance(caught.value, CapacityError)

        async with interpreter.session() as session:
            assert (await session.run("print(1)")).stdout == "1\n"


async def test_an_opening_that_is_cancelled_gives_back_what_it_held(capped):
    async with capped(sessions=1, tenant_sessions=1) as interpreter:
        for pause_s in (0, 0.001, 0.003, 0.01, 0.03, 0.1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(interpreter.run, "pass")
                await anyio.sleep(pause_s)
                tasks.cancel_scope.cancel()

        with anyio.fail_after(20):
            async with interpreter.session() as session:
                assert (await session.run("print(1)")).stdout == "1\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(1)",
        "import os, signal; os.kill(os.getpid(), 9)",
        "while True: print('x' * 100_000)",
        "1 / 0",
    ],
    ids=["exit", "kill", "flood", "error"],
)
async def test_however_code_ends_its_execution_is_given_back(capped, code):
    async with capped(executions=1, tenant_executions=1) as interpreter:
        for _ in range(2):
            async with interpreter.session() as session:
                await session.run(code)
            await interpreter.run(code)

        assert (await interpreter.run("print('works')")).stdout == "works\n"
