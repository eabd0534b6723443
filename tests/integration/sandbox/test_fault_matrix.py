"""Who x what x when: a process of a sandbox, or the server, struck at each step of a session's life.

After each: the session's owner is told what became of it, nothing is left, and the next session works.  A step is held
where it is by the strike itself, which is called from within: no test hopes to meet the right moment.
"""

from __future__ import annotations

import functools
import gc
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

import bichat.interpreter
from bichat import CodeInterpreter, Session, Status, Stdout
from bichat.errors import BichatError, SessionEndedError
from bichat.events import Completed
from bichat.sandbox import folder, namespace_sandbox, opening, rooms, supervisor
from bichat.sandbox.isolation.layers import Level
from bichat.settings.settings import Settings
from bichat.sizes import MIB

#: What the owner is told: by the call during which it happens, and by the next cell of the same session.  A result's
#: status, `done` for a call without a result, or the code of an error with the reason why the session ended.
KILLED: Final = """
            guest                      init                       porter                     zygote                     launcher
opening     done completed|lost        done completed             done completed             done completed             done completed
ready       done completed             done completed             done completed             done completed             done completed
put         done lost                  done lost                  done lost                  done lost                  done lost
running     killed killed              killed killed              session_lost lost          session_lost lost          session_lost lost
capturing   completed lost             completed lost             completed lost             completed lost             completed lost
between     done lost                  done lost                  done lost                  done lost                  done lost
restarting  lost|done lost             lost lost                  lost lost                  lost lost                  lost lost
closing     done closed                done closed                done closed                done closed                done closed
"""
STOPPED: Final = """
            guest                      init                       porter                     zygote                     launcher
opening     sandbox_unavailable|done -|timeout  sandbox_unavailable -  sandbox_unavailable -  sandbox_unavailable -      done completed
ready       done timeout               done completed             done completed             done completed             done completed
put         done timeout               done completed             done completed             done completed             done completed
running     timeout timeout            completed completed        completed completed        completed completed        completed completed
capturing   completed timeout          completed completed        completed completed        completed completed        completed completed
between     done timeout               done completed             done completed             done completed             done completed
restarting  lost|done lost|timeout     lost lost                  done completed             lost|done lost|completed   done completed
closing     done closed                done closed                done closed                done closed                done closed
"""
#: The same at the level `landlock`, where the new guest may have been ready before it dies with those above it.
KILLED_OUTSIDE: Final = KILLED.replace(
    "restarting  lost|done lost             lost lost                  lost lost                  lost lost                  lost lost",
    "restarting  lost|done lost             lost lost                  lost|done lost             lost|done lost             lost|done lost",
)
assert KILLED_OUTSIDE != KILLED
STOPPED_OUTSIDE: Final = """
            guest                      porter
opening     sandbox_unavailable|done -|timeout  sandbox_unavailable -
ready       done timeout               done completed
put         done timeout               done completed
running     timeout timeout            completed completed
capturing   completed timeout          completed completed
between     done timeout               done completed
restarting  lost|done lost|timeout     done completed
closing     done closed                done closed
"""
#: Those that an open session comes to.
_LATER: Final = ("put", "running", "capturing", "between", "restarting", "closing")
#: Works until it is told to go on; a file comes out.
CODE: Final = """
import os, time
open("made.txt", "w").write("made")
print("begun", flush=True)
while not os.path.exists("go"):
    time.sleep(0.005)
"""

Strike = Callable[[], None]


def cells(table: str) -> list[Any]:
    """`(step, who, told)` of each cell."""
    who, *rows = (line.split() for line in table.strip().splitlines())
    return [
        pytest.param(step, one, tuple(words[2 * number : 2 * number + 2]), id=f"{step}-{one}")
        for step, *words in rows
        for number, one in enumerate(who)
    ]


# -------------------------------------------------------------------------------------------------- a session's life


#: Functions whose first call is the midst of a step; other steps are struck between two lines.
_MIDST: Final = {
    "opening": (supervisor, "Opening"),
    "opening of an init": (opening, "introduction"),
    "opening of a guest": (opening, "ready"),
    "put": (folder, "write_input"),
    "capturing": (folder, "capture"),
    "restarting": (namespace_sandbox, "introduction"),
    "restarting of a guest": (namespace_sandbox, "ready"),
}


async def live(
    interpreter: CodeInterpreter, step: str, strike: Strike, *, is_fatal: bool = True, timeout_s: float = 20
) -> tuple[str, str]:
    """A session from its opening on; `strike` is called once, in the midst of `step`.  What its owner was told.

    `is_fatal`: the session is to die of it, which is waited for before the next cell.
    """
    if step == "ready":
        await interpreter.warm()
        (ready,) = (one.sandbox for one in interpreter._supervisors["ready"]._pool._ready)
        strike()
        while is_fatal and not ready.has_died:  # noqa: ASYNC110  # nobody sets an event when a process has gone
            await anyio.sleep(0.005)
    with _striking(step, strike):
        try:
            session = await interpreter.open_session()
        except BichatError as error:
            return error.code, "-"

        async def strike_and_close() -> None:
            strike()
            await session.close()

        async def strike_alone() -> None:
            if step == "between":
                strike()

        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "opening ready": anyio.lowlevel.checkpoint,
            "put": lambda: session.put("a.txt", b"a"),
            "running capturing": lambda: _run(session, strike if step == "running" else None, timeout_s),
            "between": strike_alone,
            "restarting": session.restart,
            "closing": strike_and_close,
        }
        try:
            for steps, call in calls.items():
                told = await _told(call())
                if step.split(maxsplit=1)[0] in steps.split():
                    while is_fatal and steps != "opening ready" and session.alive:  # noqa: ASYNC110  # see above
                        await anyio.sleep(0.005)
                    return told, await _told(session.run("print('works')", timeout_s=timeout_s))
        finally:
            await session.close()
    raise AssertionError(f"{step} is no step")


async def _run(session: Session, strike: Strike | None, timeout_s: float) -> Any:
    async with aclosing(session.stream(CODE, timeout_s=timeout_s)) as events:
        async for event in events:
            if isinstance(event, Stdout):
                if strike is not None:
                    strike()
                with suppress(SessionEndedError):
                    await session.put("go", b"")
            elif isinstance(event, Completed):
                assert [artifact.name for artifact in event.result.artifacts] == ["made.txt"]
                return event.result
    raise AssertionError("a stream ends with Completed")


async def _told(call: Awaitable[Any]) -> str:
    try:
        result = await call
    except SessionEndedError as error:
        return error.reason
    except BichatError as error:
        return error.code
    return "done" if result is None else result.status.value


@contextmanager
def _striking(step: str, strike: Strike) -> Generator[None]:
    """Within it the first call of the function that is the midst of `step` begins with the strike."""
    if step not in _MIDST:
        yield
        return
    module, name = _MIDST[step]
    struck = False
    real = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal struck
        if not struck:
            struck = True
            strike()
        return real(*arguments, **options)

    with patch.object(module, name, call):
        yield


# ------------------------------------------------------------------------------------------ a process of the sandbox


@pytest.fixture
def fault(monkeypatch, bare_settings, open_data_dir, family, until, open_descriptors):
    """What the owner is told when a process is sent a signal; afterwards nothing is left but what was there before."""

    async def run(
        step: str, who: str, number: signal.Signals, expected: tuple[str, str], level: Level = Level.NAMESPACES
    ) -> tuple[str, str]:
        is_apart = level is Level.NAMESPACES
        rooms = open_data_dir / "rooms"
        rooms.mkdir(mode=0o711, exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(rooms))  # where nobody else's come and go
        before, descriptors, mounts = set(family(os.getpid())), len(open_descriptors()), _mounts()
        groups = set(_groups(os.getpid()))  # other tests' interpreters may live
        struck: list[int] = []
        is_pooled = step == "ready"
        limits = replace(bare_settings().limits, grace_s=0.2)
        settings = bare_settings(environment="ready" if is_pooled else "bare", ready_sandboxes=1, limits=limits)
        if not is_apart:
            settings = replace(settings, data_dir=open_data_dir)
            monkeypatch.setattr(
                bichat.interpreter, "Supervisor", functools.partial(supervisor.Supervisor, layers=level.layers)
            )
        usual = _impatient(monkeypatch, step, who, number, expected)
        moments = {
            ("opening", "guest"): "opening of a guest",
            ("opening", "init"): "opening of an init",
            ("restarting", "guest"): "restarting of a guest",
        }
        step = moments.get((step, who), step)
        with anyio.fail_after(60), ExitStack() as undo:
            async with CodeInterpreter(settings=settings, preload=is_pooled) as interpreter:

                def strike() -> None:
                    roles = _roles_with(who, family, before)
                    struck.append(roles[who])
                    last = os.pidfd_open(roles[_last(who, roles, is_apart=is_apart)])
                    undo.callback(os.close, last)
                    if number == signal.SIGSTOP:
                        undo.callback(_go_on, roles[who])
                    os.kill(roles[who], number)
                    if number == signal.SIGKILL:
                        assert select.select([last], [], [], 20)[0]

                timeout_s = 0.5 if "timeout" in " ".join(expected) else 20.0
                is_fatal = number == signal.SIGKILL
                told = await live(interpreter, step, strike, is_fatal=is_fatal, timeout_s=timeout_s)
                assert struck, told
                if number == signal.SIGSTOP and who in {"porter", "zygote"} and step != "opening":
                    # It is found out, and replaced.
                    monkeypatch.setattr(supervisor, "_SANDBOX_READY_S", 0.3)
                    assert await _told(interpreter.run("pass")) == "sandbox_unavailable"
                for patience in usual:
                    monkeypatch.setattr(*patience)
                assert (await interpreter.run("print('works')")).stdout == "works\n"
        gc.collect()
        await until(lambda: set(family(os.getpid())) <= before)
        assert len(open_descriptors()) <= descriptors
        assert _mounts() == mounts
        assert set(_groups(os.getpid())) <= groups
        assert os.listdir(rooms) == []
        return told

    return run


def _impatient(
    monkeypatch: pytest.MonkeyPatch, step: str, who: str, number: signal.Signals, expected: tuple[str, str]
) -> list[tuple[Any, str, float]]:
    """Only what is to fail is given little time.  How patient the product is usually, to set it again."""
    patiences = ((supervisor, "_SANDBOX_READY_S"), (namespace_sandbox, "_RESTART_S"), (namespace_sandbox, "_DEATH_S"))
    usual = [(owner, name, getattr(owner, name)) for owner, name in patiences]
    if number == signal.SIGSTOP:
        # The watchdog lets go on what it held still itself, and would not know this stop from its own.
        monkeypatch.setattr(rooms, "_HELD_EVERY_S", float("inf"))
        if "sandbox_unavailable" in expected[0]:
            monkeypatch.setattr(supervisor, "_SANDBOX_READY_S", 0.3)
        if step == "restarting" and "lost" in expected[0]:
            # Enough to come to the strike on a busy machine.
            monkeypatch.setattr(namespace_sandbox, "_RESTART_S", 2.0)
        if who == "zygote":
            monkeypatch.setattr(namespace_sandbox, "_DEATH_S", 2.0)  # the zygote is to bury its guests
    return usual


def _last(who: str, roles: dict[str, int], *, is_apart: bool) -> str:
    """Whose end says that the kernel has done what follows from the end of `who`.

    In namespaces it ends the room when its init or anything above that has gone; the guest goes alone.  Without them
    what is above the zygote takes that along, and the rest is done by others.
    """
    if who == "guest":
        return "guest"
    if is_apart:
        return "init" if "init" in roles else "zygote"
    return "init" if who == "init" else "zygote"


def _roles_with(who: str, family: Callable[[int], list[int]], before: set[int]) -> dict[str, int]:
    """As `_roles`, once `who` is among those that were not there `before`."""
    roles: dict[str, int] = {}
    deadline = time.monotonic() + 20
    while who not in roles:  # the kernel leaves children out while one beside them is reaped
        pids = set(family(os.getpid()))
        with suppress(ValueError):
            roles = _roles(pids - before)
        if time.monotonic() > deadline:  # the event loop stands still: nobody else would end it
            raise AssertionError(f"no {who} among {_told_of(pids, before)}")
    return roles


def _roles(pids: set[int]) -> dict[str, int]:
    """Which of the processes of one interpreter with one sandbox is which, by whose child each is."""
    parents = {}
    started = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # a guest that makes room for the next one
            parents[pid], started[pid] = _parent_and_start(pid)
    (launcher,) = (pid for pid in parents if parents[pid] == os.getpid())
    (porter,) = (pid for pid in parents if parents[pid] == launcher)
    roles = {"launcher": launcher, "porter": porter}
    roles["zygote"], *inits = sorted(
        (pid for pid in parents if parents[pid] == porter), key=lambda pid: (started[pid], pid)
    )
    roles |= {"init": inits[-1]} if inits else {}
    for pid in (pid for pid in parents if parents[pid] == roles["zygote"]):
        roles["guest"] = pid
    return roles


def _told_of(pids: set[int], before: set[int]) -> list[str]:
    """Each process, its parent, its state, and whether it was there before."""
    told: list[str] = []
    for pid in sorted(pids):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            told.append(f"{pid} of {words[1]} {words[0]}{' old' if pid in before else ''}")
    return told


def _parent_and_start(pid: int) -> tuple[int, int]:
    """Its parent's pid, and the moment of its start in the kernel's ticks."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(words[1]), int(words[19])


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def _groups(pid: int) -> list[Path]:
    """Control groups of a server, by the names that they have."""
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/bichat-{pid}-*") if path.is_dir()]


def _is_as(expected: tuple[str, str], told: tuple[str, str]) -> bool:
    return all(one in choices.split("|") for one, choices in zip(told, expected, strict=True))


pytestmark = [pytest.mark.anyio]


@pytest.mark.parametrize("step, who, expected", cells(KILLED))
async def test_a_killed_process_is_told_truly_leaves_nothing_and_the_next_session_works(fault, step, who, expected):
    assert _is_as(expected, await fault(step, who, signal.SIGKILL, expected))


@pytest.mark.parametrize("step, who, expected", cells(STOPPED))
async def test_a_stopped_process_is_told_truly_leaves_nothing_and_the_next_session_works(fault, step, who, expected):
    assert _is_as(expected, await fault(step, who, signal.SIGSTOP, expected))


@pytest.mark.parametrize("step, who, expected", cells(KILLED_OUTSIDE))
async def test_a_killed_process_is_told_truly_and_leaves_nothing_without_namespaces(fault, step, who, expected):
    assert _is_as(expected, await fault(step, who, signal.SIGKILL, expected, Level.LANDLOCK))


@pytest.mark.parametrize("step, who, expected", cells(STOPPED_OUTSIDE))
async def test_a_stopped_process_is_told_truly_and_leaves_nothing_without_namespaces(fault, step, who, expected):
    assert _is_as(expected, await fault(step, who, signal.SIGSTOP, expected, Level.LANDLOCK))


async def test_a_look_at_a_session_while_its_files_are_captured_does_not_say_how_it_ended(bare_settings):
    async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
        session = await interpreter.open_session()
        looks: list[bool] = []

        def look() -> None:
            looks.append(anyio.from_thread.run_sync(lambda: session.alive))

        with _striking("capturing", look):
            result = await session.run("import os; open('a.txt', 'w').write('a'); os._exit(0)")

        assert (result.status, result.session_alive) == (Status.COMPLETED, False)
        assert len(looks) == 1
        assert await _told(session.run("pass")) == "exited"


# ---------------------------------------------------------------------------------------------------- the server itself


@pytest.mark.parametrize("step", ["opening", "opening of an init", "opening of a guest", "ready", *_LATER])
async def test_a_killed_server_leaves_nothing_at_any_step_and_the_next_one_works(step, bare_settings, family, until):
    settings, mounts = bare_settings(), _mounts()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, step, str(settings.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment) as server:  # noqa: ASYNC220
        assert server.stdout is not None
        assert server.stdout.readline() == b"struck\n"
        tree = family(server.pid)
        server.kill()
    assert len(tree) >= 4  # server, launcher, porter, zygote

    await until(lambda: not any(family(pid) for pid in tree))
    async with CodeInterpreter(settings=settings, preload=False) as interpreter:
        assert (await interpreter.run("print('works')")).stdout == "works\n"

    assert _mounts() == mounts
    assert list((settings.data_dir / "spool").iterdir()) == []
    # The next server sweeps what the last one could not.
    assert not _groups(server.pid)


#: What the owner of a session is told whose server stood still in the midst of a step.
STOPPED_SERVER: Final = {
    "running": ("completed", "completed"),
    "capturing": ("completed", "completed"),
    "closing": ("done", "closed"),
}


@pytest.mark.parametrize("step", ["opening", "opening of an init", "opening of a guest", "ready", *_LATER])
async def test_a_server_that_is_stopped_at_any_step_goes_on_as_if_nothing_had_been(step, bare_settings, family, until):
    settings, mounts = bare_settings(), _mounts()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, step, str(settings.data_dir)]
    with subprocess.Popen(  # noqa: ASYNC220
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "struck\n"
        tree = family(server.pid)
        await _stopped(server.pid, until)
        _go_on(server.pid)
        told, _ = server.communicate(timeout=60)

    assert server.returncode == 0
    assert tuple(told.split()) == STOPPED_SERVER.get(step, ("done", "completed"))
    await until(lambda: not any(family(pid) for pid in tree))
    assert _mounts() == mounts
    assert list((settings.data_dir / "spool").iterdir()) == []
    assert not _groups(server.pid)


@pytest.mark.parametrize("code_s", [0.2, 3.0], ids=["code that ends in time", "code that does not"])
async def test_time_in_which_a_server_stands_still_counts_and_what_was_done_meanwhile_is_not_lost(
    code_s, bare_settings, family, until
):
    """It stands still past the timeout, which is one second; a child of the code ends when the time has come."""
    settings = bare_settings()
    command = [sys.executable, __file__, f"late {code_s}", str(settings.data_dir)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(  # noqa: ASYNC220
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "begun\n"
        await _stopped(server.pid, until)
        (clock,) = (pid for pid in family(server.pid) if _name(pid) == "sleep")
        await until(lambda: not family(clock))
        _go_on(server.pid)
        told, _ = server.communicate(timeout=60)

    assert server.returncode == 0
    status, *rest = told.split()
    assert status in ({"completed", "timeout"} if code_s < 1 else {"timeout"})
    assert rest == ["made.txt", "completed"]


async def _stopped(pid: int, until: Any) -> None:
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


async def _run_late(code_s: str, settings: Settings) -> None:
    """Say how code ended that has a second of time and takes `code_s`, which files came out, and how the next did."""
    code = (
        "import subprocess, time\n"
        "open('made.txt', 'w').write('made')\n"
        "clock = subprocess.Popen(['sleep', '1.5'])\n"
        "print('begun', flush=True)\n"
        f"time.sleep({code_s})"
    )
    async with CodeInterpreter(settings=settings, preload=False) as interpreter, interpreter.session() as session:
        async for event in session.stream(code, timeout_s=1):
            if isinstance(event, Stdout):
                print("begun", flush=True)
            elif isinstance(event, Completed):
                result = event.result
                print(result.status.value, *(artifact.name for artifact in result.artifacts))
        print((await session.run("pass")).status.value)


def _serve(step: str, data_dir: str) -> None:
    """A server that comes to `step`, says so, and stays there until it is killed, or its input ends; then what was told."""

    def stay() -> None:
        print("struck", flush=True)
        sys.stdin.read()

    async def serve() -> None:
        name = "ready" if step == "ready" else "bare"
        settings = Settings(data_dir=Path(data_dir), environment=name, ready_sandboxes=1)
        if step.startswith("late "):
            await _run_late(step.removeprefix("late "), settings)
            return
        async with CodeInterpreter(settings=settings, preload=step == "ready") as interpreter:
            print(*await live(interpreter, step, stay, is_fatal=False))

    anyio.run(serve)


# ------------------------------------------------------------------------------------------------------- no room left


@pytest.fixture
def no_large_files():
    """Within it no file of this process can grow beyond 1 MiB: what a full disk does to it, without one."""

    @contextmanager
    def limited() -> Generator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.mark.parametrize(
    "code, expected",
    [
        ("open('large', 'wb').write(bytes(3 << 20))", "storage_failed"),
        (
            "for _ in range(3): print('x' * (1 << 20))",
            "completed",
        ),  # what is missing of the output is refused, in words
    ],
    ids=["file", "output"],
)
async def test_a_spool_without_room_is_said_to_be_so_or_listed_and_the_session_goes_on(
    bare_settings, no_large_files, open_descriptors, code, expected
):
    before = len(open_descriptors())
    async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
        async with interpreter.session() as session:
            await session.run("x = 41")
            with no_large_files():
                told = await _told(session.run(code))

            assert told == expected
            assert (await session.run("print(x + 1)")).stdout == "42\n"
        assert (await interpreter.run("print('works')")).stdout == "works\n"
    gc.collect()
    assert len(open_descriptors()) <= before


if __name__ == "__main__":
    _serve(*sys.argv[1:])
