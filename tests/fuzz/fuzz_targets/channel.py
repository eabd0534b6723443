"""What comes over the descriptors of a sandbox: frames, control messages, and all of them at once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bichat.domain import Limits
from bichat.events import Displayed, Stderr, Stdout
from bichat.sandbox import wire
from bichat.sandbox.connection import Connection
from bichat.sandbox.opening import GuestEnds
from bichat.sandbox.transcript import Transcript
from fuzz_targets.checks import descriptors_kept
from fuzz_targets.choices import JSON, Choices

_CELL: Final = 7
_GUEST: Final = 1


def frames(data: bytes, room: Path) -> None:
    """A stream gives the same frames however it is cut, and a length above the limit before its payload is held."""
    choices = Choices(data)
    limit, size = choices.number(64), 1 + choices.number(9)
    stream = choices.take(choices.left)

    whole = _payloads(wire.FrameReader(limit), [stream])
    pieces = _payloads(wire.FrameReader(limit), [stream[at : at + size] for at in range(0, len(stream), size)])

    assert whole == pieces
    assert all(payload is None or len(payload) <= limit for payload in whole)


def _payloads(reader: wire.FrameReader, chunks: list[bytes]) -> list[bytes | None]:
    """What the frames hold, and None where the stream is no frame."""
    found: list[bytes | None] = []
    try:
        for chunk in chunks:
            found += reader.payloads(chunk)
    except wire.FrameError:
        found.append(None)
    return found


def payload(data: bytes, room: Path) -> None:
    """What a frame holds is an object that can be sent again, or an error of one kind."""
    try:
        message = wire.decode_payload(Choices(data).spelled(JSON, 200))
    except wire.FrameError:
        return
    (again,) = wire.FrameReader().feed(wire.encode_frame(message))

    assert json.dumps(again) == json.dumps(message)


def control(data: bytes, room: Path) -> None:
    """A control message is an object, the end, or an OSError; descriptors that come with no message are closed."""
    choices = Choices(data)
    count = choices.number(12)
    content = choices.spelled(JSON, 100)
    with descriptors_kept(), ExitStack() as stack:
        left, right = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        socket.send_fds(left, [content], [left.fileno()] * count)
        try:
            received = wire.receive_control(right)
        except OSError:
            return
        if received is None:
            assert not content
            return
        message, descriptors = received
        for descriptor in descriptors:
            os.close(descriptor)

        assert isinstance(message, dict)
        assert len(descriptors) == count


def connection(data: bytes, room: Path) -> None:
    """Whatever comes over channel, pipes and init's socket, in any order: all that was printed is read, once."""
    with descriptors_kept(), _connected() as (subject, channel, pipes, init):
        choices = Choices(data)
        heard = Transcript(Limits(output_bytes=1 << 20), _CELL, room)
        printed = [bytearray(), bytearray()]
        texts = ["", ""]
        while choices.left:
            match choices.number(8):
                case 0 | 1 as number:
                    chunk = choices.chunk()
                    printed[number] += chunk
                    os.write(pipes[number], chunk)
                case 2:
                    with suppress(BlockingIOError):
                        channel.send(choices.chunk())
                case 3:
                    with suppress(BlockingIOError):
                        init.send(choices.chunk() or b"x")
                case 4:
                    with suppress(BlockingIOError):
                        init.send(json.dumps({"ended": choices.number(256), "guest": choices.number(3)}).encode())
                case 5:
                    subject.hold(is_held=choices.flag())
                case _:
                    frame = wire.encode_frame({"display": {"data": {"text/plain": "x"}, "printed": choices.json()}})
                    with suppress(BlockingIOError):
                        channel.send(frame)
            if choices.flag():
                _gather(subject.advance(heard), texts)
        subject.hold(is_held=False)
        # Twice: a frame that was waited for may come with the first.
        for _ in range(2):
            _gather(subject.drain(heard, 1 << 30), texts)
        _gather(heard.last_words(), texts)

        assert texts == [bytes(one).decode("utf-8", "backslashreplace") for one in printed]


def _gather(events: Iterator[Any], texts: list[str]) -> None:
    for event in events:
        match event:
            case Stdout(text):
                texts[0] += text
            case Stderr(text):
                texts[1] += text
            case Displayed(result):
                assert result.data
            case _:
                raise AssertionError(event)


@contextmanager
def _connected() -> Generator[tuple[Connection, socket.socket, list[int], socket.socket]]:
    """A connection whose guest and init are ours; the process that stands for the tree lives on."""
    ours, channel = socket.socketpair()
    box, init = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output, their_output = os.pipe()
    errors, their_errors = os.pipe()
    process = os.pidfd_open(os.getpid())
    channel.setblocking(False)
    init.setblocking(False)
    subject = Connection(GuestEnds(channel=ours, output=output, errors=errors), box, process, _GUEST)
    subject.begin()
    try:
        yield subject, channel, [their_output, their_errors], init
    finally:
        # Without a loop there is nobody who waits and would have to be told.
        subject._closed = True
        subject._epoll.close()
        subject._guest.close()
        for end in (channel, box, init):
            end.close()
        for descriptor in (their_output, their_errors, process):
            os.close(descriptor)
