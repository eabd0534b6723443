"""A repository from its address.  SQLAlchemy is loaded here, and not before somebody wants a database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from bichat.errors import DatabaseError
from bichat.repository.address import driver_of
from bichat.repository.schema_state import SchemaState

if TYPE_CHECKING:
    from bichat.repository.chat_repository import ChatRepository


@asynccontextmanager
async def open_repository(address: str) -> AsyncGenerator[ChatRepository]:
    """The repository at `address`, closed at the end of the block.

    The embedded database, a file of SQLite, is made where there is none and brought to this program's version; a server's
    is only looked at: who runs `bichat db upgrade` there has made a backup before.

    Args:
        address: `sqlite+aiosqlite:////path/to/file.db` or `postgresql+psycopg://user:password@host/database`.

    Raises:
        DatabaseError: no such address, its packages are not installed, the database does not answer or refuses us, or
            its schema is of another version.
    """
    driver = driver_of(address)
    with _needed_packages():
        from bichat.repository import upgrading
        from bichat.repository.database import open_database
        from bichat.repository.sql_repository import SqlRepository
    database = open_database(address)
    try:
        if driver.startswith("sqlite") and await upgrading.current_version(database) != upgrading.newest_version():
            await upgrading.upgrade(address)
        await upgrading.check_version(database)
        yield SqlRepository(database)
    finally:
        await database.close()


async def upgrade_schema(address: str) -> tuple[str, str]:
    """Bring the tables at `address` to this program's version; the version before (empty: none), and the one after.

    Raises:
        DatabaseError: they are newer already, the database does not answer, or a migration failed; nothing has changed.
    """
    driver_of(address)
    with _needed_packages():
        from bichat.repository import upgrading
    return await upgrading.upgrade(address)


async def examine(address: str) -> SchemaState:
    """What stands in the database at `address`; nothing is made or changed.

    Raises:
        DatabaseError: there is no file yet, or the database does not answer.
    """
    driver_of(address)
    with _needed_packages():
        from bichat.repository import upgrading
    return await upgrading.examine(address)


@contextmanager
def _needed_packages() -> Generator[None]:
    """Within, SQLAlchemy and Alembic are loaded; a `DatabaseError` says so when they are not installed."""
    try:
        yield
    except ImportError as error:
        raise DatabaseError(
            f"databases need a package that is not installed ({error.name or error})",
            stage="settings",
            remedy="Install the extra: pip install 'bichat[server]'.",
        ) from error
