r"""What may stand in a column: the one place where text and JSON are made fit for every database.

PostgreSQL takes no NUL and no lone surrogate in a text, and no NaN in JSON; guests print and name all of them.  Text is
stored with an escape of its own, `␛` (U+241B) and four hexadecimal digits, and read back as it was: `a\0b` lies in the
database as `a␛0000b`.  JSON needs none, for its strings may escape everything; two surrogates that make a character are
that character there, and a NaN or infinity becomes null, as browsers write it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from bichat.errors import UserInputError

#: Columns `varchar(255)` and `varchar(100)`.
MAX_NAME_CHARS: Final = 255
MAX_MIME_TYPE_CHARS: Final = 100
#: Levels of lists and objects within one another.
MAX_DEPTH: Final = 100
#: Python writes no longer integers in decimal, some 4,300 digits.
_MAX_BITS: Final = 14_000
_UNKNOWN_TYPE: Final = "application/octet-stream"
_LONGEST_EXTENSION: Final = 20

_ESCAPE: Final = "␛"
_UNFIT: Final = re.compile("[\0\ud800-\udfff␛]")
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ESCAPED: Final = re.compile("␛([0-9a-f]{4})")


def stored(text: str) -> str:
    """`text` as it lies in a column."""
    return _UNFIT.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def restored(text: str) -> str:
    """What `stored` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if _ESCAPE in text else text


def fit_name(name: str) -> str:
    """A file's name, cut to what its column holds, with its extension kept."""
    if len(stored(name)) <= MAX_NAME_CHARS:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension if stem and len(extension) <= _LONGEST_EXTENSION else ""
    stem = name[: MAX_NAME_CHARS - len(stored(ending))]
    while len(stored(stem + ending)) > MAX_NAME_CHARS:
        stem = stem[:-1]
    return stem + ending


def fit_mime_type(mime_type: str) -> str:
    """A MIME type; one that its column does not hold is none that anybody knows."""
    return mime_type if len(stored(mime_type)) <= MAX_MIME_TYPE_CHARS else _UNKNOWN_TYPE


def fit_short(text: str, what: str) -> str:
    """`text`, once it is known to fit the columns of users, purposes, kinds and the like.

    Raises:
        UserInputError: it is longer than 255 characters; names `what` it is.
    """
    if len(stored(text)) > MAX_NAME_CHARS:
        raise UserInputError(f"{what} is longer than {MAX_NAME_CHARS} characters", stage="repository")
    return text


def plain_json(value: Any) -> Any:
    """`value` in JSON's own types; a tuple is a list, NaN and infinities are null.

    Raises:
        UserInputError: something in it is not JSON, or it is nested deeper than `MAX_DEPTH`.
    """
    return _plain(value, 0)


def write_json(value: Any) -> str:
    """JSON in ASCII alone: NUL and lone surrogates stand in it as escapes, which every database takes."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _joined(text: str) -> str:
    """`text` with the two halves of a character as the one that they are: in JSON there is no other way to read them."""
    if not _PAIR.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UserInputError(f"JSON is nested deeper than {MAX_DEPTH} levels", stage="repository")
    if isinstance(value, str):
        return _joined(value)
    if value is None or isinstance(value, (bool, int)):
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise UserInputError("a number in JSON is too long to be written", stage="repository")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_joined(str(key)): _plain(entry, depth + 1) for key, entry in items}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(entry, depth + 1) for entry in cast("Sequence[Any]", value)]
    raise UserInputError(f"a {type(value).__name__} is no JSON", stage="repository")
