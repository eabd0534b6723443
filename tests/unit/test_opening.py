"""The descriptors that lead into a sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Generator

import anyio
import pytest

from bichat.errors import SandboxUnavailableError
from bichat.sandbox import wire
from bichat.sandbox.opening import GuestPipes, Opening, Pids, ready


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def box() -> Generator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end and init's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def ready_guest() -> Generator[GuestPipes]:
    """Has said that it takes code."""
    pipes = GuestPipes()
    os.write(pipes.theirs[0], b"ready")
    yield pipes
    pipes.abandon()


def test_the_pids_behind_a_descriptor_are_known_until_the_process_is_gone():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        descriptor = os.pidfd_open(process.pid)
        try:
            assert Pids.of(descriptor) == Pids(host=process.pid, inner=process.pid)
            process.communicate()
            assert Pids.of(descriptor).host == -1
        finally:
            os.close(descriptor)


def test_closing_twice_closes_nobody_elses_descriptors():
    pipes = GuestPipes()
    pipes.abandon()
    reader, writer = os.pipe()  # which has the numbers that have become free
    try:
        pipes.abandon()
        pipes.ours.close()
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_abandoned_leaves_no_descriptor(open_descriptors):
    before = open_descriptors()

    for _ in range(3):
        GuestPipes().abandon()
        pipes = GuestPipes()
        pipes.let_go()
        pipes.ours.close()
        Opening().abandon()
        opening = Opening()
        opening.let_go()
        opening.abandon()

    assert open_descriptors() == before


@pytest.mark.anyio
async def test_a_guest_gets_no_code_whose_init_could_not_put_up_its_walls(box, ready_guest):
    ours, init = box
    wire.send_control(init, {"failed": "seccomp", "errno": 1, "message": "no"})

    with pytest.raises(SandboxUnavailableError):
        await ready(ours, ready_guest.ours, 1)


@pytest.mark.anyio
async def test_who_was_cancelled_may_wait_again_until_init_is_closed(box, ready_guest):
    ours, init = box

    async with anyio.create_task_group() as group:
        group.start_soon(ready, ours, ready_guest.ours, 1)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught

    wire.send_control(init, {"closed": True})
    with anyio.fail_after(5):
        await ready(ours, ready_guest.ours, 1)
