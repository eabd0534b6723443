"""A database that is open: its connections, and transactions that read or write.

SQLite: one file in write-ahead mode.  Python's driver would begin transactions by rules of its own; it is told to keep
away, and ours begin with `BEGIN`, or where they write with `BEGIN IMMEDIATE`: one that reads first and writes then
could else find that somebody has written in between, and no waiting would help.
PostgreSQL: READ COMMITTED, with rows locked that others might take (`FOR UPDATE`, `SKIP LOCKED`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bichat.errors import DatabaseError
from bichat.repository.address import driver_of, unusable
from bichat.repository.faults import database_error, in_words
from bichat.repository.text import write_json

#: How long a transaction waits for another's locks.
LOCK_WAIT_S: Final = 10
_CONNECT_S: Final = 10
#: How long connections may take to end.
_END_S: Final = 5.0
#: Of one statement, so that no connection is held for ever by a database that does not answer.
_STATEMENT_S: Final = 60
_CONNECTIONS: Final = 10
_WRITES: Final = "bichat_writes"


class Database:
    """Made by `open_database`; any number of tasks of one event loop may use it at a time."""

    def __init__(self, engine: AsyncEngine, *, ended: Callable[[float], Awaitable[None]] | None = None) -> None:
        """`engine` is configured as `open_database` does it.

        `ended` waits, so many seconds at most, until its connections have come to their end.
        """
        self._engine = engine
        self._ended = ended
        self._turn = anyio.Lock()
        self.url = engine.url
        self.is_embedded = engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that only reads; it never waits for one that writes."""
        with in_words(self.url):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that is committed at the end of the block, or rolled back when the block raises.

        Who is cancelled in it leaves nothing behind, unless the commit has begun: that is not broken off.

        Raises:
            DatabaseError: the database does not answer, or others hold what is needed for longer than `LOCK_WAIT_S`.
        """
        with in_words(self.url):
            if not self.is_embedded:
                async with self._committed() as connection:
                    yield connection
                return
            # SQLite has one writer at a time, and its own way of waiting is not fair.
            async with self._turn, self._committed() as connection:
                yield connection

    @asynccontextmanager
    async def _committed(self) -> AsyncGenerator[AsyncConnection]:
        async with self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            transaction = await connection.begin()
            try:
                yield connection
            except BaseException:
                with anyio.CancelScope(shield=True), suppress(exc.SQLAlchemyError):
                    await transaction.rollback()
                raise
            with anyio.CancelScope(shield=True):
                await transaction.commit()

    async def close(self) -> None:
        """End every connection, also of who is cancelled meanwhile: each is a thread, or a process of the server's."""
        with anyio.CancelScope(shield=True):
            await self._engine.dispose()
            if self._ended is not None:
                await self._ended(_END_S)


def open_database(address: str, *, create: bool = True, enforce_keys: bool = True) -> Database:
    """The database at `address`; a file of SQLite is made where there is none, with mode 0600 in a folder of 0700.

    A server is not asked for anything yet.

    Args:
        address: see `bichat.repository.address`.
        create: False where a file that is not there yet is an error.
        enforce_keys: False for migrations alone: SQLite rebuilds tables, and rows that refer to them must stay.

    Raises:
        DatabaseError: no such address, its driver is not installed, or its file cannot be made.
    """
    driver = driver_of(address)
    try:
        url = sa.make_url(address).set(drivername=driver)
    except (exc.ArgumentError, ValueError) as error:
        raise unusable("it is no address") from error
    try:
        if driver.startswith("sqlite"):
            return _open_file(url, create=create, enforce_keys=enforce_keys)
        return _open_server(url)
    except ImportError as error:
        extra = "server" if driver.startswith("sqlite") else "postgres"
        raise DatabaseError(
            f"databases of this kind need a package that is not installed ({error.name or error})",
            stage="settings",
            remedy=f"Install the extra: pip install 'bichat[{extra}]'.",
        ) from error


def _open_file(url: sa.URL, *, create: bool, enforce_keys: bool) -> Database:
    shown = url.render_as_string(hide_password=True)
    path = Path(url.database or "")
    if url.host or url.query or not path.is_absolute():
        raise unusable("it names no file by its whole path", shown=shown)
    if not create and not path.exists():
        raise DatabaseError(f"there is no database {shown} yet", stage="database", remedy="Run `bichat db upgrade`.")
    from bichat.repository.sqlite_driver import Connections

    connections = Connections()
    engine = create_async_engine(
        url,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=LOCK_WAIT_S * 3,
        json_serializer=write_json,
        connect_args={"timeout": LOCK_WAIT_S, "async_creator_fn": connections.make},
    )
    try:
        _make_file(path)  # once it is known that its driver is there
    except (OSError, ValueError) as error:
        raise database_error(error, url) from error

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        _set_up(connection, "PRAGMA journal_mode = WAL", f"PRAGMA foreign_keys = {'ON' if enforce_keys else 'OFF'}")

    @event.listens_for(engine.sync_engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Database(engine, ended=connections.ended)


def _open_server(url: sa.URL) -> Database:
    engine = create_async_engine(
        url,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_timeout=LOCK_WAIT_S * 3,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,  # a server that was started again is noticed before anything is asked of it
        json_serializer=write_json,
        connect_args={"connect_timeout": _CONNECT_S},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        _set_up(
            connection,
            f"SET lock_timeout = '{LOCK_WAIT_S}s'",
            f"SET statement_timeout = '{_STATEMENT_S}s'",
            f"SET idle_in_transaction_session_timeout = '{_STATEMENT_S}s'",
        )
        connection.commit()

    return Database(engine)


def _set_up(connection: Any, *statements: str) -> None:
    """Run them on a driver's new connection; one on which they fail is closed, for the pool knows nothing of it yet."""
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
    except BaseException:
        connection.close()
        raise


def _make_file(path: Path) -> None:
    """Make it where there is none.  One that is there is not opened: to close it would void SQLite's locks on it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)
        path.chmod(0o600)
    # What SQLite cannot open is not given to its driver, whose thread would outlive the event loop then.
    if not path.is_file():
        raise OSError(errno.EISDIR, "unable to open what is no file", str(path))
    if not os.access(path, os.R_OK | os.W_OK):
        raise OSError(errno.EACCES, "unable to open it for reading and writing", str(path))
