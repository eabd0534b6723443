"""Pages of a list that is newest first unless the oldest are asked for, and the cursors that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Final, Generic, TypeVar

from bichat.errors import UserInputError
from bichat.repository.moments import check_moment

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100

_T = TypeVar("_T")
_FORM: Final = struct.Struct(">q16s")
_ORIGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[_T]):
    """Some of a list, in its order."""

    items: tuple[_T, ...]
    next_cursor: str = ""
    """Where the next page begins, for the same method; empty when there is none."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a row stands in a list: by its time, and by its id where times are the same."""

    moment: datetime
    id: str

    def cursor(self) -> str:
        """The place as callers carry it: opaque to them, in characters that need no quoting anywhere."""
        micros = (check_moment(self.moment) - _ORIGIN) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(_FORM.pack(micros, uuid.UUID(self.id).bytes)).decode().rstrip("=")


def place_of(cursor: str) -> Place | None:
    """The place that a cursor stands for; None for the empty one, which is the beginning.

    Raises:
        UserInputError: no page has such a cursor.
    """
    if not cursor:
        return None
    try:
        micros, number = _FORM.unpack(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        return Place(_ORIGIN + timedelta(microseconds=micros), str(uuid.UUID(bytes=number)))
    except (ValueError, binascii.Error, struct.error, OverflowError) as error:
        raise UserInputError(
            "this is no cursor of a page", stage="repository", remedy="Pass next_cursor of the page before."
        ) from error


def page_of(
    rows: Iterable[_T], position: Callable[[_T], Place], *, limit: int, cursor: str, oldest_first: bool = False
) -> Page[_T]:
    """A page of what is not in a database.

    Raises:
        UserInputError: no such page can be.
    """
    place, most = place_of(cursor), check_limit(limit)
    ordered = sorted(((position(row), row) for row in rows), key=itemgetter(0), reverse=not oldest_first)
    if place is not None:
        ordered = [each for each in ordered if (each[0] > place if oldest_first else each[0] < place)]
    part = ordered[:most]
    return Page(items=tuple(row for _, row in part), next_cursor=part[-1][0].cursor() if len(ordered) > most else "")


def check_limit(limit: int) -> int:
    """`limit` itself, once it is known to be 1 to `MAX_LIMIT`.

    Raises:
        UserInputError: it is not.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise UserInputError(f"a page has 1 to {MAX_LIMIT} entries, not {limit}", stage="repository")
    return limit
