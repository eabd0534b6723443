"""Lists as OpenAI's wire has them: `limit`, `order`, `after`, `before`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from bichat.errors import NotFoundError
from bichat.repository.ids import moment_of
from bichat.repository.pages import MAX_LIMIT, Page, Place, page_of
from bichat.server import checks, naming
from bichat.server.problems import FieldError
from bichat.server.schemas import Choice, Id, Integer, Schema

Json = Mapping[str, Any]

ORDER: Final = Choice(("asc", "desc"), usual="desc")
#: Entries of one answer, at most and where nothing is said.
MOST: Final = 100
USUAL: Final = 20
_MOST_DIGITS: Final = 15
#: How far a row's time may lie from its id's: both are taken from one clock, a moment apart.
_SLACK: Final = timedelta(seconds=1)


class Row(Protocol):
    """What can be listed."""

    @property
    def id(self) -> str:
        """Of the row; it grows as rows are made."""
        ...

    @property
    def created_at(self) -> datetime:
        """By which lists are ordered."""
        ...


R = TypeVar("R", bound=Row)


class Pages(Protocol[R]):
    """A list of the repository."""

    def __call__(self, *, limit: int, cursor: str, oldest_first: bool) -> Awaitable[Page[R]]:
        """A page of it."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a list is wanted; `after` and `before` are ids of rows, or empty."""

    limit: int
    oldest_first: bool
    after: str
    before: str


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """Some rows, in the order that was asked for, and whether there are more in the direction that was asked for."""

    rows: Sequence[R]
    has_more: bool


def parameters(*prefixes: str, most: int = MOST, usual: int = USUAL) -> dict[str, Schema]:
    """The parameters of a query that `asked` reads, with the same arguments."""
    return {
        "limit": Integer(least=1, most=most, usual=usual),
        "order": ORDER,
        "after": Id(prefixes),
        "before": Id(prefixes),
    }


def asked(query: Mapping[str, str], *prefixes: str, most: int = MOST, usual: int = USUAL) -> Asked:
    """What a query asks for: `usual` entries, newest first, unless it says otherwise.

    Args:
        query: of the request.
        prefixes: that ids in the list may have.
        most: what `limit` may be.
        usual: what it is where it is not given.

    Raises:
        FieldError: it asks for what cannot be.
    """
    return Asked(
        number_in(query, "limit", Integer(least=1, most=most, usual=usual)) or usual,
        checks.one_of(query.get("order", ORDER.usual), "order", ORDER.words) == "asc",
        *(_row_id(query, name, prefixes) for name in ("after", "before")),
    )


async def part(
    pages: Pages[R],
    wanted: Asked,
    find: Callable[[str], Awaitable[Row]],
    *,
    is_listed: Callable[[R], bool] = lambda _: True,
) -> Part[R]:
    """That part of a list, read page by page from where it begins.

    An entry named in `after` or `before` that is gone stands where it stood: programs delete as they list.

    Args:
        pages: the list.
        wanted: which part.
        find: the row with an id; raises `NotFoundError` where there is none.
        is_listed: rows that are none of the list's are passed over.
    """
    is_backward = bool(wanted.before) and not wanted.after
    oldest_first = wanted.oldest_first != is_backward
    begin = await _anchor(find, wanted.before if is_backward else wanted.after, oldest_first=oldest_first)
    end = await _anchor(find, "" if is_backward else wanted.before, oldest_first=not oldest_first)
    found: list[R] = []
    async for row in _walk(pages, begin, limit=min(MAX_LIMIT, wanted.limit + 1), oldest_first=oldest_first):
        if end is not None and not end.is_ahead_of(row):
            break
        if is_listed(row):
            found.append(row)
            if len(found) > wanted.limit:
                break
    rows = found[: wanted.limit]
    return Part(rows[::-1] if is_backward else rows, len(found) > wanted.limit)


def pages_of(rows: Iterable[R]) -> Pages[R]:
    """The list of rows that are at hand."""
    held = tuple(rows)

    async def page(*, limit: int, cursor: str, oldest_first: bool) -> Page[R]:
        return page_of(
            held, lambda row: Place(row.created_at, row.id), limit=limit, cursor=cursor, oldest_first=oldest_first
        )

    return page


def as_list(data: Sequence[Json], *, has_more: bool) -> dict[str, Any]:
    """A list object."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


@dataclass(frozen=True, slots=True)
class _Anchor:
    """An entry from which a list is read on."""

    place: Place
    oldest_first: bool
    is_gone: bool

    @property
    def cursor(self) -> str:
        """Where the list is read from."""
        if not self.is_gone:
            return self.place.cursor()
        slack = -_SLACK if self.oldest_first else _SLACK
        return Place(self.place.moment + slack, self.place.id).cursor()

    def is_ahead_of(self, row: Row) -> bool:
        """Whether the row comes behind it."""
        if self.is_gone:
            return row.id > self.place.id if self.oldest_first else row.id < self.place.id
        there = Place(row.created_at, row.id)
        return there > self.place if self.oldest_first else there < self.place


async def _anchor(find: Callable[[str], Awaitable[Row]], row_id: str, *, oldest_first: bool) -> _Anchor | None:
    if not row_id:
        return None
    try:
        row = await find(row_id)
    except NotFoundError:
        return _Anchor(Place(moment_of(row_id), row_id), oldest_first, is_gone=True)
    return _Anchor(Place(row.created_at, row.id), oldest_first, is_gone=False)


async def _walk(pages: Pages[R], begin: _Anchor | None, *, limit: int, oldest_first: bool) -> AsyncGenerator[R]:
    cursor = "" if begin is None else begin.cursor
    while True:
        page = await pages(limit=limit, cursor=cursor, oldest_first=oldest_first)
        for row in page.items:
            if begin is None or begin.is_ahead_of(row):
                yield row
        cursor = page.next_cursor
        if not cursor:
            return


def number_in(query: Mapping[str, str], name: str, schema: Integer) -> int | None:
    """A whole number in a query; what is usual where it is not given.

    Raises:
        FieldError: it is none, or not between the schema's bounds.
    """
    text = query.get(name)
    if text is None:
        return schema.usual
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise FieldError(f"Invalid type for '{name}': expected an integer.", param=name, wire_code="invalid_type")
    schema.check(int(text), name)
    return int(text)


def _row_id(query: Mapping[str, str], name: str, prefixes: Sequence[str]) -> str:
    given = query.get(name)
    found = naming.row_id(given or "", *prefixes)
    if given is not None and not found:
        raise FieldError(f"Invalid '{name}': there is nothing with the id {given[:100]!r}.", param=name)
    return found
