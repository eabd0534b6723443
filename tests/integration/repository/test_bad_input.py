"""Databases that are not there, refuse us, are locked or full: a clear error each time, and nothing half-done."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from bichat.domain import StoredFile
from bichat.errors import DatabaseError, NotFoundError
from bichat.repository import database as database_module
from bichat.repository import new_id, open_repository, upgrading
from bichat.repository.database import Database, open_database
from bichat.repository.records import Message, Part, Role
from bichat.testing.repository_tests.chat import Chat, everything, output, stored

pytestmark = pytest.mark.anyio

_SECRET = "s3cr3t-p4ss"


def path_of(address: str) -> Path:
    return Path(address.removeprefix("sqlite+aiosqlite://"))


async def refused(address: str) -> DatabaseError:
    """The error of opening what is at `address`."""
    with pytest.raises(DatabaseError) as told:
        async with open_repository(address):
            pass
    assert told.value.code == "database_failed"
    assert told.value.remedy
    assert _SECRET not in f"{told.value.message} {told.value.remedy} {told.value.to_dict()}"
    return told.value


# --------------------------------------------------------------------------------------------------- what is no address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bichat.db",
        "/srv/bichat.db",
        "mysql://root:s3cr3t-p4ss@host/db",
        "postgresql+asyncpg://root:s3cr3t-p4ss@host/db",
        "sqlite+pysqlite:////srv/bichat.db",
        f"{_SECRET}://host/db",
        f"postgresql://user:{_SECRET}@host:port/db",
        f"postgresql://user:{_SECRET}@[::1/db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///relative/bichat.db",
        f"sqlite+aiosqlite://user:{_SECRET}@host/bichat.db",
        "sqlite+aiosqlite:////tmp/x.db?mode=ro",
        "sqlite+aiosqlite:////tmp/\0.db",
    ],
)
async def test_what_leads_to_no_database_is_refused_with_the_forms_that_do(address):
    error = await refused(address)

    assert error.stage in {"settings", "database"}


async def test_common_spellings_of_addresses_are_understood(postgres_address, sqlite_address):
    await upgrading.upgrade(postgres_address)

    for spelling in (
        postgres_address.replace("postgresql+psycopg", "postgresql"),
        postgres_address.replace("postgresql+psycopg", "postgres"),
        sqlite_address.replace("sqlite+aiosqlite", "sqlite"),
    ):
        async with open_repository(spelling) as repository:
            assert (await repository.conversations.page("acme")).items == ()


@pytest.mark.parametrize(
    "package, kind, extra",
    [
        ("sqlalchemy", "sqlite", "server"),
        ("alembic", "sqlite", "server"),
        ("aiosqlite", "sqlite", "server"),
        ("psycopg", "postgresql", "postgres"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it(package, kind, extra, sqlite_address):
    address = sqlite_address if kind == "sqlite" else "postgresql+psycopg://user@host/db"
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import anyio, bichat\n"
        "from bichat.repository.opening import upgrade_schema\n"
        f"try: anyio.run(upgrade_schema, {address!r})\n"
        "except bichat.DatabaseError as error: print(error.code, error.message, error.remedy)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.startswith("database_failed")
    assert package in done.stdout
    assert f"pip install 'bichat[{extra}]'" in done.stdout
    assert not path_of(sqlite_address).exists()


# ------------------------------------------------------------------------------------------------ what does not answer


async def test_a_server_that_is_not_there_is_named_without_the_password():
    error = await refused(f"postgresql+psycopg://ann:{_SECRET}@127.0.0.1:1/bichat")

    assert "ann:***@127.0.0.1:1/bichat" in error.message


@pytest.mark.parametrize("socket", ["/nonexistent", "host.invalid"])
async def test_a_host_that_is_not_there_is_a_clear_error(socket):
    await refused(f"postgresql+psycopg://ann:{_SECRET}@/bichat?host={socket}")


async def test_a_wrong_password_is_told_and_never_shown(postgres):
    postgres.do("CREATE ROLE ann LOGIN PASSWORD 'right'")
    hba = postgres.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all ann scram-sha-256\n" + before)
    postgres.do("SELECT pg_reload_conf()")
    try:
        error = await refused(postgres.address("postgres", user="ann", password=_SECRET))
    finally:
        hba.write_text(before)
        postgres.do("SELECT pg_reload_conf()")
        postgres.do("DROP ROLE ann")

    assert "password authentication failed" in error.message
    assert "Correct user and password" in error.remedy


async def test_a_database_that_does_not_exist_is_a_clear_error(postgres):
    error = await refused(postgres.address("nowhere"))

    assert "does not exist" in error.message


async def test_a_user_without_rights_is_a_clear_error(postgres, postgres_address):
    await upgrading.upgrade(postgres_address)
    postgres.do("CREATE ROLE bob LOGIN")
    try:
        error = await refused(postgres_address.replace("postgres@", "bob@"))
    finally:
        postgres.do("DROP ROLE bob")

    assert "permission denied" in error.message


async def test_a_server_that_ends_our_connection_in_a_transaction_leaves_nothing_and_is_met_again(
    postgres, postgres_address
):
    await upgrading.upgrade(postgres_address)
    database = open_database(postgres_address)
    async with open_repository(postgres_address) as repository:
        conversation = await Chat(repository, "acme").conversation()
        with pytest.raises(DatabaseError):
            await _cut_off(database, postgres)
        await database.close()

        assert await repository.conversations.get("acme", conversation.id) == conversation


async def _cut_off(database: Database, postgres) -> None:
    """Delete everything, with a connection that the server ends before that is committed."""
    async with database.writing() as connection:
        await connection.execute(sa.text("DELETE FROM bichat_conversations"))
        number = (await connection.execute(sa.text("SELECT pg_backend_pid()"))).scalar()
        postgres.do(f"SELECT pg_terminate_backend({number})")
        await connection.execute(sa.text("SELECT 1"))


# --------------------------------------------------------------------------------------------------- what is in the way


async def test_a_database_locked_for_too_long_is_a_clear_error_and_works_again_afterwards(sqlite_address, monkeypatch):
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.2)
    async with open_repository(sqlite_address) as repository:
        chat = Chat(repository, "acme")
        with closing(sqlite3.connect(path_of(sqlite_address), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseError, match="locked") as told:
                await chat.conversation()
            assert (await repository.conversations.page("acme")).items == ()  # reading goes on
            other.execute("ROLLBACK")

        assert "Another program" in told.value.remedy
        assert await chat.conversation()


async def test_a_row_that_is_locked_for_too_long_is_a_clear_error(postgres_address, monkeypatch):
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.2)
    await upgrading.upgrade(postgres_address)
    async with open_repository(postgres_address) as repository:
        chat = Chat(repository, "acme")
        conversation = await chat.conversation()
        database = open_database(postgres_address)
        async with database.writing() as connection:
            await connection.execute(sa.text("SELECT 1 FROM bichat_conversations FOR UPDATE"))
            with pytest.raises(DatabaseError, match="lock timeout"):
                await chat.message(conversation, "x")
        await database.close()

        assert await chat.message(conversation, "x")


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5_000])
async def test_a_file_that_is_no_database_is_left_as_it_is(sqlite_address, content):
    path = path_of(sqlite_address)
    path.parent.mkdir()
    path.write_bytes(content)

    await refused(sqlite_address)

    assert path.read_bytes() == content


async def test_a_folder_in_the_place_of_the_file_is_a_clear_error(sqlite_address):
    path_of(sqlite_address).mkdir(parents=True)

    await refused(sqlite_address)


async def test_a_file_in_the_place_of_the_folder_is_a_clear_error(sqlite_address):
    path_of(sqlite_address).parent.write_bytes(b"x")

    await refused(sqlite_address)


def test_a_full_disk_is_a_clear_error_and_what_was_there_stays(sqlite_address):
    # A process that may write no files larger than the database is now stands for a disk without room.
    script = (
        "import sys, resource, anyio, pathlib\n"
        "from bichat.errors import DatabaseError\n"
        "from bichat.repository import open_repository\n"
        "from bichat.testing.repository_tests.chat import Chat\n"
        "async def main(address):\n"
        "    async with open_repository(address) as repository:\n"
        "        chat = Chat(repository, 'acme')\n"
        "        first = await chat.conversation(title='first')\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))\n"
        "        try: await chat.message(first, 'x' * 5_000_000)\n"
        "        except DatabaseError as error: print(error.code)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "        print(len((await repository.messages.page('acme', first.id)).items))\n"
        "        await chat.message(first, 'y')\n"
        "        print(len((await repository.messages.page('acme', first.id)).items))\n"
        "anyio.run(main, sys.argv[1])\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, sqlite_address], capture_output=True, text=True, check=False
    )

    assert (done.stdout.split(), done.stderr) == (["database_failed", "0", "1"], "")


#: What a server without room says at the commit, where it is met last and everything seems done.
_FULL_AT_COMMIT = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON bichat_message_parts DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION no_room()
"""


async def test_a_server_without_room_at_the_commit_is_a_clear_error_and_what_was_there_stays(
    postgres, postgres_address
):
    await upgrading.upgrade(postgres_address)
    name = str(sa.make_url(postgres_address).database)
    async with open_repository(postgres_address) as repository:
        chat = Chat(repository, "acme")
        conversation, execution = await chat.conversation(), await chat.execution()
        pending = await repository.outputs.reserve("acme", output("acme", execution.id))
        answer = Message(
            tenant="acme",
            conversation_id=conversation.id,
            role=Role.ASSISTANT,
            parts=(Part(kind="text", content={"text": "here it is"}),),
        )
        published = {pending.id: stored(pending.storage_key)}
        postgres.do(_FULL_AT_COMMIT, name)

        with pytest.raises(DatabaseError, match="No space left") as told:
            await repository.messages.add("acme", answer, published=published, executions=[execution.id])

        assert "Make room" in told.value.remedy
        assert (await repository.messages.page("acme", conversation.id)).items == ()
        assert (await repository.outputs.page("acme")).items == ()
        assert (await repository.executions.get("acme", execution.id)).message_id is None
        postgres.do("DROP FUNCTION no_room CASCADE", name)
        assert await repository.messages.add("acme", answer, published=published, executions=[execution.id]) == answer
        assert [kept.id for kept in (await repository.outputs.page("acme", message_id=answer.id)).items] == [pending.id]


async def test_a_place_where_nobody_may_write_is_a_clear_error():
    await refused("sqlite+aiosqlite:////proc/bichat/bichat.db")


# ------------------------------------------------------------------------------------------------------ all or nothing


async def test_who_is_cancelled_in_a_transaction_leaves_nothing_behind(address):
    database = open_database(address)
    async with open_repository(address) as repository:
        conversation = await Chat(repository, "acme").conversation()
        with anyio.CancelScope() as scope:
            async with database.writing() as connection:
                await connection.execute(sa.text("DELETE FROM bichat_conversations"))
                scope.cancel()
                await anyio.sleep_forever()
        await database.close()

        assert await repository.conversations.get("acme", conversation.id) == conversation


async def test_many_who_are_cancelled_at_any_moment_leave_no_lock_and_no_half_message_behind(address):
    async with open_repository(address) as repository:
        chat = Chat(repository, "acme")
        conversation = await chat.conversation()
        saved: list[Message] = []

        async def say(patience_s: float) -> None:
            with anyio.move_on_after(patience_s):
                saved.append(await chat.message(conversation, "one", "two"))

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(say, number / 500)
        await chat.message(conversation, "one", "two")

        there = await everything(repository.messages.page, "acme", conversation.id)
        assert {message.id for message in saved} < {message.id for message in there}
        assert {len(message.parts) for message in there} == {2}


async def test_a_message_one_of_whose_outputs_is_bad_is_kept_out_whole_and_can_be_saved_without_it(address):
    async with open_repository(address) as repository:
        chat = Chat(repository, "acme")
        conversation = await chat.conversation()
        answer = Message(
            tenant="acme",
            conversation_id=conversation.id,
            role=Role.ASSISTANT,
            parts=(Part(kind="citation", content={"index": 1}),),
        )
        nowhere = StoredFile(
            key="acme/x", name="a", mime_type="b", size_bytes=1, sha256="", created_at=conversation.created_at
        )

        with pytest.raises(NotFoundError):
            await repository.messages.add("acme", answer, published={new_id(): nowhere})
        await repository.messages.add("acme", answer)

        assert await repository.messages.get("acme", answer.id) == answer


async def test_descriptors_are_given_back(sqlite_address, open_descriptors):
    async with open_repository(sqlite_address):
        pass
    before = len(open_descriptors())
    for _ in range(3):
        with suppress(DatabaseError):
            async with open_repository(sqlite_address) as repository:
                await Chat(repository, "acme").conversation()
                raise DatabaseError("x")

    assert len(open_descriptors()) == before


# -------------------------------------------------------------------------------------------------- for its owner alone


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_nobody_else_on_the_host_may_look_into_the_file(sqlite_address, mask):
    before = os.umask(mask)
    try:
        async with open_repository(sqlite_address) as repository:
            await Chat(repository, "acme").conversation()
            files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in path_of(sqlite_address).parent.iterdir()}
    finally:
        os.umask(before)

    assert files == dict.fromkeys(("bichat.db", "bichat.db-wal", "bichat.db-shm"), 0o600)
    assert stat.S_IMODE(path_of(sqlite_address).parent.stat().st_mode) == 0o700


async def test_a_file_of_sqlite_keeps_its_rules_whoever_opens_it(sqlite_address):
    async with open_repository(sqlite_address):
        database = open_database(sqlite_address)
        async with database.reading() as connection:
            values = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            ]
        await database.close()

    assert values == ["wal", 1, 2, 10_000]
