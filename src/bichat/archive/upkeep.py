"""What a process does behind its work: its leases renewed, the bytes of deleted rows removed, the work of dead processes
taken over, what is past its time deleted.

Any number of processes do this on one database at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio

from bichat.errors import BichatError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.ids import new_id
from bichat.repository.records import Lease, Pruned, Swept
from bichat.sandbox.background import Background
from bichat.storage import FileStorage

#: How long a process that has died keeps what it was working on.
LEASE_S: Final = 60.0
_RENEW_EVERY_S: Final = 15.0
_SWEEP_EVERY_S: Final = 60.0
_DELETE_EVERY_S: Final = 30.0
_PRUNE_EVERY_S: Final = 3600.0

logger = logging.getLogger(__name__)


class Upkeep:
    """Of one process."""

    def __init__(self, storage: FileStorage, repository: ChatRepository) -> None:
        self._storage = storage
        self._repository = repository
        self._background = Background()
        self.owner = new_id()
        """What this process is called in leases."""

    def lease(self) -> Lease:
        """One from now on; renewed for as long as the process lives."""
        return Lease(owner=self.owner, until=_in(LEASE_S))

    def start(self) -> None:
        """Begin; the first sweep comes at once, for what the last process may have left."""
        self._background.start(lambda: _every(_RENEW_EVERY_S, self._renew, first_s=_RENEW_EVERY_S))
        self._background.start(lambda: _every(_SWEEP_EVERY_S, self.sweep))
        self._background.start(lambda: _every(_DELETE_EVERY_S, self.delete))
        self._background.start(lambda: _every(_PRUNE_EVERY_S, self.prune))

    async def close(self) -> None:
        """End it."""
        await self._background.close()

    async def _renew(self) -> None:
        await self._repository.upkeep.renew(self.owner, _in(LEASE_S))

    async def sweep(self, now: datetime | None = None) -> None:
        """Take what processes that are gone were working on, by `now` or the present.

        Raises:
            DatabaseError: the database does not do its part.
        """
        while await self._repository.upkeep.sweep(now or datetime.now(UTC)) != Swept():
            pass

    async def prune(self, *, dry_run: bool = False) -> Pruned:
        """Delete what is past its expiry or its tenant's retention, or count it; how much there was.

        Raises:
            DatabaseError: the database does not do its part.
        """
        now = datetime.now(UTC)
        steps = [await self._repository.upkeep.prune(now, dry_run=dry_run)]
        while not dry_run and steps[-1] != Pruned():
            steps.append(await self._repository.upkeep.prune(now))
        return Pruned(
            outputs=sum(step.outputs for step in steps),
            files=sum(step.files for step in steps),
            size_bytes=sum(step.size_bytes for step in steps),
        )

    async def delete(self, now: datetime | None = None) -> int:
        """Remove the bytes that no row needs any more, what is due by `now` or the present; how many files.

        One that fails is tried again later.

        Raises:
            DatabaseError: the database does not do its part.
        """
        count = 0
        while claimed := await self._repository.outbox.claim(now or datetime.now(UTC)):
            for deletion in claimed:
                try:
                    await self._storage.delete(deletion.storage_key)
                except BichatError as error:
                    logger.warning("bytes of a deleted file are still there: %s", error)
                    await self._repository.outbox.failed(deletion.id, error.message, now or datetime.now(UTC))
                else:
                    await self._repository.outbox.done(deletion.id)
                    count += 1
        return count


async def _every(seconds: float, job: Callable[[], Awaitable[object]], *, first_s: float = 0.0) -> None:
    """Again and again; a failure is logged, and the next round comes all the same."""
    await anyio.sleep(first_s)
    while True:
        try:
            await job()
        except BichatError as error:
            logger.error("upkeep of the database failed: %s", error)  # noqa: TRY400  # a traceback could hold what was to be written
        except Exception:
            logger.exception("upkeep of the database failed")
        await anyio.sleep(seconds)


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
