"""Bytes read as choices, so that what changes bytes at random makes messages and folders that say something."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

#: What the protocol has words for.
WORDS: Final = (
    *("display", "data", "metadata", "id", "update", "saved_as", "number", "printed", "clear", "wait", "saved", "as"),
    *("begun", "omitted", "done", "cell", "status", "completed", "error", "name", "message", "traceback", "memory"),
    *("errno", "text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/jpeg", "image/svg+xml"),
    *("application/json", "application/pdf", "application/vnd.dataresource+json", "x/y+json", "audio/wav"),
    *("application/vnd.bichat.chart+json", "schema", "fields", "type", "number", "datetime", "integer", "primaryKey"),
    *("index", "row_count", "column_count", "library", "plotly", "title", "axes", "series", "count", "a.png", "<svg"),
    *("iVBORw0KGgo=", "/9j/", "<IPython.core.display.", "\ud800", "\udfff", "\x1b[31m", "\u202e", "no space", ""),
)
#: The number of the execution that targets speak of is 7.
NUMBERS: Final = (0, 1, -1, 7, 28, 2**31, 2**63, 10**399, -(10**399), 0.5, 1e308, 1e-7, float("nan"), float("inf"))
#: What JSON is made of, and Python's and this protocol's edges of it.
JSON: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b" ", b'"', b"\\u", b"null", b"true", b"1", b"-0", b"1e999", b"NaN"),
    *(b"-Infinity", b'{"display":', b'{"data":{', b'{"done":', b',"cell":7}', b'"text/plain":', b"9" * 400, b"9" * 401),
    *(b"[" * 99, b"]" * 99, *(json.dumps(word).encode() for word in WORDS)),
)
#: What names of files are made of: what a system, or somebody's eyes, take for more than a letter.
NAMES: Final = (
    *(b"..", b".", b"/", b"\\", b":", b" ", b"\n", b"\x1b[2J", b"\x7f", b"\xff", b"\\xff", b"~", b"-", b"$", b"%s"),
    *(b"*", b"CON", b"nul", b"com1", b"LPT\xc2\xb9", b"CONIN$", b".csv", b".bichat-", b".partial", b" (2)", b"a", b"A"),
    *(b"\xc3\x9f", b"\xc3\xa9", b"e\xcc\x81", b"\xe2\x80\xae", b"\xe2\x80\x8d", b"\xe2\x80\xa8", b"\xef\xbb\xbf"),
    *(b"\xed\xa0\x80", b"x" * 100, b"\xc3\xa9" * 120, b"d/" * 60, b"\xf0\x9f\x98\x80", b"\xcc\x81" * 20),
)
_MAX_DEPTH: Final = 6


class Choices:
    """Bytes as a list of choices; once they are used up, every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that no choice has used."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or as many as there are."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def number(self, below: int) -> int:
        """At least 0 and less than `below`, which is at most 65,536."""
        return int.from_bytes(self.take(1 if below <= 256 else 2), "big") % below

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number(2))

    def chunk(self, most: int = 255) -> bytes:
        """Some bytes, `most` at most."""
        return self.take(self.number(most + 1))

    def json(self, depth: int = 0) -> Any:
        """A value as `json.loads` gives it, with what the protocol has words for in it."""
        kind = self.number(8 if depth < _MAX_DEPTH else 5)
        if kind == 5:
            return [self.json(depth + 1) for _ in range(self.number(6))]
        if kind > 5:
            return {self.word(): self.json(depth + 1) for _ in range(self.number(6))}
        return self._scalar(kind)

    def spelled(self, words: Sequence[bytes], most: int) -> bytes:
        """Up to `most` of `words` and of bytes as they come, one behind the other."""
        parts: list[bytes] = []
        while self.left and len(parts) < most:
            at = self.number(len(words) + 16)
            parts.append(words[at] if at < len(words) else self.chunk(8))
        return b"".join(parts)

    def word(self) -> str:
        """One of the protocol's, mostly."""
        at = self.number(len(WORDS) + 4)
        return WORDS[at] if at < len(WORDS) else self._text()

    def _scalar(self, kind: int) -> Any:
        match kind:
            case 0:
                return None
            case 1:
                return self.flag()
            case 2:
                return NUMBERS[self.number(len(NUMBERS))]
            case 3:
                return WORDS[self.number(len(WORDS))]
            case _:
                return self._text()

    def _text(self) -> str:
        return self.chunk(16).decode("utf-8", "surrogateescape")
