"""Pages of lists on OpenAI's wire: `limit`, `order`, `after`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bichat.conversation.run_events import item_payload
from bichat.repository.pages import Page, Place
from bichat.repository.records import Message
from bichat.server.problems import FieldError
from bichat.server.responses.items import is_hidden

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

Json = Mapping[str, Any]
Pages = Callable[[str], Coroutine[Any, Any, Page[Message]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a list is wanted."""

    limit: int
    is_newest_first: bool
    after: str


def read_page(query: QueryParams, *, most: int = 100) -> Asked:
    """What a query asks for: 20 entries, newest first, unless it says otherwise.

    Raises:
        FieldError: it asks for what cannot be.
    """
    given = query.get("limit", "20")
    if not given.isascii() or not given.isdigit() or len(given) > 6 or not 1 <= int(given) <= most:
        raise FieldError(f"Invalid 'limit': 1 to {most} is taken.", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise FieldError(f"Invalid value: {order[:100]!r}. Supported values are: 'asc', 'desc'.", param="order")
    return Asked(int(given), order == "desc", query.get("after", ""))


async def page_of(pages: Pages, asked: Asked, after: Message | None) -> tuple[list[Message], bool]:
    """That part of a list that comes newest first, and whether there is more behind it.

    Args:
        pages: the list's page at a cursor.
        asked: which part. Oldest first takes reading all that is newer.
        after: the entry with the id in it, where there is one.
    """
    found: list[Message] = []
    if asked.is_newest_first:
        cursor = "" if after is None else Place(after.created_at, after.id).cursor()
        async for message in _all(pages, cursor):
            found.append(message)
            if len(found) > asked.limit:
                break
    else:
        async for message in _all(pages, ""):
            if after is not None and message.id == after.id:
                break
            found.append(message)
        found.reverse()
    return found[: asked.limit], len(found) > asked.limit


async def _all(pages: Pages, cursor: str) -> AsyncGenerator[Message]:
    while True:
        page = await pages(cursor)
        for message in page.items:
            if not is_hidden(item_payload(message)):
                yield message
        cursor = page.next_cursor
        if not cursor:
            return


def list_object(items: Sequence[Json], *, has_more: bool) -> dict[str, Any]:
    """The list as it is sent."""
    return {
        "object": "list",
        "data": [*items],
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
