"""The guest's standard streams: text over descriptors 0 to 2, any text, with a count of what was written."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, TextIO


class CountingFile(io.FileIO):
    """An output descriptor that knows how many bytes went out through it."""

    written = 0

    def write(self, chunk: Any, /) -> int:
        """As every raw file."""
        count = super().write(chunk)
        self.written += count
        return count


class Streams:
    """What `sys.stdin`, `sys.stdout` and `sys.stderr` are when the guest begins."""

    def __init__(self) -> None:
        self._files = [CountingFile(number, "wb", closefd=False) for number in (1, 2)]
        self._outputs = [_text(file) for file in self._files]
        sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115
        self._install("stdout", 0)
        self._install("stderr", 1)
        self._stderr_identity = os.fstat(2)

    def say(self, text: str) -> None:
        """Write to the descriptor of stderr, if it still is one: for the last words of a guest that code has broken."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(2), self._stderr_identity):
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

    def _install(self, name: str, number: int) -> None:
        setattr(sys, name, self._outputs[number])
        setattr(sys, f"__{name}__", self._outputs[number])


def _text(file: CountingFile) -> TextIO:
    """A line is sent when it is complete."""
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _is_closed(stream: object) -> bool:
    try:
        return stream is None or bool(getattr(stream, "closed", False))
    except Exception:  # noqa: BLE001  # an object of the guest's
        return False
