"""Processes killed at the worst moment: the caller is told the truth, nothing is left, and the next run works."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from bichat.domain import Status
from bichat.errors import SandboxUnavailableError
from bichat.events import Stdout
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor
from bichat.sizes import MIB

WAIT = """
import os, signal, subprocess
open("begun.txt", "w").write("begun")
child = subprocess.Popen(["sleep", "1000"])
os.write(1, b"begun\\n")
signal.pause()
"""


@pytest.fixture
def supervisor(portal, open_environment, spool_folder, level) -> Iterator[Supervisor]:
    fresh = Supervisor(open_environment, spool_folder=spool_folder, layers=level.layers)
    with portal.wrap_async_context_manager(fresh):
        yield fresh


@pytest.fixture
def run_and_strike(portal, supervisor, limits, attack, open_descriptors):
    """Run `WAIT`; when it has begun, send SIGKILL to the process that `choose` picks; then run something else."""

    async def run(choose) -> tuple[Ended, str]:
        with anyio.fail_after(40):
            await attack(supervisor, "pass", limits=limits)
            before = len(open_descriptors())
            sandbox = await supervisor.open(limits)
            ended: Ended | None = None
            try:
                async for event in sandbox.execute(WAIT, name="main.py", timeout_s=20):
                    if isinstance(event, Stdout):
                        os.kill(choose(sandbox, await supervisor.zygote()), signal.SIGKILL)
                    elif isinstance(event, Ended):
                        ended = event
                captured = await sandbox.capture()
            finally:
                await sandbox.close()
            assert ended is not None
            assert [artifact.name for artifact in captured.artifacts] == ["begun.txt"]
            next_output = (await attack(supervisor, "print('works')", limits=limits)).stdout
            del captured  # which keeps the file that came out
            assert len(open_descriptors()) == before
            return ended, next_output

    return lambda choose: portal.call(run, choose)


def test_a_killed_guest_is_said_to_be_killed(run_and_strike):
    ended, next_output = run_and_strike(lambda sandbox, _: sandbox.guest_pid)

    assert ended.status is Status.KILLED
    assert ended.stdout.text == "begun\n"
    assert ended.error is not None
    assert "SIGKILL" in ended.error.message
    assert next_output == "works\n"


def test_a_killed_init_is_said_to_be_a_kill_from_outside(run_and_strike):
    ended, next_output = run_and_strike(lambda sandbox, _: sandbox.pid)

    assert ended.status is Status.KILLED
    assert ended.error is not None
    assert "from outside" in ended.error.message
    assert next_output == "works\n"


@pytest.mark.parametrize("which", [1, 2], ids=["porter", "zygote"])
def test_a_killed_porter_or_zygote_is_a_lost_session(run_and_strike, family, which):
    ended, next_output = run_and_strike(lambda _, zygote: family(zygote.pid)[which])

    assert ended.status is Status.SESSION_LOST
    assert next_output == "works\n"


def test_a_killed_launcher_takes_everything_with_it_and_is_a_lost_session(run_and_strike):
    ended, next_output = run_and_strike(lambda _, zygote: zygote.pid)

    assert ended.status is Status.SESSION_LOST
    assert next_output == "works\n"


@pytest.mark.parametrize("which", [0, 1, 2], ids=["launcher", "porter", "zygote"])
def test_a_zygote_that_dies_between_two_runs_is_replaced(portal, supervisor, limits, attack, family, which):
    portal.call(lambda: attack(supervisor, "pass", limits=limits))
    old = portal.call(supervisor.zygote)
    os.kill(family(old.pid)[which], signal.SIGKILL)

    outcome = portal.call(lambda: attack(supervisor, "print('works')", limits=limits))

    assert outcome.stdout == "works\n"
    assert portal.call(supervisor.zygote) is not old


def test_a_cancelled_caller_leaves_no_process(portal, supervisor, limits, family):
    async def run() -> tuple[list[int], list[int]]:
        idle = family((await supervisor.zygote()).pid)
        running: list[int] = []
        with anyio.CancelScope() as scope:
            sandbox = await supervisor.open(limits)
            try:
                async for event in sandbox.execute(WAIT, name="main.py", timeout_s=20):
                    if isinstance(event, Stdout):
                        running += family((await supervisor.zygote()).pid)
                        scope.cancel()
            finally:
                await sandbox.close()
        assert scope.cancelled_caught
        assert len(running) == len(idle) + 3
        return idle, family((await supervisor.zygote()).pid)

    idle, after = portal.call(run)

    assert after == idle


def test_a_caller_cancelled_while_its_sandbox_is_made_leaves_nothing_and_harms_nobody(
    portal, supervisor, limits, attack, family
):
    async def open_and_cancel() -> None:
        await supervisor.zygote()
        for checkpoints in range(8):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervisor.open, limits)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()

    zygote = portal.call(supervisor.zygote)
    portal.call(open_and_cancel)
    # The zygote answers in order: when this one is through, the abandoned ones have been forked.
    outcome = portal.call(lambda: attack(supervisor, "print('works')", limits=limits))
    until_gone(lambda: len(family(zygote.pid)) == 3)  # launcher, porter, zygote

    assert outcome.stdout == "works\n"
    assert portal.call(supervisor.zygote) is zygote


def until_gone(condition) -> None:
    """Wait for the kernel to finish what nobody else waits for; the test's own timeout is the bound."""
    while not condition():
        os.sched_yield()


def test_eight_runs_at_once_each_get_their_own_answer(portal, supervisor, limits, attack):
    answers: dict[int, str] = {}

    async def one(number: int) -> None:
        outcome = await attack(supervisor, f"print({number})", limits=limits)
        answers[number] = outcome.stdout

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(one, number)

    portal.call(all_at_once)

    assert answers == {number: f"{number}\n" for number in range(8)}


@pytest.mark.parametrize("which", [1, 2], ids=["porter", "zygote"])
def test_a_porter_or_zygote_that_could_not_fork_once_can_fork_again(portal, supervisor, limits, attack, family, which):
    zygote = portal.call(supervisor.zygote)
    pid = family(zygote.pid)[which]
    before, _ = resource.getrlimit(resource.RLIMIT_NPROC)  # ours, which it has inherited
    allow_processes(pid, "1", zygote.host_id)
    with pytest.raises(SandboxUnavailableError, match="forked"):
        portal.call(supervisor.open, limits)
    allow_processes(pid, str(before) if before != resource.RLIM_INFINITY else "unlimited", zygote.host_id)

    outcome = portal.call(lambda: attack(supervisor, "print('works')", limits=limits))

    assert outcome.stdout == "works\n"
    assert portal.call(supervisor.zygote) is zygote


def allow_processes(pid: int, number: str, uid: int) -> None:
    """As the user that runs it: a container's root may not."""
    command = ["prlimit", "--pid", str(pid), f"--nproc={number}:"]
    owner = uid if os.geteuid() == 0 else None
    subprocess.run(command, check=True, user=owner, group=owner, extra_groups=None if owner is None else [])


@pytest.mark.parametrize("free", range(8))
def test_a_server_out_of_descriptors_says_so_and_loses_none(portal, supervisor, limits, attack, open_descriptors, free):
    portal.call(lambda: attack(supervisor, "pass", limits=limits))
    zygote = portal.call(supervisor.zygote)
    before = len(open_descriptors())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as fillers:
        # Every number up to the highest in use is taken, so that the limit leaves exactly `free` of them.
        highest = max(map(int, os.listdir("/proc/self/fd")))
        lowest = -1
        while lowest < highest:
            lowest = os.open("/dev/null", os.O_RDONLY)
            fillers.callback(os.close, lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1 + free, hard))
        try:
            with pytest.raises(SandboxUnavailableError, match="out of file descriptors"):
                portal.call(supervisor.open, limits)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(open_descriptors()) == before
    assert portal.call(lambda: attack(supervisor, "print('works')", limits=limits)).stdout == "works\n"
    assert portal.call(supervisor.zygote) is zygote


def test_two_hundred_runs_grow_nothing(portal, supervisor, limits, attack, family, spool_folder, open_descriptors):
    async def runs(number: int) -> None:
        for _ in range(number):
            outcome = await attack(supervisor, "open('x', 'w').write('x' * 1000); print(1)", limits=limits)
            assert outcome.stdout == "1\n"

    def footprint() -> dict[str, Any]:
        gc.collect()
        launcher = portal.call(supervisor.zygote).pid
        return {
            "descriptors": len(open_descriptors()),
            "threads": threading.active_count(),
            "processes": family(launcher),
            "descriptors of the zygote": [len(os.listdir(f"/proc/{pid}/fd")) for pid in family(launcher)],
            "mounts": Path("/proc/self/mountinfo").read_text(encoding="utf-8"),
            "temporary files": os.listdir(spool_folder),
        }

    portal.call(runs, 20)
    before, memory_before = footprint(), resident_bytes("self")
    zygote = family(portal.call(supervisor.zygote).pid)[2]
    zygote_before = resident_bytes(zygote)

    portal.call(runs, 180)

    after = footprint()
    # The server's idle worker threads end by themselves.
    assert after.pop("threads") <= before.pop("threads")
    assert after == before
    assert resident_bytes("self") - memory_before < 10 * MIB
    assert resident_bytes(zygote) - zygote_before < 2 * MIB


def resident_bytes(pid: int | str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


SERVER = """
import sys
import anyio
from pathlib import Path
from bichat.domain import Limits
from bichat.sandbox.environments.environment import read_manifest
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.supervisor import Supervisor

WAIT = sys.argv[3]

async def main():
    layers = Level(sys.argv[4]).layers
    async with Supervisor(read_manifest(Path(sys.argv[1])), spool_folder=Path(sys.argv[2]), layers=layers) as supervisor:
        sandbox = await supervisor.open(Limits())
        async for event in sandbox.execute(WAIT, name="main.py", timeout_s=60):
            zygote = await supervisor.zygote()
            print(zygote.pid, sandbox.pid, flush=True)

anyio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_server_killed_while_code_runs_leaves_nothing(
    portal, supervisor, limits, attack, family, open_environment, tmp_path, number, level
):
    manifest = open_environment.path / "environment.json"
    manifest.write_text(json.dumps(open_environment.to_dict()), encoding="utf-8")
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    command = [sys.executable, "-c", SERVER, str(open_environment.path), str(tmp_path), WAIT, level]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        launcher, init = map(int, server.stdout.readline().split())
        tree = family(server.pid)
        server.send_signal(number)

    until_gone(lambda: not any(alive(pid) for pid in tree))

    assert {launcher, init} < set(tree)
    assert len(tree) == 7  # server, launcher, porter, zygote, init, guest, its child
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8") == mounts
    assert portal.call(lambda: attack(supervisor, "print('works')", limits=limits)).stdout == "works\n"


@pytest.mark.parametrize("which", [1, 2], ids=["porter", "zygote"])
def test_a_server_killed_while_another_process_is_stopped_leaves_nothing(
    family, open_environment, tmp_path, level, which
):
    manifest = open_environment.path / "environment.json"
    manifest.write_text(json.dumps(open_environment.to_dict()), encoding="utf-8")
    command = [sys.executable, "-c", SERVER, str(open_environment.path), str(tmp_path), WAIT, level]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        launcher, _ = map(int, server.stdout.readline().split())
        tree = family(server.pid)
        os.kill(family(launcher)[which], signal.SIGSTOP)
        server.kill()

    until_gone(lambda: not any(alive(pid) for pid in tree))


def alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False
