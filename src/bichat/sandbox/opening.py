"""The descriptors that lead into a sandbox that is coming to life: made in pairs, one end each for the supervisor."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio

from bichat.errors import SandboxLostError
from bichat.sandbox import wire
from bichat.sandbox.nursery import refusal

#: What init says when nobody can look into it any more.
_CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class Pids:
    """What a process is called on the host, and in its own pid namespace; -1 where it is gone."""

    host: int
    inner: int

    @staticmethod
    def of(process_descriptor: int) -> Pids:
        """Of the process that a pidfd refers to (`/proc/self/fdinfo`, proc(5))."""
        host = inner = -1
        with open(f"/proc/self/fdinfo/{process_descriptor}", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pid:"):
                    host = int(line.split()[1])
                elif line.startswith("NSpid:"):
                    inner = int(line.split()[-1])
        return Pids(host, inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """The supervisor's ends of everything that leads into one sandbox.  Descriptors are owned by the sandbox."""

    box: socket.socket
    """Control messages with init."""
    guest: GuestEnds
    process: int
    """pidfd of init; readable once the whole tree is dead."""
    guest_pids: Pids
    """Of the guest."""
    folder: int
    """The guest's `/mnt/data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEnds:
    """The supervisor's ends of everything that leads to one guest."""

    channel: socket.socket
    """Frames."""
    output: int
    errors: int

    def close(self) -> None:
        """Let go of all of them; may be called again."""
        if self.channel.fileno() < 0:
            return  # the other numbers may be somebody else's by now
        self.channel.close()
        for descriptor in (self.output, self.errors):
            os.close(descriptor)


class GuestPipes:
    """A channel and two pipes for a guest that does not exist yet: ours, and the other ends until they are sent."""

    def __init__(self) -> None:
        with ExitStack() as undo:
            channel, their_channel = map(undo.enter_context, socket.socketpair(socket.AF_UNIX))
            output, their_output = _pipe(undo)
            errors, their_errors = _pipe(undo)
            undo.pop_all()
        self.ours = GuestEnds(channel=channel, output=output, errors=errors)
        self.theirs = [their_channel.detach(), their_output, their_errors]

    def let_go(self) -> None:
        """Close the other ends here, so that their real owner's end is the end."""
        while self.theirs:
            os.close(self.theirs.pop())

    def abandon(self) -> None:
        """Close both sides."""
        self.let_go()
        self.ours.close()


class Opening:
    """Of one sandbox: what is asked of the zygote goes out with `theirs`, what comes back are `handles`."""

    def __init__(self, entrances: Sequence[int] = (), hear_denials: Callable[[int], None] | None = None) -> None:
        """What it is made with.

        Args:
            entrances: of the sandbox's control group; ours from now on.
            hear_denials: is given the listener of a guest that was asked for with one, and owns it.
        """
        self._hear_denials = hear_denials
        self._entrances = list(entrances)
        try:
            self._pipes = GuestPipes()
        except BaseException:
            self._close_entrances()
            raise
        try:
            self._box, their_box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except BaseException:
            self._pipes.abandon()
            self._close_entrances()
            raise
        self._box.setblocking(False)  # positional in the standard library
        self._received: list[int] = []
        self._their_box = [their_box.detach()]

    @property
    def theirs(self) -> list[int]:
        """Init's control socket, the guest's channel, its stdout and stderr, and the entrances to its control group."""
        return [*self._their_box, *self._pipes.theirs, *self._entrances]

    def let_go(self) -> None:
        """Close the other ends here, so that their real owner's end is the end."""
        self._pipes.let_go()
        while self._their_box:
            os.close(self._their_box.pop())
        self._close_entrances()

    def abandon(self) -> None:
        """Close everything.  A sandbox that came to life is killed where we have its init's handle by now; else it ends
        when its init finds the box closed, which one that is stopped never does.
        """
        self.let_go()
        for process in self._received[:1]:
            with suppress(OSError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        self._pipes.abandon()
        self._box.close()
        for descriptor in self._received:
            with suppress(OSError):
                os.close(descriptor)

    def _close_entrances(self) -> None:
        while self._entrances:
            os.close(self._entrances.pop())

    async def handles(self) -> Handles:
        """Wait until the guest says that it is ready for code, and init that nobody can look into it any more.

        Raises:
            SandboxLostError: it, or the zygote, died on the way.
            SandboxUnavailableError: a wall could not be put up.
        """
        process, folder = self._received = await receive_handles(self._box, 1)
        with unless_ended(process, self._box, 1):
            pids = await introduction(self._box, 1)
            is_closed = False
            if self._hear_denials is not None:
                descriptors: list[int] = []
                while not descriptors:
                    message, descriptors = await _receive(self._box, 1)
                    is_closed = is_closed or _CLOSED in message
                self._hear_denials(*descriptors)
            await ready(self._box, self._pipes.ours, 1, is_closed=is_closed)
        return Handles(box=self._box, guest=self._pipes.ours, process=process, guest_pids=pids, folder=folder)


@contextmanager
def unless_ended(process: int, box: socket.socket, number: int) -> Generator[None]:
    """Within it, whoever waits for guest `number` of the room waits no longer than init lives, of which `process` is a pidfd.

    The end of the box would not tell: the zygote and the guest have the other end, too, and without a pid namespace
    they outlive init.

    Raises:
        As `Opening.handles`.
    """
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:

        def cancel() -> None:
            loop.remove_reader(process)
            scope.cancel()

        loop.add_reader(process, cancel)
        try:
            yield
        finally:
            loop.remove_reader(process)
    if scope.cancelled_caught:
        with suppress(BlockingIOError):
            while True:  # what it said last
                for descriptor in _checked(wire.receive_control(box), number)[1]:
                    os.close(descriptor)
        raise SandboxLostError("the sandbox died before it was ready", stage="sandbox")


async def introduction(box: socket.socket, number: int) -> Pids:
    """The pids of guest `number` of a room, which has entered it.  Init is told, closes itself to everybody, and says so.

    Raises:
        As `Opening.handles`.
    """
    (guest,) = await receive_handles(box, number)
    try:
        pids = Pids.of(guest)
    finally:
        os.close(guest)
    try:
        wire.send_control(box, {"guest": pids.inner})
    except OSError as error:
        raise SandboxLostError("the sandbox died before it was ready", stage="sandbox") from error
    return pids


async def ready(box: socket.socket, guest: GuestEnds, number: int, *, is_closed: bool = False) -> None:
    """Wait until guest `number` of a room takes code, and its init, which was told of it, stands behind all its walls.

    `is_closed` where init has said so already.  A caller that was cancelled may wait again.

    Raises:
        As `Opening.handles`.
    """
    await anyio.wait_readable(guest.channel)
    if not guest.channel.recv(1, socket.MSG_PEEK):
        await receive_handles(box, number)  # it has ended, and over the box comes why
    while not is_closed:
        is_closed = _CLOSED in (await _receive(box, number))[0]
    guest.channel.recv(4096)


async def receive_handles(box: socket.socket, number: int) -> list[int]:
    """The descriptors that come next over the box, while guest `number` of the room is on its way.

    Raises:
        As `Opening.handles`.
    """
    while True:
        _, descriptors = await _receive(box, number)
        if descriptors:
            return descriptors


async def _receive(box: socket.socket, number: int) -> tuple[dict[str, Any], list[int]]:
    """The next message over the box, which never blocks, unless it says that this is the end.

    Raises:
        As `Opening.handles`.
    """
    while True:
        try:
            return _checked(wire.receive_control(box), number)
        except BlockingIOError:
            await anyio.wait_readable(box)


def _checked(received: tuple[dict[str, Any], list[int]] | None, number: int) -> tuple[dict[str, Any], list[int]]:
    # ESRCH: what a guest was to enter has died, with the init that made it.
    if received is not None and "failed" in received[0] and received[0].get("errno") != errno.ESRCH:
        raise refusal(received[0], "sandbox")
    if received is None or "failed" in received[0] or ("ended" in received[0] and received[0].get("guest") == number):
        raise SandboxLostError("the sandbox died before it was ready", stage="sandbox")
    return received


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends
