"""A part of a file by the positions of its bytes, as every storage understands it."""

from __future__ import annotations

from bichat.errors import UserInputError


def clipped(start: int, end: int | None, size_bytes: int) -> tuple[int, int]:
    """`start` and `end` within a file of `size_bytes`; the same number twice where nothing is left.

    Raises:
        UserInputError: `start` is below 0 or above `end`.
    """
    if start < 0 or (end is not None and end < start):
        raise UserInputError(
            f"there are no bytes from {start} to {end}",
            stage="storage",
            remedy="Count from 0; `end` is not included and not before `start`.",
        )
    last = size_bytes if end is None else min(end, size_bytes)
    return min(start, last), last
