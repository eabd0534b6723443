"""The kernel's own limit of memory and processes, on hosts that let us set one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from bichat.domain import Status
from bichat.sandbox.control_groups import ControlGroups
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sizes import GIB, MIB

GROUPS_ALONE = ALL_LAYERS - {Layer.WATCHDOG, Layer.RESOURCE_LIMITS}
NOTHING = GROUPS_ALONE - {Layer.CONTROL_GROUP}


@pytest.fixture
def groups() -> Generator[ControlGroups]:
    found = ControlGroups.find()
    if found is None:
        pytest.skip("this host lets us make no control groups")
    yield found
    found.close()


def ours() -> list[Path]:
    """Folders of groups that this process has made, in any hierarchy."""
    return [path for path in Path("/sys/fs/cgroup").rglob(f"bichat-{os.getpid()}-*") if path.is_dir()]


def test_eight_processes_that_fill_the_memory_together_are_ended_by_the_kernel_alone(groups, run_code, limits):
    code = """
        import time
        def fill():
            held = []
            while len(held) < 300:
                held.append(bytearray(os.urandom(1)) * (1 << 20))
        for _ in range(8):
            if os.fork() == 0:
                fill()
        answer("begun")
        time.sleep(60)
        """
    limits = replace(limits, memory_bytes=100 * MIB, disk_bytes=10 * MIB, timeout_s=20)

    outcome = run_code(code, limits=limits, layers=ALL_LAYERS - {Layer.RESOURCE_LIMITS})

    assert outcome.status is Status.OUT_OF_MEMORY


def test_memory_of_the_kernel_counts_too(groups, run_code, limits):
    code = """
        pipes = []
        for _ in range(400):
            ends = os.pipe()
            pipes.append(ends)
            os.set_blocking(ends[1], False)
            os.write(ends[1], bytes(1 << 16))
        answer(len(pipes))
        """
    small = replace(limits, memory_bytes=16 * MIB, disk_bytes=MIB)

    held = run_code(code, limits=small, layers=GROUPS_ALONE)
    passed = run_code(code, limits=small, layers=NOTHING)

    assert (held.status, passed.answer) == (Status.OUT_OF_MEMORY, 400)


def test_a_restarted_interpreter_is_in_the_group_of_the_first(groups, supervise, portal, limits):
    supervisor = supervise()
    sandbox = portal.call(supervisor.open, limits)
    first = sandbox.guest_pid
    sandbox.begin_restart()
    portal.call(sandbox.finish_restart)
    group = sandbox._group

    assert group is not None
    assert sandbox.guest_pid != first
    assert {(folder / "cgroup.procs").read_text() for folder in group._folders} == {f"{sandbox.guest_pid}\n"}
    portal.call(sandbox.close)
    assert group.is_empty


def test_groups_are_used_again_and_gone_with_their_supervisor(groups, run_code, limits):
    run_code("answer(1)", limits=limits)
    before = ours()
    for _ in range(5):
        assert run_code("answer(1)", limits=limits).answer == 1
        assert ours() == before

    assert run_code("answer(1)", limits=limits, fresh=True).answer == 1
    assert ours() == before


@pytest.mark.parametrize("name", [b"python", b"\xff) 0 0"], ids=repr)
def test_what_a_server_that_was_killed_has_left_is_swept_up(groups, name):
    code = (
        f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0)\n"  # PR_SET_NAME
        "from bichat.sandbox.control_groups import ControlGroups\n"
        "groups = ControlGroups.find()\n"
        "group = groups.take(1 << 30, 10)\n"
        "print(*group._folders, flush=True)\n"
        "import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        left = [Path(name) for name in server.stdout.readline().split()]
        groups.sweep()
        assert all(folder.is_dir() for folder in left)
        server.send_signal(signal.SIGKILL)
        server.wait()

    groups.sweep()

    assert left
    assert not any(folder.exists() for folder in left)


def test_a_group_that_somebody_has_removed_is_not_missed(groups):
    group = groups.take(64 * MIB, 10)
    groups.give_back(group)
    for folder in group._folders:
        folder.rmdir()

    other = groups.take(64 * MIB, 10)

    assert other is not group
    assert other.is_empty
    groups.give_back(other)


def test_the_group_of_a_server_in_another_pid_namespace_is_left_alone(groups):
    """Here its number may be nobody's."""
    group = groups.take(64 * MIB, 10)
    elsewhere = [folder.with_name(f"bichat-99999999-1-1-{'0' * 12}") for folder in group._folders]
    for folder in elsewhere:
        folder.mkdir()
    try:
        groups.sweep()

        assert all(folder.is_dir() for folder in elsewhere)
    finally:
        for folder in elsewhere:
            folder.rmdir()
        groups.give_back(group)


def test_a_group_that_was_exceeded_serves_the_next_one_as_new(groups):
    group = groups.take(64 * MIB, 10)
    hog = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(1); held = bytearray(b'x') * (1 << 28)"], stdin=-1
    )
    for folder in group._folders:
        (folder / "cgroup.procs").write_text(str(hog.pid))
    hog.communicate(b"1")

    assert hog.returncode == -signal.SIGKILL
    assert group.was_exceeded
    groups.give_back(group)
    assert groups.take(GIB, 10) is group
    assert not group.was_exceeded
