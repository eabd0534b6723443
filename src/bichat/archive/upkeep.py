"""What a process does behind its work: its leases renewed, the bytes of deleted rows removed, the work of dead processes
taken over, what is past its time deleted.

Any number of processes do this on one database at a time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import anyio

from bichat.errors import BichatError, DatabaseError, NotFoundError, StorageError
from bichat.repository.chat_repository import ChatRepository, KeptFiles
from bichat.repository.ids import new_id
from bichat.repository.records import CodeInterpreterOutput, FileRecord, Lease, Pruned, Swept
from bichat.sandbox.background import Background
from bichat.storage import FileStorage

#: How long a process that has died keeps what it was working on.
LEASE_S: Final = 60.0
_RENEW_EVERY_S: Final = 15.0
_SWEEP_EVERY_S: Final = 60.0
_SETTLE_EVERY_S: Final = 15.0
_DELETE_EVERY_S: Final = 30.0
_PRUNE_EVERY_S: Final = 3600.0
#: How much is remembered to be done again; what is older is left for whoever sweeps after this process.
_MOST_OWED: Final = 10_000

logger = logging.getLogger(__name__)

_Kept = TypeVar("_Kept", CodeInterpreterOutput, FileRecord)


class Upkeep:
    """Of one process."""

    def __init__(self, storage: FileStorage, repository: ChatRepository) -> None:
        self._storage = storage
        self._repository = repository
        self._background = Background()
        self._owed = deque[Callable[[], Awaitable[object]]](maxlen=_MOST_OWED)
        self.owner = new_id()
        """What this process is called in leases."""

    def lease(self) -> Lease:
        """One from now on; renewed for as long as the process lives."""
        return Lease(owner=self.owner, until=_in(LEASE_S))

    def start(self) -> None:
        """Begin; the first sweep comes at once, for what the last process may have left."""
        self._background.start(lambda: _every(_RENEW_EVERY_S, self._renew, first_s=_RENEW_EVERY_S))
        self._background.start(lambda: _every(_SWEEP_EVERY_S, self.sweep))
        self._background.start(lambda: _every(_SETTLE_EVERY_S, self.settle, first_s=_SETTLE_EVERY_S))
        self._background.start(lambda: _every(_DELETE_EVERY_S, self.delete))
        self._background.start(lambda: _every(_PRUNE_EVERY_S, self.prune))

    async def close(self) -> None:
        """End it, and try once more what could not be done."""
        await self._background.close()
        await self.settle()

    @asynccontextmanager
    async def reserved(self, rows: KeptFiles[_Kept], file: _Kept) -> AsyncGenerator[None]:
        """Within the block a row is reserved for the bytes of `file`; where the block raises, neither of the two stays.

        Raises:
            LimitError: it is above the tenant's quota.
            DatabaseError: it could not be reserved.
        """
        try:
            await rows.reserve(file.tenant, file)
        except BaseException as error:
            if is_in_doubt(error):
                await self.abandon(rows, file.tenant, file.id, file.storage_key)
            raise
        try:
            yield
        except BaseException:
            await self.abandon(rows, file.tenant, file.id, file.storage_key)
            raise

    async def abandon(self, rows: KeptFiles[_Kept], tenant: str, file_id: str, key: str) -> None:
        """Let neither row nor bytes stay of a file that was not kept, as soon as database and storage do their part.

        A row that is available stays, and its bytes do: it was published, and only the answer to that was lost.
        """

        async def attempt() -> None:
            await rows.abandon(tenant, file_id)
            try:
                await rows.get(tenant, file_id)
            except NotFoundError:
                # A sweep that has taken the row may have deleted the key before its bytes were there.
                await self._storage.delete(key)

        await self.see_to(attempt)

    async def see_to(self, job: Callable[[], Awaitable[object]]) -> None:
        """Do `job`; where database or storage fail, again and again behind the work of this process, until it is done.

        Leases are renewed for as long as the process lives: what it leaves half-done nobody else would ever take.
        Not to be cancelled, and nothing is raised.
        """
        with anyio.CancelScope(shield=True):
            try:
                await job()
            except (DatabaseError, StorageError) as error:
                logger.warning("something could not be put on record, and is tried again: %s", error)
                self._owed.append(job)
            except BichatError as error:
                logger.warning("something cannot be put on record: %s", error)

    async def settle(self) -> None:
        """Try once more what `see_to` could not do."""
        for _ in range(len(self._owed)):
            before = len(self._owed)
            await self.see_to(self._owed.popleft())
            if len(self._owed) == before:  # it failed again, and the others would
                break

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
            runs=sum(step.runs for step in steps),
        )

    async def delete(self, now: datetime | None = None) -> int:
        """Remove the bytes that no row needs any more, what is due by `now` or the present; how many files.

        One that fails is tried again later.  A storage that keeps nothing removes nothing: the bytes lie in another one,
        which somebody who uses the same database has.

        Raises:
            DatabaseError: the database does not do its part.
        """
        count = 0
        if not self._storage.keeps:
            return count
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


def is_in_doubt(error: BaseException) -> bool:
    """Whether what raised it may have happened all the same: an answer was lost, or nobody waited for it."""
    return isinstance(error, DatabaseError) or not isinstance(error, BichatError)


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
