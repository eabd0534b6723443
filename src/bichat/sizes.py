"""Byte counts: constants to write limits with, and the text form people type."""

from __future__ import annotations

import re

from bichat.errors import UserInputError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_UNITS = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kb": KIB,
    "kib": KIB,
    "m": MIB,
    "mb": MIB,
    "mib": MIB,
    "g": GIB,
    "gb": GIB,
    "gib": GIB,
}
#: A float of hundreds of digits would be infinite.
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Bytes meant by `text`: `"512m"`, `"1g"`, `"1.5 GiB"`, `"4096"`; units are powers of 1024, an int is bytes.

    Raises:
        UserInputError: the text is not a size, or is zero.
    """
    if isinstance(text, int):
        size = text
    else:
        match = _SIZE.fullmatch(text)
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise UserInputError(f"{text!r} is not a size", remedy="Write a number and a unit, such as 512m or 1g.")
        size = int(float(match[1]) * unit)
    if size <= 0:
        raise UserInputError(f"a size must be above zero, got {text!r}", remedy="Write a size such as 512m or 1g.")
    return size


def format_size(size_bytes: int) -> str:
    """`size_bytes` for people: `812 B`, `14.2 KiB`, `1.0 GiB`."""
    if size_bytes < KIB:
        return f"{size_bytes} B"
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    raise AssertionError(size_bytes)
