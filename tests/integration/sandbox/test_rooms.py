"""Rooms of one zygote: what their guests try on those who make them, and on each other, by way of what they share."""

from __future__ import annotations

import os
import platform

import anyio
import pytest

from bichat.domain import Status
from bichat.sandbox.sandbox import Ended

COLUMN = ("x86_64", "aarch64").index(platform.machine()) if platform.machine() in ("x86_64", "aarch64") else -1
pytestmark = pytest.mark.skipif(COLUMN < 0, reason=f"no system call numbers for {platform.machine()} in these tests")

CLONE = (56, 220)[COLUMN]
SIGCHLD = 17
CLONE_PARENT = 0x8000
CHANNEL = """
import socket, struct
channel = next(number for number, target in descriptors().items() if target.startswith("socket:"))
def frame(payload):
    return struct.pack(">I", len(payload)) + payload
"""


# ------------------------------------------------------------------------------------------- who makes rooms and guests


@pytest.mark.parametrize("signal_number", [SIGCHLD, 9], ids=["SIGCHLD", "SIGKILL"])
def test_a_guest_cannot_give_the_zygote_a_child(run_code, supervise, portal, open_sandbox, signal_number):
    supervisor = supervise()
    before = portal.call(supervisor.zygote)
    with open_sandbox(supervisor) as other:
        outcome = run_code(
            """
            made = _libc.syscall(ctypes.c_long(number), ctypes.c_long(flags), None, None, None, None)
            if made == 0:
                os._exit(0)
            answer([made, errno.errorcode.get(ctypes.get_errno())])
            """,
            given={"number": CLONE, "flags": CLONE_PARENT | signal_number},
        )
        alive = not other.gone

    assert outcome.status is Status.COMPLETED
    assert outcome.answer == [-1, "EPERM"]
    assert alive
    assert portal.call(supervisor.zygote) is before


def test_a_guest_does_not_learn_how_many_others_there_are(run_code, supervise, open_sandbox):
    with open_sandbox(supervise()), open_sandbox(supervise()):
        outcome = run_code(
            """
            import sys
            frame, found = sys._getframe(), None
            while frame:
                if frame.f_code.co_name == "_fork":
                    found = len(frame.f_locals["self"]._guests)
                frame = frame.f_back
            answer(found)
            """
        )

    assert outcome.answer == 0


# ------------------------------------------------------------------------------------------- what all rooms have in common


@pytest.mark.parametrize("command, value", [(1024, 0), (1024, 1), (1026, 1)], ids=["read", "write", "notice"])
def test_nobody_makes_others_wait_for_a_file_that_all_read_nor_hears_of_it(run_code, command, value):
    outcome = run_code(
        """
        import fcntl
        paths = (os.__file__, os.path.dirname(os.__file__), "/mnt/data/own")
        open(paths[-1], "w").close()
        descriptors = [os.open(path, os.O_RDONLY) for path in paths]
        answer([attempt(fcntl.fcntl, each, command, value) for each in descriptors])
        """,
        given={"command": command, "value": value},
    )

    assert outcome.answer == ["EPERM"] * 3


def test_the_channel_gives_no_handle_on_the_server(run_code):
    outcome = run_code(
        CHANNEL
        + """
SO_PASSPIDFD, SO_PEERPIDFD = 76, 77
taken = socket.socket(fileno=os.dup(channel))
answer([
    attempt(taken.getsockopt, socket.SOL_SOCKET, SO_PEERPIDFD, 4),
    attempt(taken.setsockopt, socket.SOL_SOCKET, SO_PASSPIDFD, 1),
])
"""
    )

    assert outcome.answer == ["EPERM", "EPERM"]


# ---------------------------------------------------------------------------------------------------------- a fresh start


def test_after_a_restart_nothing_of_the_last_guest_is_left_to_count(portal, supervise, open_sandbox, limits):
    crowd = """
import os, signal
number = 0
try:
    while True:
        if os.fork() == 0:
            while True:
                signal.pause()
        number += 1
except BlockingIOError:
    print(number)
"""

    async def crowds(sandbox) -> list[int]:
        found: list[int] = []
        with anyio.fail_after(40):
            for _ in range(6):
                execution = sandbox.execute(crowd, name="main.py", timeout_s=10)
                found += [int(event.stdout.text) async for event in execution if isinstance(event, Ended)]
                sandbox.begin_restart()
                await sandbox.finish_restart()
        return found

    with open_sandbox(supervise()) as sandbox:
        found = portal.call(crowds, sandbox)

    assert found == [limits.pids - 1] * 6


def test_nobody_can_look_into_an_init_once_its_guest_takes_code(portal, supervise, open_sandbox):
    with open_sandbox(supervise()) as sandbox:
        first = os.stat(f"/proc/{sandbox.pid}/environ").st_uid
        portal.call(sandbox.begin_restart)
        portal.call(sandbox.finish_restart)
        again = os.stat(f"/proc/{sandbox.pid}/environ").st_uid

    # That is how procfs shows a process as undumpable (proc(5)): what is in it belongs to root.
    assert (first, again) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the descriptors of an init")
def test_the_zygotes_report_of_an_ended_guest_changes_nothing_of_the_socket_that_init_has_too(
    portal, supervise, open_sandbox
):
    with open_sandbox(supervise()) as sandbox:
        before = flags_of_descriptors(sandbox.pid)
        portal.call(sandbox.begin_restart)
        portal.call(sandbox.finish_restart)
        after = flags_of_descriptors(sandbox.pid)

    assert {number: after.get(number) for number in before} == before


def flags_of_descriptors(pid: int) -> dict[str, str]:
    """Of each descriptor of a process, those that `fcntl` shows: O_NONBLOCK belongs to all who share what is open."""
    found: dict[str, str] = {}
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            found[number] = next(line for line in file if line.startswith("flags:"))
    return found
