"""The supervisor's side of one guest: what it prints and displays, read without waiting, in the order it happened.

Output comes through pipes and displayed values through a channel.  A guest that sends a value says how much it had
printed by then; so nothing is read from a pipe before the channel has been looked at, and a value waits until
everything that was printed before it has been read.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import termios
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, Final

import anyio

from bichat.errors import SandboxLostError
from bichat.events import Displayed, Stderr, Stdout
from bichat.sandbox import wire
from bichat.sandbox.opening import GuestEnds
from bichat.sandbox.results import MAX_RESULTS_BYTES
from bichat.sandbox.transcript import Transcript
from bichat.sizes import MIB

#: Bytes that are read from a descriptor at a time.
READ_BYTES: Final = 64 * 1024
#: Frames of one execution, and their bytes: a loop that displays something is far below; a flood would keep the
#: supervisor busy.
_MAX_FRAMES: Final = 100_000
_MAX_HEARD_BYTES: Final = 512 * MIB
#: Elements of all displayed values of one execution: decoded they may be kept, sixty bytes each.
_MAX_ELEMENTS: Final = 4 * wire.MAX_DISPLAY_ELEMENTS
_DISPLAY: Final = b'{"display"'
#: What stands for a displayed value that was not looked into.
_OMITTED: Final[dict[str, Any]] = {"omitted": True}
#: Longest wait for init to deliver an interrupt; it does nothing else.
_DELIVERY_S: Final = 5.0

Output = Stdout | Stderr | Displayed


class Connection:
    """With one guest and its init.  Owns the guest's ends; `box` and `process` are the sandbox's."""

    def __init__(self, guest: GuestEnds, box: socket.socket, process: int, number: int) -> None:
        """With guest `number` of the room."""
        self.dead = False
        """The whole tree is gone, or let go of: nothing more will be heard."""
        self.garbled = False
        """The guest sent what is no frame; nothing more is read from its channel."""
        self.exit_code: int | None = None
        """How the guest ended, as the kernel told its parent; negative for a signal."""
        self._guest = guest
        self._number = number
        self._box = box
        self._process = process
        self._pipes = (guest.output, guest.errors)
        #: Those that have a writer still, as far as we know.
        self._open_pipes = set(self._pipes)
        self._held = False
        #: Bytes read from each pipe since the guest began.
        self._read_bytes = [0, 0]
        #: Frames that wait for output that was printed before them.
        self._waiting: deque[tuple[dict[str, Any], int]] = deque()
        self._reader = wire.FrameReader(wire.MAX_DISPLAY_BYTES)
        self._frames = self._display_bytes = self._reply_bytes = self._elements = 0
        self._interrupts = 0
        self._closed = False
        self._epoll = select.epoll()
        for descriptor in (box.fileno(), guest.channel.fileno(), *self._pipes):
            os.set_blocking(descriptor, False)  # positional in the standard library
            self._epoll.register(descriptor, select.EPOLLIN)
        self._epoll.register(process, select.EPOLLIN)

    def close(self) -> None:
        """Let go of the guest; may be called again.  Whoever waits goes on, and hears nothing more."""
        if self._closed:
            return  # its descriptors may be somebody else's by now
        self._closed = self.dead = True
        anyio.notify_closing(self._epoll.fileno())
        anyio.notify_closing(self._guest.channel)
        self._epoll.close()
        self._guest.close()

    async def send(self, message: dict[str, Any]) -> None:
        """Hand `message` over to the guest, waiting for it to take it.

        Raises:
            SandboxLostError: it is dead.
        """
        rest = memoryview(wire.encode_frame(message))
        try:
            while rest:
                rest = rest[await self._send_some(rest) :]
        except (OSError, anyio.ClosedResourceError) as error:
            raise SandboxLostError("the sandbox died before the code was handed over", stage="run") from error

    async def _send_some(self, rest: memoryview) -> int:
        try:
            return self._guest.channel.send(rest)
        except BlockingIOError:
            await anyio.wait_writable(self._guest.channel)
            return 0

    def interrupt(self) -> None:
        """Have init interrupt the guest, as Ctrl-C does."""
        with suppress(OSError):
            wire.send_control(self._box, {"interrupt": True})
            self._interrupts += 1

    async def interrupted(self) -> None:
        """Wait until every interrupt has been delivered: one that came late would hit the next execution."""
        with anyio.move_on_after(_DELIVERY_S), suppress(anyio.ClosedResourceError):
            while self._interrupts and not self._closed:
                await anyio.wait_readable(self._box)
                self._read_control()

    async def wait(self) -> None:
        """Wait until there is something to read, or the tree is dead."""
        if not self._closed:
            with suppress(anyio.ClosedResourceError):
                await anyio.wait_readable(self._epoll.fileno())

    def look(self) -> None:
        """Take notice of what init and zygote have said; afterwards `exit_code` is up to date."""
        if not self._closed:
            self._read_control()

    def hold(self, *, is_held: bool) -> None:
        """Leave output in its pipes from now on, or take it again; everything else is heard as before."""
        if self._closed or is_held == self._held:
            return
        self._held = is_held
        for pipe in self._open_pipes:
            if is_held:
                self._unregister(pipe)
            else:
                self._epoll.register(pipe, select.EPOLLIN)

    def begin(self) -> None:
        """A new execution: the allowance of frames starts again."""
        self._frames = self._display_bytes = self._reply_bytes = self._elements = 0

    def advance(self, transcript: Transcript) -> Iterator[Output]:
        """Read some of what there is into `transcript`, and give it in the order in which it happened.

        It may be let go of between any two: from then on nothing is read, for its descriptors may be another's.
        """
        if self._closed:
            return
        # In this order: what was displayed before these bytes were printed is on the channel by the time it is polled.
        printed = [read + self._readable_bytes(number) for number, read in enumerate(self._read_bytes)]
        ready = {descriptor for descriptor, _ in self._epoll.poll(0)}
        self._read_control()
        if self._process in ready:
            self.dead = True
        if self._guest.channel.fileno() in ready:
            self._read_channel()
        yield from self._show(transcript)
        if self._held:
            return
        for number, pipe in enumerate(self._pipes):
            left = printed[number] - self._read_bytes[number]
            if left > 0:
                yield from self._read_pipe(transcript, number, min(left, READ_BYTES))
            elif pipe in ready:
                self._look_for_end(number)

    def drain(self, transcript: Transcript, limit_bytes: int) -> Iterator[Output]:
        """What was printed and displayed before the end and has not been read: it is all there by now.

        Of output no more than is in the pipes now, and not beyond `limit_bytes` printed: a thread may print on.
        """
        if self._closed:
            return
        self._read_control()
        while transcript.outcome is None and not self.garbled and self._read_channel():
            yield from self._show(transcript)
        for number in range(len(self._pipes)):
            left = self._readable_bytes(number)
            while left > 0 and transcript.printed_bytes <= limit_bytes:
                taken = min(left, READ_BYTES)
                left -= taken
                yield from self._read_pipe(transcript, number, taken)

    def _show(self, transcript: Transcript) -> Generator[Output]:
        """The frames that wait, each behind the output that came before it."""
        while self._waiting:
            frame, size = self._waiting.popleft()
            for number in range(len(self._pipes)):
                before = _printed_before(frame, number) - self._read_bytes[number]
                left = min(before, self._readable_bytes(number))
                while left > 0:
                    yield from self._read_pipe(transcript, number, min(left, READ_BYTES))
                    left -= READ_BYTES
            displayed = transcript.hear(frame, size)
            if displayed is not None:
                yield displayed

    def _read_pipe(self, transcript: Transcript, number: int, size: int) -> Generator[Output]:
        if self._closed:
            return
        try:
            chunk = os.read(self._pipes[number], size)
        except BlockingIOError:
            return
        self._read_bytes[number] += len(chunk)
        event = transcript.printed(chunk, is_error=number == 1)
        if event is not None:
            yield event

    def _look_for_end(self, number: int) -> None:
        """A pipe that is ready and empty has lost its last writer."""
        if not self._closed and not self._readable_bytes(number):
            self._unregister(self._pipes[number])
            self._open_pipes.discard(self._pipes[number])

    def _readable_bytes(self, number: int) -> int:
        """How many bytes are in a pipe (ioctl_tty(2), FIONREAD)."""
        if self._closed:
            return 0
        count = array.array("i", [0])
        fcntl.ioctl(self._pipes[number], termios.FIONREAD, count)
        return count[0]

    def _read_channel(self) -> bool:
        """Take one chunk off the channel; whether there was any."""
        if self._closed:
            return False
        try:
            chunk = self._guest.channel.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        try:
            for payload in self._reader.payloads(chunk):
                self._take(payload)
        except wire.FrameError:
            self.garbled = True
            chunk = b""
        if not chunk:
            self._unregister(self._guest.channel.fileno())
        return bool(chunk)

    def _take(self, payload: bytes) -> None:
        size = len(payload)
        is_display = payload.startswith(_DISPLAY)
        self._frames += 1
        if is_display:
            self._display_bytes += size
        else:
            self._reply_bytes += size
        if (
            self._frames > _MAX_FRAMES
            or self._display_bytes > _MAX_HEARD_BYTES
            or self._reply_bytes > wire.MAX_REPLY_BYTES
        ):
            raise wire.FrameError("more frames than one execution has to say")
        if is_display and (self._display_bytes > MAX_RESULTS_BYTES or self._is_intricate(payload)):
            self._waiting.append((_OMITTED, size))
        else:
            self._waiting.append((wire.decode_payload(payload), size))

    def _is_intricate(self, payload: bytes) -> bool:
        """Whether a displayed value has more elements than one may have, or than are left for it."""
        elements = sum(map(payload.count, (b",", b":", b"[", b"{")))
        if elements > min(wire.MAX_DISPLAY_ELEMENTS, _MAX_ELEMENTS - self._elements):
            return True
        self._elements += elements
        return False

    def _read_control(self) -> None:
        while True:
            try:
                if self._is_next_guests():
                    return
                received = wire.receive_control(self._box)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self._unregister(self._box.fileno())
                self._interrupts = 0
                return
            if "ended" in received[0] and received[0].get("guest") == self._number:
                self.exit_code = received[0]["ended"]
            elif "interrupted" in received[0]:
                self._interrupts -= 1

    def _is_next_guests(self) -> bool:
        """Whether the next message over the box comes from a guest after this one, and is for who waits for that."""
        payload = self._box.recv(wire.MAX_CONTROL_BYTES, socket.MSG_PEEK)
        return b'"handles"' in payload or b'"failed"' in payload

    def _unregister(self, descriptor: int) -> None:
        with suppress(FileNotFoundError):
            self._epoll.unregister(descriptor)


def _printed_before(frame: dict[str, Any], number: int) -> int:
    """How much had been printed to a stream before a value, by the word of the guest; 0 where that makes no sense."""
    match frame:
        case {"display": {"printed": [int(), int()] as printed}}:  # pyright: ignore[reportUnknownVariableType]  # JSON
            return printed[number]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return 0
