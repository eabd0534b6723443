"""Pages of lists on OpenAI's wire: `limit`, `order`, `after`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bichat.repository.records import Message
from bichat.server import naming
from bichat.server.problems import FieldError

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

Json = Mapping[str, Any]


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


async def page_of(messages: AsyncIterable[Message], asked: Asked) -> tuple[list[Message], bool]:
    """That part of a list that comes newest first, and whether there is more behind it.

    Oldest first takes reading all of it.

    Raises:
        FieldError: the entry to go on from is not in it.
    """
    after = naming.row_id(asked.after, *naming.ITEMS) if asked.after else ""
    found: list[Message] = []
    is_begun = not asked.after
    async for message in messages:
        if asked.is_newest_first and is_begun:
            found.append(message)
            if len(found) > asked.limit:
                break
        elif not asked.is_newest_first:
            found.append(message)
        is_begun = is_begun or message.id == after
    if not asked.is_newest_first:
        found.reverse()
        if asked.after:
            place = next((number for number, each in enumerate(found) if each.id == after), -1)
            is_begun = place >= 0
            found = found[place + 1 :]
    if not is_begun:
        raise FieldError(f"Invalid 'after': there is no entry '{asked.after[:100]}'.", param="after")
    return found[: asked.limit], len(found) > asked.limit


def list_object(items: Sequence[Json], *, has_more: bool) -> dict[str, Any]:
    """The list as it is sent."""
    return {
        "object": "list",
        "data": [*items],
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
