"""From every version of the tables to every other, with rows in them, on both databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.errors import DatabaseError
from bichat.repository import open_repository, upgrading
from bichat.repository.database import open_database
from bichat.testing.repository_tests.chat import Chat, everything

pytestmark = pytest.mark.anyio

_VERSIONS = upgrading._versions()


@asynccontextmanager
async def connected(address: str) -> AsyncGenerator[AsyncConnection]:
    """A transaction past the repository."""
    database = open_database(address)
    try:
        async with database.writing() as connection:
            yield connection
    finally:
        await database.close()


async def test_the_migrations_make_the_tables_that_the_program_speaks_of(address):
    async with connected(address) as connection:
        assert await connection.run_sync(upgrading.differences) == []


async def test_rows_survive_the_way_down_to_each_version_and_up_again(address):
    async with open_repository(address) as repository:
        chat = Chat(repository, "acme")
        conversation = await chat.conversation(title="kept")
        message = await chat.message(conversation, "one", "two")
        execution = await chat.execution(await chat.session(conversation_id=conversation.id), message_id=message.id)
        made = await chat.output(execution, message_id=message.id)
        file = await chat.upload()
        await repository.files.delete("acme", (await chat.upload()).id)
        waiting = await chat.waiting()

    for version in _VERSIONS:
        assert await upgrading.migrate(address, version) == (upgrading.newest_version(), version)
        assert await upgrading.upgrade(address) == (version, upgrading.newest_version())

        async with open_repository(address) as repository:
            chat = Chat(repository, "acme")
            assert await repository.messages.get("acme", message.id) == message
            assert await repository.outputs.get("acme", made.id) == made
            assert await everything(repository.files.page, "acme") == [file]
            assert await chat.waiting() == waiting

    async with open_repository(address) as repository:
        await repository.conversations.delete("acme", conversation.id)
        assert set(await Chat(repository, "acme").waiting()) == {*waiting, made.storage_key}


async def test_all_the_way_down_nothing_is_left(address):
    assert await upgrading.migrate(address, "base") == (upgrading.newest_version(), "")

    async with connected(address) as connection:
        left = await connection.run_sync(lambda there: sa.inspect(there).get_table_names())
    assert left == ["bichat_schema_version"]
    await upgrading.upgrade(address)
    await test_the_migrations_make_the_tables_that_the_program_speaks_of(address)


async def test_a_migration_that_fails_changes_nothing(empty_address, monkeypatch):
    await upgrading.migrate(empty_address, _VERSIONS[0])
    async with connected(empty_address) as connection:
        await connection.execute(sa.text("CREATE TABLE bichat_run_events (in_the_way INTEGER)"))

    with pytest.raises(DatabaseError, match="already exists"):
        await upgrading.upgrade(empty_address)

    async with connected(empty_address) as connection:
        names = await connection.run_sync(lambda there: sa.inspect(there).get_table_names())
        await connection.execute(sa.text("DROP TABLE bichat_run_events"))
    assert "bichat_runs" not in names
    assert await upgrading.upgrade(empty_address) == (_VERSIONS[0], upgrading.newest_version())


def test_processes_that_upgrade_at_once_do_it_once(empty_address):
    script = (
        "import sys, anyio\n"
        "from bichat.repository.opening import upgrade_schema\n"
        "sys.stdin.readline()\n"
        "print(*anyio.run(upgrade_schema, sys.argv[1]), sep=',')\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, empty_address]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in running:  # all of them have begun
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    told = [process.communicate(timeout=60) for process in running]

    newest = upgrading.newest_version()
    assert sorted(out for out, _ in told) == [f",{newest}\n"] + [f"{newest},{newest}\n"] * 3, told


async def test_a_file_of_sqlite_is_made_and_upgraded_when_it_is_opened(tmp_path):
    address = f"sqlite+aiosqlite:///{tmp_path}/new/bichat.db"
    async with open_repository(address) as repository:
        await Chat(repository, "acme").conversation()
    await upgrading.migrate(address, _VERSIONS[0])

    async with open_repository(address) as repository:
        assert len((await repository.conversations.page("acme")).items) == 1
    assert (await upgrading.examine(address)).version == upgrading.newest_version()


async def test_the_tables_of_a_newer_program_are_left_alone(address):
    async with connected(address) as connection:
        await connection.execute(sa.text("UPDATE bichat_schema_version SET version_num = '9999'"))

    for attempt in (upgrading.upgrade(address), _opened(address)):
        with pytest.raises(DatabaseError, match="newer") as told:
            await attempt
        assert (told.value.stage, "Install" in told.value.remedy) == ("schema", True)
    assert (await upgrading.examine(address)).version == "9999"


@pytest.mark.parametrize("version", ["base", _VERSIONS[0]])
async def test_a_server_with_older_tables_is_refused_with_the_command_that_helps(postgres_address, version):
    await upgrading.migrate(postgres_address, version)

    with pytest.raises(DatabaseError, match="needs the version") as told:
        await _opened(postgres_address)

    assert "bichat db upgrade" in told.value.remedy


async def test_tables_that_somebody_changed_are_noticed(address):
    async with connected(address) as connection:
        await connection.execute(sa.text("ALTER TABLE bichat_files DROP COLUMN purpose"))

    (difference,) = (await upgrading.examine(address)).differences

    assert "purpose" in difference


async def _opened(address: str) -> None:
    async with open_repository(address):
        pass
