"""What one execution makes on another server, on record from before it is made until it is deleted there."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio

from bichat.archive import Archive
from bichat.clients.refusals import is_lost
from bichat.errors import DatabaseError, RemoteServiceError
from bichat.executor import RemoteObject
from bichat.repository.ids import new_id
from bichat.repository.records import Leftover

logger = logging.getLogger(__name__)

#: One thing there: its kind, and its id; without one it may be there, and only the answer was lost.
Thing = tuple[str, str]


class Record(Protocol):
    """Where a trail is written down."""

    async def note(self, things: Sequence[Thing]) -> None:
        """These may be there by now.  Nothing is raised."""
        ...

    async def close(self, left: Sequence[RemoteObject]) -> None:
        """The execution is over, and these are left.  Nothing is raised."""
        ...


class Trail:
    """Of one execution."""

    def __init__(self, marker: str, record: Record) -> None:
        """`marker`: what things are given by which they are found again, where their kind can be."""
        self.marker = marker
        self.things: list[Thing] = []
        self._record = record

    @asynccontextmanager
    async def making(self, kind: str) -> AsyncGenerator[Callable[[str], None]]:
        """Within the block one thing is made; its id is told to what the block is given."""
        expected: Thing = (kind, "")
        self.things.append(expected)
        await self._record.note(self.things)

        def made(thing_id: str) -> None:
            self.things[self.things.index(expected)] = (kind, thing_id)

        try:
            yield made
        except RemoteServiceError as error:
            if not is_lost(error) and expected in self.things:
                self.things.remove(expected)
            raise
        await self._record.note(self.things)

    async def found(self, things: Iterable[Thing]) -> None:
        """These are there too: the code made them, say."""
        fresh = [thing for thing in things if thing not in self.things]
        if fresh:
            self.things += fresh
            await self._record.note(self.things)

    async def close(self, left: Sequence[RemoteObject]) -> None:
        """All was tried, and these are left."""
        await self._record.close(left)


class InMemory:
    """Implements `Record` for a process that has no database: what is left is remembered as long as it lives."""

    def __init__(self, left: dict[str, list[Thing]], marker: str) -> None:
        self._left = left
        self._marker = marker

    async def note(self, things: Sequence[Thing]) -> None:
        """See `Record.note`."""

    async def close(self, left: Sequence[RemoteObject]) -> None:
        """See `Record.close`."""
        if left:
            self._left[self._marker] = [(each.kind, each.id) for each in left]


class InDatabase:
    """Implements `Record`."""

    def __init__(self, archive: Archive, leftover: Leftover) -> None:
        """See `begin`."""
        self._archive = archive
        self._leftover = leftover

    @classmethod
    async def begin(cls, archive: Archive, tenant: str, server: str) -> tuple[InDatabase, str]:
        """Itself, and the marker of what is about to be made.

        Raises:
            DatabaseError: it could not be recorded; so nothing must be made.
        """
        leftover = Leftover(tenant=tenant, server=server, lease=archive.upkeep.lease())
        await archive.repository.leftovers.add(tenant, leftover)
        return cls(archive, leftover), leftover.id

    async def note(self, things: Sequence[Thing]) -> None:
        """See `Record.note`."""
        try:
            await self._archive.repository.leftovers.note(self._leftover.tenant, self._leftover.id, _json(things))
        except DatabaseError as error:  # it is known here, and deleted from here
            logger.warning("what was made on %s could not be put on record: %s", self._leftover.server, error)

    async def close(self, left: Sequence[RemoteObject]) -> None:
        """See `Record.close`."""
        leftovers, row = self._archive.repository.leftovers, self._leftover

        async def noted() -> None:
            if left:
                things = [(each.kind, each.id) for each in left]
                await leftovers.failed(row.tenant, row.id, _json(things), left[0].reason, datetime.now(UTC))
            else:
                await leftovers.done(row.tenant, row.id)

        await self._archive.upkeep.see_to(noted)


def fresh_marker() -> str:
    """One where no row gives it."""
    return new_id()


def things_of(leftover: Leftover) -> list[Thing]:
    """As they were noted."""
    return [(str(each.get("kind", "")), str(each.get("id", ""))) for each in leftover.objects]


def _json(things: Sequence[Thing]) -> list[Mapping[str, Any]]:
    return [{"kind": kind, "id": thing_id} for kind, thing_id in things]


@dataclass(frozen=True, slots=True)
class Broom:
    """Deletes things on a server."""

    order: Sequence[str]
    """Kinds, those first that must go first."""
    delete: Callable[[Thing], Awaitable[None]]
    find: Callable[[str, str], Awaitable[list[Thing] | None]]
    """Things of a kind that bear a marker; None where things of that kind cannot be found again."""
    inside: Callable[[Thing], Awaitable[list[Thing]]]
    """What goes before a thing does, and is named in it alone."""

    async def sweep(
        self, marker: str, things: Sequence[Thing], *, within_s: float, is_known: bool = False
    ) -> tuple[list[RemoteObject], list[RemoteObject]]:
        """Delete all of `things`; what is left and why, and what may be left and cannot be found again.

        Args:
            marker: what they bear.
            things: what may be there.
            within_s: what is not done by then is left.
            is_known: whether `things` is all there is; else it is looked for what the code made.
        """
        left = {thing: RemoteObject(kind=thing[0], id=thing[1], reason="there was no time left") for thing in things}
        lost: list[RemoteObject] = []
        with anyio.move_on_after(within_s):
            waiting = sorted(left, key=lambda thing: self._place(thing[0]))
            for thing in waiting:
                kind, thing_id = thing
                try:
                    found = [thing] if thing_id else await self.find(kind, marker)
                    for each in found or ():
                        fresh = [] if is_known else [new for new in await self.inside(each) if new not in left]
                        waiting += fresh  # they come last, and are gone through as well
                        left |= {new: RemoteObject(kind=new[0], id=new[1], reason="not tried yet") for new in fresh}
                        await self.delete(each)
                except RemoteServiceError as error:
                    left[thing] = RemoteObject(kind=kind, id=thing_id, reason=error.message)
                else:
                    del left[thing]
                    if found is None:
                        lost.append(RemoteObject(kind=kind, id="", reason="the answer that named it was lost"))
        return list(left.values()), lost

    def _place(self, kind: str) -> int:
        return self.order.index(kind) if kind in self.order else len(self.order)
