"""The guest's standard streams: text over descriptors 0 to 2, any text, with a count of what was written."""

from __future__ import annotations

import array
import contextlib
import fcntl
import io
import os
import sys
import termios
import time
from typing import Any, Final, TextIO

from bichat.sandbox.guest import interrupts

#: Longest wait for output to be read before a value is displayed: a busy server's, not one whose reader has paused.
_HAND_OVER_S: Final = 0.2
#: Between two looks.
_LOOK_AGAIN_S: Final = 0.00005


class CountingFile(io.FileIO):
    """An output descriptor that knows how many bytes went out through it."""

    written = 0

    def write(self, chunk: Any, /) -> int:
        """As every raw file.

        An interrupt must not come between the bytes and their count: the buffer above would write them again.
        """
        interrupts.raise_postponed()
        counts: list[int] = []
        try:
            # One call of C code, after which interrupts are looked for: by then the count is there.
            counts.extend(map(super().write, (chunk,)))
        except KeyboardInterrupt:
            if not counts:
                raise
            interrupts.postpone()
        self.written += counts[0]
        return counts[0]


class Streams:
    """What `sys.stdin`, `sys.stdout` and `sys.stderr` are when the guest begins."""

    def __init__(self) -> None:
        self._files = [CountingFile(number, "wb", closefd=False) for number in (1, 2)]
        self._outputs = [_text(file) for file in self._files]
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115
        self._install("stdout", 0)
        self._install("stderr", 1)
        self._pipes = [(number, os.fstat(number)) for number in (1, 2)]

    def say(self, text: str) -> None:
        """Write to stderr's pipe, if its descriptor still is that: the last words of a guest that code has broken."""
        if _is_still(*self._pipes[1]):
            os.write(2, text.encode())

    def mend(self) -> None:
        """Before a cell: give back a stream that an earlier cell closed or took away; one that it replaced stays."""
        for number, name in enumerate(("stdout", "stderr")):
            if _is_closed(getattr(sys, name, None)):
                if self._outputs[number].closed:
                    written = self._files[number].written
                    self._files[number] = CountingFile(number + 1, "wb", closefd=False)
                    self._files[number].written = written
                    self._outputs[number] = _text(self._files[number])
                self._install(name, number)

    def flush(self) -> list[int]:
        """Send everything that was printed so far; how many bytes that is on stdout and on stderr, since the beginning."""
        for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None), *self._outputs):
            # The guest may have closed or replaced it: its own loss.
            with contextlib.suppress(Exception):
                stream.flush()  # pyright: ignore[reportOptionalMemberAccess]
        return [file.written for file in self._files]

    def hand_over(self) -> list[int]:
        """As `flush`, and wait a little until all of it has been read.

        Other processes write to the same pipes, and their bytes are counted nowhere: what is displayed now keeps its
        place behind them if nothing is left to be read.
        """
        written = self.flush()
        deadline = time.monotonic() + _HAND_OVER_S
        while any(map(_unread_bytes, self._pipes)) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        return written

    def _install(self, name: str, number: int) -> None:
        setattr(sys, name, self._outputs[number])
        setattr(sys, f"__{name}__", self._outputs[number])


def _is_still(descriptor: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), status)
    except OSError:
        return False


def _unread_bytes(pipe: tuple[int, os.stat_result]) -> int:
    """How much is in a pipe (ioctl_tty(2), FIONREAD); 0 where the descriptor is something else."""
    count = array.array("i", [0])
    if _is_still(*pipe):
        with contextlib.suppress(OSError):
            fcntl.ioctl(pipe[0], termios.FIONREAD, count)
    return count[0]


def _text(file: CountingFile) -> TextIO:
    """A line is sent when it is complete."""
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _is_closed(stream: object) -> bool:
    try:
        return stream is None or bool(getattr(stream, "closed", False))
    except Exception:  # noqa: BLE001  # an object of the guest's
        return False
