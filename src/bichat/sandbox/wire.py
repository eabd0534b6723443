"""Messages between supervisor and sandbox.

Two kinds, by how far the sender is trusted:

- *Control messages*: one JSON object in one packet of a SEQPACKET socket, with descriptors beside it.  Spoken with
  the launcher, the zygote and a sandbox's init, none of which runs guest code.
- *Frames*: a four-byte big-endian length, then one JSON object, on a stream socket that guest code can reach.
  A frame may be forged, cut or endless; the reader bounds it, and nothing that matters is taken from it.

Standard library only: both ends import it.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Final

MAX_CONTROL_BYTES: Final = 64 * 1024
MAX_DESCRIPTORS: Final = 8
#: Longest frame to the guest: the longest code, every byte of it written as a six-byte escape.
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
#: Longest frame from the guest: one displayed value.  Honest guests cut what they show to fit.
MAX_DISPLAY_BYTES: Final = 16 * 1024 * 1024
#: Elements of the JSON in a displayed value (counted as commas, colons and brackets): a decoded one takes up to twenty
#: times the bytes of its text.
MAX_DISPLAY_ELEMENTS: Final = 500_000
#: All that a guest may send for one execution beside displayed values: a report of an error, every character of it
#: written as an escape.
MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
#: Digits of a whole number in a frame; one that has more comes as text.  What it takes to read one grows with their
#: square: sixteen megabytes of the longest that Python reads take seconds.
MAX_DIGITS: Final = 400
#: How a guest ends whose channel the code has closed, or put something else in the place of.
CHANNEL_LOST_EXIT: Final = 113
_HEADER_BYTES: Final = 4


class FrameError(Exception):
    """The peer sent something that is not a frame; nothing more is read from it."""


def send_control(
    peer: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = (), *, flags: int = 0
) -> None:
    """Send one control message, passing copies of `descriptors`; `flags` are those of send(2).

    Raises:
        OSError: the peer is gone, or (non-blocking, or so asked) its queue is full.
    """
    payload = json.dumps(message).encode()
    if len(payload) > MAX_CONTROL_BYTES:
        raise OSError(errno.EMSGSIZE, f"control message of {len(payload)} bytes is above {MAX_CONTROL_BYTES}")
    if descriptors:
        peer.sendmsg([payload], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))], flags)
    else:
        peer.send(payload, flags)  # a sandbox's init stands behind the filter, which forbids sendmsg


def receive_control(peer: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next control message and the descriptors beside it (close-on-exec, the caller's to close); None at the end.

    Raises:
        OSError: from the socket; EMFILE where this process has no room for the descriptors; EBADMSG for what is no
            JSON object, or is longer than a control message may be.
    """
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    try:
        payload, ancillary, flags, _ = peer.recvmsg(MAX_CONTROL_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None  # it died with something of ours unread: an end like any other
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    received = None
    try:
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "descriptors were lost on their way: this process may not open more")
        if payload:
            received = _control_message(payload, is_cut=bool(flags & socket.MSG_TRUNC)), list(descriptors)
    finally:
        if received is None:
            for descriptor in descriptors:
                os.close(descriptor)
    return received


def _control_message(payload: bytes, *, is_cut: bool) -> dict[str, Any]:
    if is_cut:
        raise OSError(errno.EBADMSG, f"a control message is above {MAX_CONTROL_BYTES} bytes")
    try:
        return decode_payload(payload)
    except FrameError as error:
        raise OSError(errno.EBADMSG, str(error)) from error


def encode_frame(message: dict[str, Any]) -> bytes:
    """`message` as one frame.  Text with lone surrogates survives as JSON escapes."""
    payload = json.dumps(message).encode("ascii")
    return len(payload).to_bytes(_HEADER_BYTES, "big") + payload


class FrameReader:
    """Takes bytes as they come and gives whole frames; never holds more than one frame's worth of them."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """The frames that `chunk` completes.

        Raises:
            FrameError: a length above `max_bytes`, or a payload that is not a JSON object.
        """
        return map(decode_payload, self.payloads(chunk))

    def payloads(self, chunk: bytes) -> Iterator[bytes]:
        """What the frames hold that `chunk` completes, not looked into.

        Raises:
            FrameError: a length above `max_bytes`.
        """
        self._buffer += chunk
        while len(self._buffer) >= _HEADER_BYTES:
            size = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if size > self._max_bytes:
                raise FrameError(f"a frame of {size} bytes is above {self._max_bytes}")
            end = _HEADER_BYTES + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER_BYTES:end])
            del self._buffer[:end]
            yield payload


def decode_payload(payload: bytes) -> dict[str, Any]:
    """The message in a frame.

    Raises:
        FrameError: it is not a JSON object.
    """
    try:
        message = json.loads(payload, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise FrameError("a frame's payload is not JSON") from error
    if not isinstance(message, dict):
        raise FrameError("a frame's payload is not a JSON object")
    return message  # pyright: ignore[reportUnknownVariableType]  # keys of a JSON object are strings


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else digits
