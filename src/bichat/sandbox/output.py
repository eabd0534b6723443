r"""What a stream of guest output becomes: bounded text that is always valid Unicode.

Bytes that are not UTF-8 become `\xNN`.  NULs and terminal escapes stay as they are: they are valid in JSON, and
whoever prints to a terminal uses `bichat.names.printable`.
"""

from __future__ import annotations

import codecs

from bichat.domain import CapturedText

_new_decoder = codecs.getincrementaldecoder("utf-8")


class StreamDecoder:
    """Text of a live stream, chunk by chunk: a character split across two chunks comes out whole with the second."""

    def __init__(self) -> None:
        self._decoder = _new_decoder("backslashreplace")

    def feed(self, chunk: bytes) -> str:
        """The text that `chunk` completes; at most three bytes are held back."""
        return self._decoder.decode(chunk)

    def finish(self) -> str:
        """What was held back, once no more will come."""
        return self._decoder.decode(b"", final=True)


class CappedText:
    """One output stream of which `limit_bytes` are kept: the first half and the last half.

    Memory stays at the limit however much is fed.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._head_room = (limit_bytes + 1) // 2
        self._tail_room = limit_bytes - self._head_room
        self._head = bytearray()
        self._tail = bytearray()
        self.total_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total_bytes += len(chunk)
        room = self._head_room - len(self._head)
        self._head += chunk[:room]
        rest = memoryview(chunk)[room:]
        self._tail += rest[max(0, len(rest) - self._tail_room) :]
        del self._tail[: max(0, len(self._tail) - self._tail_room)]

    def kept(self) -> bytes:
        """What is kept: all that was fed, as long as that is not above the limit."""
        return bytes(self._head + self._tail)

    def captured(self) -> CapturedText:
        """The text so far; where it was cut, a line of its own says how many bytes are missing."""
        kept = len(self._head) + len(self._tail)
        if kept == self.total_bytes:
            text = (self._head + self._tail).decode("utf-8", "backslashreplace")
            return CapturedText(text=text, total_bytes=self.total_bytes)
        decoder = _new_decoder("backslashreplace")
        head = decoder.decode(self._head)
        tail = self._tail[_broken_start(self._tail) :]
        omitted = self.total_bytes - (len(self._head) - len(decoder.getstate()[0])) - len(tail)
        newline = "" if head.endswith("\n") or not head else "\n"
        text = f"{head}{newline}[... {omitted:,} bytes omitted ...]\n{tail.decode('utf-8', 'backslashreplace')}"
        return CapturedText(text=text, total_bytes=self.total_bytes, omitted_bytes=omitted)


def _broken_start(text: bytearray) -> int:
    """How many bytes at the start are the end of a character that was cut off."""
    count = 0
    while count < min(3, len(text)) and text[count] & 0xC0 == 0x80:
        count += 1
    return count
