"""No more processes, or descriptors, or memory: at whatever step, the owner is told in words, and it goes on after.

Each test is a child process whose limits are its own; this file is its program, too.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import anyio.to_thread
import pytest

import bichat.interpreter
from bichat import CodeInterpreter, Limits
from bichat.errors import BichatError
from bichat.sandbox.control_groups import ControlGroups
from bichat.sandbox.isolation.layers import Layer, Level
from bichat.sandbox.supervisor import Supervisor
from bichat.settings.settings import Settings
from bichat.sizes import MIB

LARGE = "open('large', 'wb').write(bytes(3 << 20)); print('made')"


@pytest.fixture
def scarce(open_data_dir, strange_host):
    """`scarce("story", level)`: what a child tells that lives through it in namespaces where nobody else counts."""

    def run(story: str, level: Level) -> Any:
        command = [*strange_host("processes"), sys.executable, __file__, story, level.value, str(open_data_dir)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


def test_a_process_that_cannot_be_forked_is_said_to_be_so_whoever_it_is(scarce, level):
    told = scarce("processes", level)

    refused = [first for first, _ in told if first != "works\n"]
    assert {error["code"] for error in refused} == {"sandbox_unavailable"}
    assert all("forked" in error["message"] and "ulimit -u" in error["remedy"] for error in refused), refused
    assert len(refused) >= 3  # launcher (an ordinary user's), porter, zygote, init, guest, for as many as are in line
    assert {error["stage"] for error in refused} >= {"zygote: fork", "sandbox: fork"}
    assert [again for _, again in told] == ["works\n"] * len(told)


def test_descriptors_that_run_out_at_any_step_are_an_error_in_words_and_none_is_lost(scarce, level):
    lived = scarce("descriptors", level)

    assert [one for one in lived["told"] if one["raised"] not in EXPECTED[one["step"]]] == []
    assert [one for one in lived["told"] if one["next"] != "works\n"] == []
    before, after = lived["descriptors"]
    assert after <= before


def test_a_guest_with_nearly_all_its_memory_in_use_has_large_files_captured_and_goes_on(scarce, level):
    told = scarce("memory", level)

    assert told == {
        "held": ["completed", True, {"0.bin": 20 * MIB, "1.bin": 20 * MIB}],
        "again": ["completed", True, {"0.bin": 20 * MIB, "1.bin": 20 * MIB}],
        "too much": ["out_of_memory", {"0.bin": 20 * MIB, "1.bin": 20 * MIB}],
        "next": "works\n",
    }


def test_a_process_of_ours_that_gets_no_more_memory_harms_one_run_at_most_and_is_told_of_in_words(scarce, level):
    told = scarce("pressure", level)

    assert {one["who"] for one in told} == {"launcher", "porter", "zygote", "server"}
    assert [one for one in told if one["next"] != "works\n"] == []
    assert [one for one in told if one["first"] not in PRESSED] == []
    assert [one for one in told if one["first"] != "made\n"] != []


def test_where_the_kernel_has_to_kill_for_memory_code_goes_first_and_the_server_lives(scarce, level):
    told = scarce("shortage", level)
    if told is None:
        pytest.skip("this host lets us make no control groups")

    assert told["first"] in {"killed", "out_of_memory"}
    assert told["killed"]
    assert told["next"] == "works\n"


#: What is told of a run while a process of ours gets no more memory: it works all the same, or one of these errors.  The
#: last is the code's own, whose process has inherited the limit, or the server's.
PRESSED = {"made\n", "sandbox_unavailable", "sandbox_lost", "session_ended", "storage_failed", "MemoryError"}
#: By step, the codes of errors and the outputs that may come, with however many descriptors left.
EXPECTED = {
    "running": ("made\n", "storage_failed"),
    "putting": ("done", "sandbox_unavailable"),
    "listing": ("done", "storage_failed"),
    "opening": ("done", "storage_failed"),
    "restarting": ("done", "sandbox_unavailable", "session_ended"),
}


# ------------------------------------------------------------------------------------------------ what the child does


async def processes(interpreters: Callable[[], CodeInterpreter]) -> Any:
    """With one process more each time, until there are enough: what was told first, and without the limit."""
    await anyio.to_thread.run_sync(lambda: None)  # the thread that interpreters work with
    told: list[Any] = []
    for number in range(1, 40):
        async with interpreters() as interpreter:
            with _limited(resource.RLIMIT_NPROC, number):
                first = await _told(interpreter.run("print('works')"))
        async with interpreters() as interpreter:  # the processes of the first have inherited the limit
            told.append((first, await _told(interpreter.run("print('works')"))))
        if first == "works\n":
            break
    return told


async def descriptors(interpreters: Callable[[], CodeInterpreter]) -> Any:
    told: list[Any] = []
    async with interpreters() as interpreter:
        async with interpreter.session() as session:
            await session.run("pass")
            await session.put("a", b"a")
        before = _open_descriptors()
        for step in EXPECTED:
            for free in range(8):
                async with interpreter.session() as session:
                    await session.run("open('small', 'w').write('1')")
                    calls: dict[str, Callable[[], Awaitable[Any]]] = {
                        "running": functools.partial(session.run, LARGE),
                        "putting": functools.partial(session.put, "a.txt", Path(__file__)),
                        "listing": session.files,
                        "opening": functools.partial(session.open, "small"),
                        "restarting": session.restart,
                    }
                    with _few_descriptors(free):
                        raised = await _told(calls[step]())
                del session, calls
                following = await _told(interpreter.run("print('works')"))
                raised = raised["code"] if isinstance(raised, dict) else raised
                told.append({"step": step, "free": free, "raised": raised, "next": following})
        gc.collect()
        with anyio.move_on_after(10):
            while _open_descriptors() > before:  # noqa: ASYNC110  # sandboxes are closed behind the answers
                await anyio.sleep(0.005)
        return {"told": told, "descriptors": [before, _open_descriptors()]}


async def memory(interpreters: Callable[[], CodeInterpreter]) -> Any:
    """Files are copied while the guest holds nine tenths of its memory, and while it is killed for more."""
    fill = "for number in range(2): open(f'{number}.bin', 'wb').write(bytes([cell]) * (20 << 20))"
    told: dict[str, Any] = {}
    async with interpreters() as interpreter:
        async with interpreter.session() as session:
            hold = "held = bytearray(b'x') * (210 << 20)"
            for cell, name in enumerate(("held", "again")):
                result = await session.run(f"cell = {cell}; {hold if cell == 0 else 'pass'}\n{fill}")
                told[name] = [result.status, result.session_alive, {a.name: a.size_bytes for a in result.artifacts}]
            result = await session.run(
                f"cell = 2\n{fill}\nimport multiprocessing as mp, time\n"
                "def eat(): held[::4096] = bytes(len(held) // 4096); time.sleep(60)\n"
                "children = [mp.get_context('fork').Process(target=eat) for _ in range(4)]\n"
                "for child in children: child.start()\n"
                "for child in children: child.join()\n"
                "time.sleep(60)"
            )
            told["too much"] = [result.status, {a.name: a.size_bytes for a in result.artifacts}]
        told["next"] = await _told(interpreter.run("print('works')"))
    return told


async def pressure(interpreters: Callable[[], CodeInterpreter]) -> Any:
    """Each of our processes in turn may have no more memory than it has, or a little more, while code runs."""
    told: list[Any] = []
    for who in ("launcher", "porter", "zygote", "server"):
        for free in (0, MIB):
            async with interpreters() as interpreter:
                await interpreter.run("pass")
                pid = _processes_of_ours()[who]
                with _no_more_memory(pid, free):
                    try:
                        result = await interpreter.run(LARGE)
                        first = result.stdout or (result.error.name if result.error else "")
                    except BichatError as error:
                        first = error.code
                    except MemoryError:
                        first = "MemoryError"
                following = await _told(interpreter.run("print('works')"))
                told.append({"who": who, "free": free, "first": first, "next": following})
    return told


async def shortage(interpreters: Callable[[], CodeInterpreter]) -> Any:
    """All of us together may have less than what code has been promised."""
    groups = ControlGroups.find()
    if groups is None:
        return None
    group = groups.take(160 * MIB, 400)
    for folder in group._folders:
        (folder / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    try:
        async with interpreters() as interpreter:
            async with interpreter.session() as session:
                result = await session.run("held = [bytearray(b'x') * (1 << 20) for _ in range(220)]")
            told = {"first": result.status.value, "killed": group.was_exceeded}
            told["next"] = await _told(interpreter.run("print('works')"))
        return told
    finally:
        for folder in group._folders:
            (folder.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        groups.close()


def _processes_of_ours() -> dict[str, int]:
    """The server, and those that it has started, each the first of the one before."""
    found = {"server": os.getpid()}
    for who, parent in (("launcher", "server"), ("porter", "launcher"), ("zygote", "porter")):
        tasks = Path(f"/proc/{found[parent]}/task").iterdir()
        children = [pid for task in tasks for pid in (task / "children").read_text(encoding="ascii").split()]
        found[who] = int(children[0])
    return found


@contextmanager
def _limited(kind: int, number: int) -> Generator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def _no_more_memory(pid: int, free: int) -> Generator[None]:
    """The process may have what it has, and `free` bytes; set as the user that runs it: a container's root may not."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    owner = int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").partition("\nUid:")[2].split()[0])
    before, _ = resource.getrlimit(resource.RLIMIT_AS)  # ours, which it has inherited

    def allow(limit: int) -> None:
        command = ["prlimit", "--pid", str(pid), f"--as={'unlimited' if limit < 0 else limit}:"]
        if pid == os.getpid():
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        elif os.geteuid() == 0:
            subprocess.run(command, check=os.path.exists(f"/proc/{pid}"), user=owner, group=owner, extra_groups=[])
        else:
            subprocess.run(command, check=os.path.exists(f"/proc/{pid}"))

    allow(pages * resource.getpagesize() + free)
    try:
        yield
    finally:
        allow(before)


@contextmanager
def _few_descriptors(free: int) -> Generator[None]:
    with ExitStack() as fillers:
        # Every number up to the highest in use is taken, so that the limit leaves exactly `free` of them.
        highest = max(map(int, os.listdir("/proc/self/fd")))
        lowest = -1
        while lowest < highest:
            lowest = os.open("/dev/null", os.O_RDONLY)
            fillers.callback(os.close, lowest)
        with _limited(resource.RLIMIT_NOFILE, lowest + 1 + free):
            yield


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _told(call: Awaitable[Any]) -> Any:
    try:
        result = await call
    except BichatError as error:
        return error.to_dict()
    return getattr(result, "stdout", "done")


async def _live(story: Callable[..., Awaitable[Any]], level: Level, data_dir: Path) -> None:
    limits = Limits(timeout_s=20, memory_bytes=256 * MIB, disk_bytes=64 * MIB)
    settings = Settings(data_dir=data_dir, environment="bare", limits=limits)
    # Sandboxes that enter groups of their own would leave the one that all of us are in.
    left_out = {Layer.CONTROL_GROUP} if story is shortage else set()
    at_level = functools.partial(Supervisor, layers=level.layers - left_out)
    with anyio.fail_after(150), patch.object(bichat.interpreter, "Supervisor", at_level):
        told = await story(lambda: CodeInterpreter(settings=settings, preload=False))
    print(json.dumps(told))


if __name__ == "__main__":
    anyio.run(_live, globals()[sys.argv[1]], Level(sys.argv[2]), Path(sys.argv[3]))
