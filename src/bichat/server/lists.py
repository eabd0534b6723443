"""Lists as OpenAI's wire has them: `limit`, `order`, `after`, `before`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from bichat.errors import NotFoundError
from bichat.repository.pages import Page, Place
from bichat.server import checks, naming
from bichat.server.problems import FieldError

Json = Mapping[str, Any]

#: Rows that one list looks at, newest first; older ones are not listed.
MOST_ROWS: Final = 10_000
_PAGE: Final = 100


async def rows(page: Callable[..., Awaitable[Page[Any]]], *args: Any, **filters: Any) -> list[Any]:
    """The rows of a repository's list, newest first, `MOST_ROWS` at most."""
    found: list[Any] = []
    cursor = ""
    while len(found) < MOST_ROWS:
        some = await page(*args, limit=_PAGE, cursor=cursor, **filters)
        found += some.items
        cursor = some.next_cursor
        if not cursor:
            break
    return found


def listed(objects: Sequence[Json], query: Mapping[str, str], *, most: int = 100, usual: int = 20) -> dict[str, Any]:
    """The part of `objects`, newest first, that `query` asks for.

    Raises:
        FieldError: no such part can be.
    """
    limit = _limit(query.get("limit"), most, usual)
    order = checks.one_of(query.get("order", "desc"), "order", ("asc", "desc"))
    ordered = list(objects) if order == "desc" else list(reversed(objects))
    ids = [each["id"] for each in ordered]
    is_newest_first = order == "desc"
    start = _place(ids, query, "after", default=-1, is_newest_first=is_newest_first) + 1
    end = _place(ids, query, "before", default=len(ordered), is_newest_first=is_newest_first)
    if "before" in query and "after" not in query:
        start = max(0, end - limit)
    part = ordered[start:end]
    return as_list(part[:limit], has_more=len(part) > limit or ("before" in query and start > 0))


async def listed_rows(
    page: Callable[..., Awaitable[Page[Any]]],
    query: Mapping[str, str],
    *,
    wire_id: Callable[[Any], str],
    find: Callable[[str], Awaitable[Any]],
    is_listed: Callable[[Any], bool] = lambda _: True,
) -> tuple[list[Any], bool]:
    """The rows of a repository's list that `query` asks for, and whether there are more behind them.

    Newest first it reads no more than the page; in the other order, and with `before`, as `listed`.

    Args:
        page: takes `limit` and `cursor`.
        query: `limit`, `order`, `after`, `before`.
        wire_id: of a row.
        find: the row with such an id; NotFoundError where there is none.
        is_listed: whether a row is one of the list.

    Raises:
        FieldError: no such part can be.
    """
    limit = _limit(query.get("limit"), 100, 20)
    order = checks.one_of(query.get("order", "desc"), "order", ("asc", "desc"))
    after: Any = None
    if "after" in query:
        with suppress(NotFoundError):
            after = await find(query["after"])
    if order == "asc" or "before" in query or ("after" in query and after is None):
        found = {wire_id(row): row for row in await rows(page) if is_listed(row)}
        part = listed([{"id": each} for each in found], query)
        return [found[each["id"]] for each in part["data"]], part["has_more"]
    cursor = "" if after is None else Place(after.created_at, after.id).cursor()
    kept: list[Any] = []
    while len(kept) <= limit:
        some = await page(limit=_PAGE, cursor=cursor)
        kept += [row for row in some.items if is_listed(row)]
        cursor = some.next_cursor
        if not cursor:
            break
    return kept[:limit], len(kept) > limit


def as_list(data: Sequence[Json], *, has_more: bool) -> dict[str, Any]:
    """A list object."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def _limit(text: str | None, most: int, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise FieldError("Invalid type for 'limit': expected an integer.", param="limit", wire_code="invalid_type")
    return checks.integer(int(text), "limit", least=1, most=most)


def _place(ids: Sequence[str], query: Mapping[str, str], name: str, *, default: int, is_newest_first: bool) -> int:
    """Where an entry stands; for one that is gone, where those begin that came next: programs delete as they list.

    Ids grow as they are made (`bichat.repository.ids.new_id`).
    """
    if name not in query:
        return default
    given = query[name]
    prefix = next((each for each in naming.LISTED if naming.row_id(given, each)), "")
    number = naming.row_id(given, prefix)
    if not number or (ids and not naming.row_id(ids[0], prefix)):
        raise FieldError(f"Invalid '{name}': there is nothing with the id {given[:100]!r}.", param=name)
    with suppress(ValueError):
        return ids.index(naming.on_wire(prefix, number))
    ahead = sum((naming.row_id(each, prefix) > number) == is_newest_first for each in ids)
    return ahead - 1 if name == "after" else ahead
