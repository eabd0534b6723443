"""The outbox in SQL."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from bichat.repository import schema
from bichat.repository.backoff import CLAIM, next_attempt_at, shortened
from bichat.repository.chat_repository import BATCH
from bichat.repository.database import Database
from bichat.repository.moments import check_moment
from bichat.repository.records import Deletion
from bichat.repository.rows import from_row
from bichat.repository.text import stored

_DELETIONS = schema.deletions
_BY_DUE = (_DELETIONS.c.next_attempt_at, _DELETIONS.c.id)


class SqlOutbox:
    """Implements `Outbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """See `Outbox.claim`."""
        moment = check_moment(now)
        due = sa.select(_DELETIONS.c.id).where(_DELETIONS.c.next_attempt_at <= moment).order_by(*_BY_DUE).limit(limit)
        async with self._database.writing() as connection:
            ids = (await connection.execute(due.with_for_update(skip_locked=True))).scalars().all()
            claimed = (
                sa.update(_DELETIONS)
                .where(_DELETIONS.c.id.in_(ids))
                .values(attempts=_DELETIONS.c.attempts + 1, next_attempt_at=moment + CLAIM)
                .returning(_DELETIONS)
            )
            found = (await connection.execute(claimed)).mappings().all()
        mine = {row["id"]: from_row(Deletion, row) for row in found}
        return tuple(mine[number] for number in ids)

    async def done(self, deletion_id: int) -> None:
        """See `Outbox.done`."""
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(_DELETIONS).where(_DELETIONS.c.id == deletion_id))

    async def failed(self, deletion_id: int, error: str, now: datetime) -> None:
        """See `Outbox.failed`."""
        it = _DELETIONS.c.id == deletion_id
        moment = check_moment(now)
        async with self._database.writing() as connection:
            query = sa.select(_DELETIONS.c.attempts).where(it).with_for_update()
            attempts = (await connection.execute(query)).scalar()
            if attempts is not None:
                values = {"last_error": stored(shortened(error)), "next_attempt_at": next_attempt_at(attempts, moment)}
                await connection.execute(sa.update(_DELETIONS).where(it).values(**values))

    async def waiting(self, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """See `Outbox.waiting`."""
        query = sa.select(_DELETIONS).order_by(_DELETIONS.c.id).limit(limit)
        async with self._database.reading() as connection:
            return tuple(from_row(Deletion, row) for row in (await connection.execute(query)).mappings())
