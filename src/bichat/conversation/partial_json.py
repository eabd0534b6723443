"""The arguments of a call while a model writes them: one text member of a JSON object, read as it grows."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from pydantic_core import from_json

#: What has been read is read again once so much more has come, in parts of its length: all the reading together stays
#: within a multiple of the text.
_GROWTH: Final = 256


class ArgumentsError(Exception):
    """The arguments are none; the text says to the model what is wrong with them."""


class StringMember:
    """Reads the value of one text member of an object out of JSON that comes in pieces of any size.

    What is no JSON object at all, from its first character on, is taken for the value itself: some models write code
    where they should write JSON that holds it.
    """

    def __init__(self, name: str) -> None:
        """Of the member with this name."""
        self._name = name
        self._text = ""
        self._is_raw: bool | None = None
        self._read = 0
        self._given = 0

    def feed(self, text: str) -> str:
        """What has become known of the value with this much more of the JSON; it may lag behind a little."""
        self._text += text
        if self._is_raw is None and (start := self._text.lstrip()):
            self._is_raw = not start.startswith("{")
        if self._is_raw:
            value = self._text
        elif len(self._text) - self._read > len(self._text) // _GROWTH:
            self._read = len(self._text)
            value = self._so_far()
        else:
            return ""
        return self._more(value)

    def rest(self) -> str:
        """What `feed` has not given yet, now that nothing more comes."""
        return self._more(self._text if self._is_raw else self._so_far())

    def _more(self, value: str) -> str:
        more = value[self._given :]
        self._given = max(self._given, len(value))
        return more

    def _so_far(self) -> str:
        """Of a value that is written twice the first one: what was given out cannot be taken back."""
        try:
            arguments: Any = from_json(self._text, allow_partial="trailing-strings")
        except ValueError:
            return ""  # in the middle of an escape, or no JSON: `end` says so
        return str(value) if isinstance(value := _member(arguments, self._name), str) else ""

    def end(self) -> str:
        """The whole value.

        Raises:
            ArgumentsError: there is none.
        """
        if self._is_raw:
            return self._text
        wanted = f"a JSON object with the member {self._name!r}, a text"
        if not self._text.strip():
            raise ArgumentsError(f"The call has no arguments: give {wanted}.")
        try:
            arguments: Any = json.loads(self._text, strict=False)
        except (ValueError, RecursionError) as error:
            raise ArgumentsError(f"The arguments are not valid JSON ({error}): give {wanted}.") from error
        value = _member(arguments, self._name)
        if not isinstance(value, str):
            what = "is missing" if value is None else "is not a text"
            raise ArgumentsError(f"The member {self._name!r} {what}: give {wanted}.")
        return value


def _member(value: Any, name: str) -> object:
    """None where `value` is no object, or has no such member."""
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
