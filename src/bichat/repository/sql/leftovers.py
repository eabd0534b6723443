"""Leftovers in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bichat.errors import UserInputError
from bichat.repository import schema
from bichat.repository.backoff import CLAIM, next_attempt_at, shortened
from bichat.repository.chat_repository import BATCH
from bichat.repository.database import Database
from bichat.repository.ids import missing
from bichat.repository.moments import check_moment
from bichat.repository.records import Json, Leftover
from bichat.repository.rows import admit, from_row, lease_columns
from bichat.repository.sql.shelves import LEFTOVERS
from bichat.repository.text import plain_json, stored

_COLUMNS = schema.leftovers.c
_BY_DUE = (_COLUMNS.next_attempt_at, _COLUMNS.id)


class SqlLeftovers:
    """Implements `Leftovers`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, leftover: Leftover) -> Leftover:
        """See `Leftovers.add`."""
        record = admit(tenant, leftover)
        if record.lease is None:
            raise UserInputError("who makes something elsewhere holds a lease of it", stage="repository")
        async with self._database.writing() as connection:
            return await LEFTOVERS.add(connection, record)

    async def note(self, tenant: str, leftover_id: str, objects: Sequence[Json]) -> None:
        """See `Leftovers.note`."""
        values = {"objects": plain_json(list(objects))}
        async with self._database.writing() as connection:
            if not await LEFTOVERS.change(connection, tenant, leftover_id, values):
                raise missing(LEFTOVERS.noun)

    async def done(self, tenant: str, leftover_id: str) -> None:
        """See `Leftovers.done`."""
        it = LEFTOVERS.its(tenant, leftover_id)
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(schema.leftovers).where(it))

    async def failed(self, tenant: str, leftover_id: str, objects: Sequence[Json], error: str, now: datetime) -> None:
        """See `Leftovers.failed`."""
        it, moment = LEFTOVERS.its(tenant, leftover_id), check_moment(now)
        async with self._database.writing() as connection:
            attempts = (await connection.execute(sa.select(_COLUMNS.attempts).where(it).with_for_update())).scalar()
            if attempts is None:
                return
            values: dict[str, Any] = {
                "objects": plain_json(list(objects)),
                "last_error": stored(shortened(error)),
                "next_attempt_at": next_attempt_at(attempts, moment),
            }
            await connection.execute(sa.update(schema.leftovers).where(it).values(values | lease_columns(None)))

    async def claim(self, server: str, now: datetime, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """See `Leftovers.claim`."""
        moment = check_moment(now)
        is_due = sa.and_(
            _COLUMNS.lease_until.is_(None), _COLUMNS.server == stored(server), _COLUMNS.next_attempt_at <= moment
        )
        due = sa.select(_COLUMNS.id).where(is_due).order_by(*_BY_DUE).limit(limit)
        async with self._database.writing() as connection:
            ids = (await connection.execute(due.with_for_update(skip_locked=True))).scalars().all()
            claimed = (
                sa.update(schema.leftovers)
                .where(_COLUMNS.id.in_(ids))
                .values(attempts=_COLUMNS.attempts + 1, next_attempt_at=moment + CLAIM)
                .returning(schema.leftovers)
            )
            found = (await connection.execute(claimed)).mappings().all()
        mine = {row["id"]: from_row(Leftover, row) for row in found}
        return tuple(mine[each] for each in ids)

    async def waiting(self, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """See `Leftovers.waiting`."""
        query = sa.select(schema.leftovers).where(_COLUMNS.lease_until.is_(None)).order_by(_COLUMNS.id).limit(limit)
        async with self._database.reading() as connection:
            return tuple(from_row(Leftover, row) for row in (await connection.execute(query)).mappings())
