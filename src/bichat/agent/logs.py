"""What a cell printed and showed, as one text in the order in which it came, bounded."""

from __future__ import annotations

from bichat.domain import Result

_CUT = "\n... {count:,} characters are left out here ...\n"


class Logs:
    """As a terminal would show it: output, the text of what was displayed, a traceback."""

    def __init__(self, most: int) -> None:
        """At most `most` characters are kept: half from the head, half from the tail."""
        self._half = most // 2
        self._head = ""
        self._tail = ""
        self._left_out = 0

    def add(self, text: str) -> None:
        """As it was printed."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        self._tail += text
        surplus = len(self._tail) - self._half
        if surplus > self._half:  # seldom: it copies the tail
            self._shorten(surplus)

    def add_line(self, text: str) -> str:
        """On lines of its own; all that was added."""
        begins_anew = (self._tail or self._head).endswith("\n") or not (self._tail or self._head)
        added = f"{'' if begins_anew else chr(10)}{text}{'' if text.endswith(chr(10)) else chr(10)}"
        self.add(added)
        return added

    def add_shown(self, shown: Result) -> str:
        """A value that was displayed, by its text; an image speaks for itself.  All that was added."""
        text = shown.data.get("text/plain")
        if isinstance(text, str) and not any(kind.startswith("image/") for kind in shown.data):
            return self.add_line(text)
        return ""

    def _shorten(self, surplus: int) -> None:
        self._tail = self._tail[surplus:]
        self._left_out += surplus

    @property
    def text(self) -> str:
        """All that is kept; what is left out is said in its place."""
        if len(self._tail) > self._half:
            self._shorten(len(self._tail) - self._half)
        return self._head + (_CUT.format(count=self._left_out) if self._left_out else "") + self._tail

    def cut(self, most: int) -> str:
        """The text with at most `most` characters of what was printed."""
        text = self.text
        if len(text) <= most:
            return text
        half = most // 2
        return text[:half] + _CUT.format(count=len(text) - 2 * half + self._left_out) + text[-half:]
