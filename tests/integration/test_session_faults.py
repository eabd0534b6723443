"""Sessions under attack from inside, and with their processes killed from outside: the others go on."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bichat import CodeInterpreter, Completed, Displayed, ExecutionResult, Status, Stdout
from bichat.errors import SessionEndedError, SessionLostError
from bichat.session import Session
from bichat.settings.settings import Caps
from bichat.sizes import MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]

WAIT = "import time\nprint('started', flush=True)\ntime.sleep(60)"
#: Of the guest: its own end of the channel, found as an attacker finds it, and frames sent over it.
FORGE = """
import base64, json, os, socket, stat, struct, sys, time
CHANNEL = next(
    number for number in range(3, 64)
    if os.path.exists(f"/proc/self/fd/{number}") and stat.S_ISSOCK(os.fstat(number).st_mode)
)
channel = socket.socket(fileno=os.dup(CHANNEL))
def raw(payload):
    channel.sendall(struct.pack(">I", len(payload)) + payload)
def forge(message):
    raw(json.dumps(message).encode())
def show(text, printed=None, **more):
    forge({"display": {"data": {"text/plain": text}, "printed": printed, **more}})
"""


@pytest.fixture
async def neighbour(interpreter: CodeInterpreter) -> AsyncGenerator[Session]:
    """Another session, which goes on whatever its neighbour does."""
    async with interpreter.session() as opened:
        await opened.run("x = 41")
        yield opened
        with anyio.fail_after(20):
            assert (await opened.run("print(x + 1)")).stdout == "42\n"


async def run(session: Session, code: str) -> ExecutionResult:
    with anyio.fail_after(40):
        return await session.run(FORGE + dedent(code))


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for later is nobody's
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------------------------ forged frames


async def test_prints_and_displays_come_in_the_order_in_which_they_happened(session):
    seen: list[str] = []
    code = """
        written = 0
        for number in range(50):
            os.write(1, b"print %d\\n" % number)
            written += len(b"print %d\\n" % number)
            show(f"display {number}", [written, 0])
    """

    async for event in session.stream(FORGE + dedent(code)):
        if isinstance(event, Stdout):
            seen += event.text.splitlines()
        elif isinstance(event, Displayed):
            seen.append(event.result.text)
        elif isinstance(event, Completed):
            assert [result.text for result in event.result.results] == [f"display {number}" for number in range(50)]

    assert seen == [f"{kind} {number}" for number in range(50) for kind in ("print", "display")]


async def test_images_are_artifacts_numbered_through_the_session(session):
    code = """
        image = base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(9)).decode()
        open("figure-2.png", "wb").write(base64.b64decode(image))
        for _ in range(2): forge({"display": {"data": {"image/png": image}}})
        forge({"display": {"data": {"image/png": image}, "saved_as": ["figure-2.png"]}})
    """
    first, second = await run(session, code), await run(session, code)

    assert [result.artifact for result in first.results] == ["figure-1.png", "figure-3.png", "figure-2.png"]
    assert [(one.name, one.source) for one in first.artifacts] == [
        ("figure-1.png", "display"),
        ("figure-2.png", "file"),
        ("figure-3.png", "display"),
    ]
    assert [result.artifact for result in second.results][:2] == ["figure-4.png", "figure-5.png"]


async def test_a_forged_end_spoils_the_result_of_its_own_cell_alone(session, neighbour):
    forged = await run(
        session, "forge({'done': {'status': 'completed'}, 'cell': 1}); print('after', flush=True); 1 / 0"
    )

    assert (forged.status, forged.session_alive) == (Status.COMPLETED, True)
    with anyio.fail_after(20):
        assert (await session.run("print('next')")).stdout.endswith("next\n")


async def test_an_end_forged_for_a_later_cell_ends_no_cell(session):
    await run(session, "for cell in range(2, 100): forge({'done': {'status': 'completed'}, 'cell': cell})")

    result = await run(session, "time.sleep(0.05); print('ran to its end')")

    # Whoever forges the end of his own next cell has spoilt his own result, and nothing else.
    assert result.status is Status.COMPLETED
    assert result.session_alive


async def test_an_end_of_strange_values_is_still_a_result_that_can_be_written_down(session):
    result = await run(
        session,
        """
        forge({"done": {"status": "error", "name": {"a": 1}, "message": "\\ud800", "traceback": [1], "errno": "x",
                        "memory": "yes"}, "cell": 1})
        time.sleep(60)
        """,
    )

    assert result.status is Status.ERROR
    str(result.to_dict()).encode()


@pytest.mark.parametrize(
    "code",
    [
        "channel.sendall(b'GET / HTTP/1.1' * 100)",
        "channel.sendall(b'\\xff' * 4)",
        "raw(b'')",
        "raw(b'[]')",
        "raw(b'[' * 100_000)",
        "raw(b'{' * (17 << 20))",
        "for _ in range(1_000_000): raw(b'{}')",
        "while True: forge({'x': 'y' * 10_000})",
    ],
    ids=["http", "length", "empty", "list", "nested", "huge", "flood", "endless"],
)
async def test_what_is_no_frame_ends_its_own_session_and_says_so(session, neighbour, code):
    result = await run(session, code + "\ntime.sleep(60)")

    assert (result.status, result.session_alive) == (Status.KILLED, False)
    assert result.error is not None
    assert result.error.name == "ProtocolError"
    with pytest.raises(SessionEndedError) as caught:
        await session.run("pass")
    assert caught.value.reason == "killed"


async def test_a_flood_of_displays_is_bounded_and_the_memory_of_the_server_stays(session, neighbour):
    await run(session, "show('x')")
    before = resident_bytes()

    result = await run(session, "for _ in range(400): show('x' * 500_000)")

    assert len(result.results) + result.results_omitted == 400
    assert sum(len(one.text) for one in result.results) <= 64 * MIB
    assert result.session_alive
    del result
    await session.run("pass")
    assert resident_bytes() - before < 40 * MIB


async def test_displays_of_a_million_elements_are_left_out(session, neighbour):
    result = await run(
        session,
        """
        forge({"display": {"data": {"application/json": [[]] * 300_000}}})
        forge({"display": {"data": {"application/json": {"a": 1}}}})
        """,
    )

    assert [dict(one.data) for one in result.results] == [{"application/json": {"a": 1}}]
    assert result.results_omitted == 1


async def test_a_flood_of_output_is_bounded_and_the_memory_of_the_server_stays(interpreter, limits, neighbour):
    async with interpreter.session(limits=limits(output_kill_bytes=512 * MIB)) as session:
        await session.run("print('x' * (2 << 20))")
        before = resident_bytes()

        result = await session.run("for _ in range(100): print('x' * (1 << 20))")

        assert result.stdout_omitted_bytes > 98 * MIB
        assert result.artifact("stdout.txt").size_bytes == 100 * (MIB + 1)
        assert resident_bytes() - before < 16 * MIB


@pytest.mark.parametrize(
    "code",
    [
        "os.closerange(0, 1024)",
        "os.closerange(3, 1024)",
        "os.close(CHANNEL)",
        "import socket; a, b = socket.socketpair(); os.dup2(a.fileno(), CHANNEL)",
        "os.dup2(os.open('/dev/null', os.O_RDWR), CHANNEL)",
        "socket.socket(fileno=os.dup(CHANNEL)).shutdown(socket.SHUT_RDWR)",
    ],
    ids=["all", "above two", "channel", "another socket", "a file", "shut down"],
)
async def test_a_guest_that_closes_its_channel_ends_its_own_session(session, neighbour, code):
    result = await run(session, "print('before', flush=True)\n" + code)

    assert not result.session_alive
    assert result.stdout == "before\n"
    assert result.status in (Status.ERROR, Status.KILLED)
    with pytest.raises(SessionEndedError):
        await session.run("pass")


async def test_closed_output_descriptors_are_the_cells_own_loss(session):
    await session.run("import os; os.close(1); os.close(2)")

    result = await session.run("x = 1; open('a.txt', 'w').write('x')")

    assert result.session_alive
    assert [one.name for one in result.artifacts] == ["a.txt"]


async def test_a_guest_that_reads_the_next_code_itself_keeps_nobody_but_itself_waiting(interpreter, limits, neighbour):
    async with interpreter.session(limits=limits(timeout_s=0.3, grace_s=0.2)) as session:
        result = await run(
            session,
            "import threading\nthreading.Thread(target=lambda: [channel.recv(1 << 20) for _ in range(3)]).start()",
        )
        assert result.session_alive

        with anyio.fail_after(20), suppress(SessionEndedError):
            while True:
                await session.run("print('x')")
                await run(session, "pass")

        assert not session.alive


async def test_threads_and_daemons_that_print_on_for_ever_do_not_keep_a_cell_from_ending(session, neighbour):
    with anyio.fail_after(30):
        first = await session.run(
            "import os, threading\ndef chatter():\n    while True: os.write(1, b'x' * 1000)\n"
            "threading.Thread(target=chatter, daemon=True).start()\nprint('end of the cell')"
        )
        second = await session.run("y = 1")
        await session.restart()
        third = await session.run("print('y' in globals())")

    assert "end of the cell" in first.stdout + second.stdout
    assert third.stdout == "False\n"


async def test_a_fork_of_the_guest_that_comes_to_the_end_of_the_cell_says_nothing_in_its_name(session):
    result = await session.run("import os\npid = os.fork()\nprint('child' if pid == 0 else os.waitpid(pid, 0)[1])")
    assert sorted(result.stdout.split()) == ["0", "child"]

    assert (await session.run("print('one')")).stdout == "one\n"


async def test_the_folder_under_attack_by_a_daemon_is_listed_opened_and_written_all_the_same(session, neighbour):
    await session.run(
        dedent("""
        import os
        if os.fork() == 0:
            os.setsid()
            while True:
                for change in (
                    lambda: open("a", "w").write("x" * 1000),
                    lambda: (os.unlink("a"), os.symlink("/etc/passwd", "a")),
                    lambda: (os.unlink("a"), os.mkfifo("a")),
                    lambda: (os.unlink("a"), os.mkdir("a"), os.chmod("a", 0)),
                    lambda: (os.chmod("a", 0o700), os.rmdir("a")),
                ):
                    try: change()
                    except OSError: pass
        """)
    )
    kept: list[bytes] = []
    with anyio.fail_after(40):
        for number in range(100):
            await session.files()
            with suppress(Exception):
                kept.append((await session.open("a")).read_bytes())
            with suppress(Exception):
                await session.put("a", b"mine")
            if number % 20 == 0:
                await session.run("pass")

    assert set(kept) <= {b"x" * 1000, b"", b"mine"} | {b"x" * size for size in range(1000)}
    await session.restart()
    assert (await session.run("print('works')")).stdout == "works\n"


# -------------------------------------------------------------------------------------------------- killed from outside


@pytest.fixture
async def ten(bare_settings) -> AsyncGenerator[tuple[CodeInterpreter, list[Session], Session]]:
    """An interpreter with ten sessions of one environment, three of which run something, and one of another."""
    async with CodeInterpreter(settings=bare_settings(ready_sandboxes=0), preload=False) as interpreter:
        sessions = [await interpreter.open_session(tenant=f"tenant-{number % 3}") for number in range(10)]
        other = await interpreter.open_session(environment="other")
        for number, session in enumerate([*sessions, other]):
            await session.run(f"x = {number}")
        yield interpreter, sessions, other


async def strike(sessions: list[Session], other: Session, victim: Callable[[], int]) -> list[Any]:
    """Kill what `victim` picks while three of `sessions` and `other` run code; what became of each of the four."""
    outcomes: list[Any] = [None] * 4
    running = [*sessions[:3], other]

    async def execute(number: int) -> None:
        try:
            outcomes[number] = await running[number].run("import os, time; open('begun', 'w'); time.sleep(0.7)")
        except SessionEndedError as error:
            outcomes[number] = error

    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(execute, number)
            for session in running:
                while "begun" not in {file.name for file in await session.files()}:
                    await checkpoint()
            os.kill(victim(), signal.SIGKILL)
    return outcomes


@pytest.mark.parametrize("which", ["launcher", "porter", "zygote"])
async def test_ten_sessions_whose_parents_are_killed_are_lost_and_everybody_else_goes_on(ten, which, family):
    interpreter, sessions, other = ten
    zygote = await (await interpreter._supervisor("bare")).zygote()
    names = {"launcher": zygote.pid, "porter": family(zygote.pid)[1], "zygote": _parent(sessions[0]._sandbox.guest_pid)}
    assert len(set(names.values())) == 3

    outcomes = await strike(sessions, other, lambda: names[which])

    assert [outcome.status for outcome in outcomes] == [Status.SESSION_LOST] * 3 + [Status.COMPLETED]
    assert not any(outcome.session_alive for outcome in outcomes[:3])
    for session in sessions:
        with anyio.fail_after(20), pytest.raises(SessionLostError) as caught:
            await session.run("print(x)")
        assert (caught.value.code, caught.value.reason) == ("session_lost", "lost")
        assert not session.alive
    assert (await other.run("print(x)")).stdout == "10\n"
    with anyio.fail_after(20):
        async with interpreter.session() as fresh:
            assert (await fresh.run("print('works')")).stdout == "works\n"
    assert interpreter._admission._held.sessions == 1


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


@pytest.mark.parametrize("which", ["guest", "init"])
@pytest.mark.parametrize("is_running", [False, True], ids=["idle", "running"])
async def test_one_session_whose_own_process_is_killed_ends_and_the_other_nine_go_on(ten, which, is_running):
    interpreter, sessions, other = ten
    victim = sessions[0 if is_running else 9]
    sandbox = victim._sandbox

    outcomes = await strike(sessions, other, lambda: sandbox.guest_pid if which == "guest" else sandbox.pid)

    if is_running:
        assert outcomes[0].status is Status.KILLED
        assert not outcomes[0].session_alive
    assert [outcome.status for outcome in outcomes[is_running:]] == [Status.COMPLETED] * (4 - is_running)
    with anyio.fail_after(20), pytest.raises(SessionEndedError) as caught:
        await victim.run("pass")
    assert caught.value.reason == ("killed" if is_running else "lost")
    for number, session in enumerate([*sessions, other]):
        if session is not victim:
            assert (await session.run("print(x)")).stdout == f"{number}\n"
    async with interpreter.session() as fresh:
        assert (await fresh.run("print('works')")).stdout == "works\n"


async def test_a_zygote_that_is_stopped_holds_up_its_own_new_sessions_and_nothing_else(ten):
    interpreter, sessions, _ = ten
    zygote = _parent(sessions[0]._sandbox.guest_pid)
    os.kill(zygote, signal.SIGSTOP)
    try:
        assert (await sessions[0].run("print(x)")).stdout == "0\n"
        async with interpreter.session(environment="other") as fresh:
            assert (await fresh.run("print('works')")).stdout == "works\n"
        with anyio.move_on_after(0.3) as scope:
            await interpreter.open_session()
        assert scope.cancelled_caught
    finally:
        os.kill(zygote, signal.SIGCONT)

    with anyio.fail_after(20):
        async with interpreter.session() as fresh:
            assert (await fresh.run("print('works')")).stdout == "works\n"


# ---------------------------------------------------------------------------------------------------------- many at once


async def test_fifty_sessions_of_five_tenants_are_opened_used_and_expired_at_once(bare_settings, limits, until, family):
    caps = Caps(memory_bytes=64 << 30, tenant_memory_bytes=64 << 30, executions=16, tenant_executions=8)
    reasons: list[str] = []
    answers: list[str] = []

    async def one(interpreter: CodeInterpreter, number: int) -> None:
        session = await interpreter.open_session(
            tenant=f"tenant-{number % 5}", limits=limits(idle_s=1.0), variables={"NUMBER": str(number)}
        )
        await session.run("import os; x = int(os.environ['NUMBER'])")
        await session.put("a.txt", str(number).encode())
        answers.append((await session.run("print(x == int(open('a.txt').read()) == int(os.environ['NUMBER']))")).stdout)
        await until(lambda: not session.alive)
        with pytest.raises(SessionEndedError) as caught:
            await session.run("pass")
        reasons.append(caught.value.reason)

    before = family(os.getpid())
    with anyio.fail_after(80):
        async with CodeInterpreter(settings=bare_settings(caps=caps), preload=False) as interpreter:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(one, interpreter, number)
            assert interpreter._admission._held.sessions == interpreter._admission._held.memory_bytes == 0

    assert answers == ["True\n"] * 50
    assert reasons == ["idle"] * 50
    await until(lambda: set(family(os.getpid())) <= set(before))


@pytest.fixture
def footprint(family):
    """`footprint()`: descriptors, threads and processes."""

    def look() -> tuple[int, int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(family(os.getpid()))

    return look


async def test_five_hundred_executions_in_a_row_grow_nothing(interpreter, until, footprint):
    async with interpreter.session() as session:
        code = "open('a.txt', 'w').write('x'); print('x' * 1000)"
        for _ in range(50):
            await session.run(code)
        look = "import os, threading; print(os.listdir('/proc/self/fd'), threading.active_count())"
        inside = (await session.run(look)).stdout
        before, resident = footprint(), resident_bytes()

        for _ in range(500):
            await session.run(code)

        await until(lambda: footprint() <= before)
        assert resident_bytes() - resident < 4 * MIB
        assert (await session.run(look)).stdout == inside


async def test_a_hundred_sessions_in_a_row_grow_nothing(interpreter, until, footprint):
    async def one() -> None:
        async with interpreter.session(files={"a.txt": b"x"}) as session:
            await session.run("print(open('a.txt').read())")
            with anyio.move_on_after(0.005):
                await session.run("import time; time.sleep(60)")
        await interpreter.run("open('b.txt', 'w').write('x')")

    for _ in range(10):
        await one()
    await until(lambda: not interpreter._background._tasks)
    before, resident = footprint(), resident_bytes()

    for _ in range(100):
        await one()

    await until(lambda: not interpreter._background._tasks)
    await until(lambda: footprint() <= before)
    assert resident_bytes() - resident < 4 * MIB
    assert interpreter._admission._held.sessions == 0
