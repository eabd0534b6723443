"""The version of a database's schema, and the way to another: Alembic, run from here, without files of settings.

A whole upgrade is one transaction on both databases: it happens, or it does not.  Two at a time wait for one another,
by SQLite's write lock or a lock of PostgreSQL's, and the second finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from bichat.errors import DatabaseError
from bichat.repository import schema
from bichat.repository.database import LOCK_WAIT_S, Database, open_database
from bichat.repository.schema_state import SchemaState

_FOLDER: Final = Path(__file__).parent / "migrations"
_VERSION_TABLE: Final = "bichat_schema_version"
#: Of `pg_advisory_xact_lock`: "bichat" in ASCII.
_LOCK: Final = 0x626963686174


def newest_version() -> str:
    """The version that this program speaks."""
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101  # the list of migrations is never empty
    return head


async def current_version(database: Database) -> str:
    """The version of the database's schema; empty where there is none yet.

    Raises:
        DatabaseError: the database does not answer.
    """
    async with database.reading() as connection:
        return await connection.run_sync(_version_of)


async def check_version(database: Database) -> None:
    """Nothing, when the database's schema is the one that this program speaks.

    Raises:
        DatabaseError: it is older, or newer; says what to do.
    """
    refuse_other(await current_version(database))


def refuse_other(version: str) -> None:
    """Nothing, when `version` is the one that this program speaks.

    Raises:
        DatabaseError: it is older, or newer; says what to do.
    """
    if version == newest_version():
        return
    if version and version not in _versions():
        raise DatabaseError(
            f"the database's schema has the version {version}, which is newer than this program's {newest_version()}",
            stage="schema",
            remedy="Install the newer bichat that made it, or restore a backup from before.",
        )
    have = f"the version {version}" if version else "no tables yet"
    raise DatabaseError(
        f"the database has {have}; this program needs the version {newest_version()}",
        stage="schema",
        remedy="Run `bichat db upgrade`; make a backup first.",
    )


async def examine(address: str) -> SchemaState:
    """What stands in the database at `address`; nothing is made or changed.

    Raises:
        DatabaseError: there is no file yet, or the database does not answer.
    """
    database = open_database(address, create=False)
    try:
        async with database.reading() as connection:
            version = await connection.run_sync(_version_of)
            found = await connection.run_sync(differences) if version == newest_version() else []
    finally:
        await database.close()
    place = database.url.render_as_string(hide_password=True)
    return SchemaState(
        place=place, version=version, newest=newest_version(), differences=tuple(str(entry) for entry in found)
    )


async def upgrade(address: str) -> tuple[str, str]:
    """Bring the schema at `address` to the version that this program speaks; the version before, and the one after.

    Raises:
        DatabaseError: it is newer already, the database does not answer, or a migration failed; nothing has changed.
    """
    return await migrate(address, "head")


async def migrate(address: str, target: str) -> tuple[str, str]:
    """Bring it to the version `target`: `head`, one by its name, or `base` for no tables at all.

    Older ones lose what only newer ones can hold: this is for tests, and for who knows what he does.
    """
    database = open_database(address, enforce_keys=False)
    try:
        async with database.writing() as connection:
            return await connection.run_sync(_migrated, target)
    finally:
        await database.close()


def differences(connection: sa.Connection) -> list[Any]:
    """What Alembic finds different between the tables there and those in `schema`."""
    from alembic.autogenerate import compare_metadata

    context = MigrationContext.configure(
        connection, opts={"version_table": _VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    )
    return compare_metadata(context, schema.metadata)


def _migrated(connection: sa.Connection, target: str) -> tuple[str, str]:
    if connection.dialect.name == "postgresql":
        _wait_in_line(connection)
    before = _version_of(connection)
    scripts = _scripts()
    if before and before not in _versions():
        refuse_other(before)
    ranks = {version: rank for rank, version in enumerate(["", *_versions()])} | {"base": 0}
    goal = newest_version() if target == "head" else target
    if ranks[goal] != ranks[before]:
        find = scripts._upgrade_revs if ranks[goal] > ranks[before] else scripts._downgrade_revs  # noqa: SLF001  # what alembic.command calls; it offers no other way without a file of settings
        _run(connection, scripts, lambda version, _context: find(goal, version))
    return before, "" if goal == "base" else goal


def _wait_in_line(connection: sa.Connection) -> None:
    """Let one upgrade after the other go on: however long the one before takes, and this one itself."""
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # Not so for tables: while it waits for one that is in use, everybody else waits behind it.
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))


def _run(connection: sa.Connection, scripts: ScriptDirectory, steps: Callable[[Any, Any], Any]) -> None:
    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(
            connection=connection,
            target_metadata=schema.metadata,
            version_table=_VERSION_TABLE,
            render_as_batch=True,
            transactional_ddl=True,  # SQLite's too: our own BEGIN holds, the driver commits nothing by itself
        )
        environment.run_migrations()
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise DatabaseError(f"the migration left rows of {broken[0]} without what they belong to", stage="schema")


def _version_of(connection: sa.Connection) -> str:
    context = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE})
    return context.get_current_revision() or ""


def _versions() -> list[str]:
    """All versions that this program knows, the first one first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(_FOLDER)
