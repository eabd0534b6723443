"""API keys in SQL."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from bichat.repository.database import Database
from bichat.repository.ids import missing
from bichat.repository.moments import check_moment
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import ApiKey
from bichat.repository.rows import admit, from_row
from bichat.repository.sql.shelves import KEYS
from bichat.repository.text import stored


class SqlKeys:
    """Implements `Keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, key: ApiKey) -> ApiKey:
        """See `Keys.add`."""
        record = admit(tenant, key)
        async with self._database.writing() as connection:
            return await KEYS.add(connection, record)

    async def find(self, sha256: str) -> ApiKey:
        """See `Keys.find`."""
        query = sa.select(KEYS.table).where(KEYS.table.c.sha256 == stored(sha256))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise missing(KEYS.noun)
            return from_row(ApiKey, row)

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[ApiKey]:
        """See `Keys.page`."""
        async with self._database.reading() as connection:
            return await KEYS.page(connection, tenant, limit=limit, cursor=cursor)

    async def exist(self, *, good_at: datetime | None = None) -> bool:
        """See `Keys.exist`."""
        columns = KEYS.table.c
        query = sa.select(columns.id).limit(1)
        if good_at is not None:
            is_in_time = sa.or_(columns.expires_at.is_(None), columns.expires_at > check_moment(good_at))
            query = query.where(columns.revoked_at.is_(None), is_in_time)
        async with self._database.reading() as connection:
            return (await connection.execute(query)).first() is not None

    async def use(self, tenant: str, key_id: str, at: datetime) -> None:
        """See `Keys.use`."""
        async with self._database.writing() as connection:
            if not await KEYS.change(connection, tenant, key_id, {"last_used_at": check_moment(at)}):
                raise missing(KEYS.noun)

    async def revoke(self, tenant: str, key_id: str, at: datetime) -> ApiKey:
        """See `Keys.revoke`."""
        still_good = KEYS.table.c.revoked_at.is_(None)
        async with self._database.writing() as connection:
            await KEYS.change(connection, tenant, key_id, {"revoked_at": check_moment(at)}, still_good)
            return await KEYS.get(connection, tenant, key_id)
