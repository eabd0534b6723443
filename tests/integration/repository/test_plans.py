"""A page costs what is on it, however long the list: the databases' own plans say so."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bichat.errors import DatabaseError, NotFoundError
from bichat.repository import open_repository, schema
from bichat.repository.database import open_database
from bichat.repository.pages import Place
from bichat.repository.sql.shelves import CONVERSATIONS, EXECUTIONS, FILES, MESSAGES, OUTPUTS, RUNS, SESSIONS
from bichat.testing.repository_tests.chat import Chat, moment

pytestmark = pytest.mark.anyio

_MANY = 100_000
_NUMBERS = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :many) SELECT n FROM n",
    "postgresql": "SELECT n FROM generate_series(1, :many) AS n(n)",
}
#: Ids and moments that go up with the number.
_ID = {"sqlite": "printf('%032x', n)", "postgresql": "lpad(to_hex(n), 32, '0')::uuid"}
_AT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', '+' || n || ' seconds') || '000'",
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second'",
}


async def _fill(connection: AsyncConnection, conversation: str, many: int = _MANY) -> None:
    """A history of many messages in one conversation."""
    dialect = connection.dialect.name
    it = "replace(:it, '-', '')" if dialect == "sqlite" else "cast(:it AS uuid)"
    await connection.execute(
        sa.text(
            "INSERT INTO bichat_messages (id, tenant, conversation_id, role, author, status, metadata, created_at) "
            f"SELECT {_ID[dialect]}, 'acme', {it}, 'user', '', 'completed', '{{}}', {_AT[dialect]} "
            f"FROM ({_NUMBERS[dialect]}) AS numbers"
        ),
        {"many": many, "it": conversation},
    )
    await connection.execute(sa.text("ANALYZE"))


async def _plan(connection: AsyncConnection, query: Any) -> str:
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN (ANALYZE, FORMAT JSON) "
    compiled = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    rows = (await connection.exec_driver_sql(explain + str(compiled).replace("%%", "%"))).all()
    return "\n".join(str(row[-1]) if isinstance(row[-1], str) else json.dumps(row[-1]) for row in rows)


def _rows_read(plan: list[Any]) -> int:
    """The most rows that any step of PostgreSQL's plan gave or threw away."""
    node = plan[0]["Plan"]
    steps, most = [node], 0
    while steps:
        step = steps.pop()
        most = max(most, step["Actual Rows"] + step.get("Rows Removed by Filter", 0))
        steps += step.get("Plans", [])
    return int(most)


async def test_a_page_of_a_long_history_is_found_by_its_index_wherever_it_lies(address):
    async with open_repository(address) as repository:
        conversation = await Chat(repository, "acme").conversation()
        database = open_database(address)
        async with database.writing() as connection:
            await _fill(connection, conversation.id)
        of_it = MESSAGES.table.c.conversation_id == conversation.id
        first = await repository.messages.page("acme", conversation.id, limit=100)
        in_the_middle = Place(first.items[0].created_at.replace(month=1, day=1, hour=14), first.items[0].id).cursor()

        async with database.reading() as connection:
            plans = [
                await _plan(connection, MESSAGES.page_query("acme", of_it, limit=100, cursor=cursor))
                for cursor in ("", first.next_cursor, in_the_middle)
            ]
        await database.close()

        assert len(first.items) == 100
        assert (
            len((await repository.messages.page("acme", conversation.id, limit=100, cursor=in_the_middle)).items) == 100
        )
    for plan in plans:
        assert "bichat_messages_conversation_id_newest" in plan
        assert "TEMP B-TREE" not in plan
        assert "Sort" not in plan
        if plan.startswith("[{"):
            assert _rows_read(json.loads(plan)) <= 101
    if not plans[1].startswith("[{"):
        assert "(created_at,id)<(?,?)" in plans[1].replace(" ", "") or "created_at<?" in plans[1].replace(" ", "")


@pytest.mark.parametrize(
    "shelf, where, index",
    [
        (CONVERSATIONS, [], "bichat_conversations_tenant_newest"),
        (CONVERSATIONS, [schema.conversations.c.user == "ann"], "bichat_conversations_user_newest"),
        (MESSAGES, [schema.messages.c.conversation_id == "0" * 32], "bichat_messages_conversation_id_newest"),
        (RUNS, [schema.runs.c.conversation_id == "0" * 32], "bichat_runs_conversation_id_newest"),
        (SESSIONS, [], "bichat_sessions_tenant_newest"),
        (EXECUTIONS, [schema.executions.c.session_id == "0" * 32], "bichat_executions_session_id_newest"),
        (OUTPUTS, [schema.outputs.c.execution_id == "0" * 32], "bichat_code_interpreter_outputs_execution_id"),
        (OUTPUTS, [schema.outputs.c.message_id == "0" * 32], "bichat_code_interpreter_outputs_message_id"),
        (FILES, [], "bichat_files_tenant_newest"),
    ],
)
async def test_every_list_has_an_index_that_is_in_its_order(sqlite_address, shelf, where, index):
    async with open_repository(sqlite_address):
        database = open_database(sqlite_address)
        async with database.reading() as connection:
            for cursor in ("", Place(moment(), "0" * 32).cursor()):
                plan = await _plan(connection, shelf.page_query("acme", *where, limit=20, cursor=cursor))

                assert f"USING INDEX {index}" in plan
                assert "TEMP B-TREE" not in plan
        await database.close()


async def test_what_a_tenant_keeps_is_added_up_from_an_index_alone(sqlite_address):
    async with open_repository(sqlite_address):
        database = open_database(sqlite_address)
        async with database.reading() as connection:
            for table in (schema.outputs, schema.files):
                total = sa.select(sa.func.sum(table.c.size_bytes), sa.func.count()).where(table.c.tenant == "acme")
                assert f"USING COVERING INDEX {table.name}_sizes" in await _plan(connection, total)
        await database.close()


#: The database breaks off when it comes to the message with the number 2,500.
_STOP = {
    "sqlite": [
        (
            "CREATE TRIGGER stop BEFORE DELETE ON bichat_messages WHEN OLD.id = printf('%032x', 2500) "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    ],
    "postgresql": [
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$",
        (
            "CREATE TRIGGER stop BEFORE DELETE ON bichat_messages FOR EACH ROW "
            "WHEN (OLD.id = lpad(to_hex(2500), 32, '0')::uuid) EXECUTE FUNCTION stop()"
        ),
    ],
}


@pytest.mark.parametrize("what", ["conversation", "tenant"])
async def test_a_huge_conversation_is_deleted_in_steps_that_keep_nobody_waiting_and_can_be_gone_on_with(address, what):
    async with open_repository(address) as repository:
        conversation = await Chat(repository, "acme").conversation()
        bystander = Chat(repository, "beta")
        kept = await bystander.message(await bystander.conversation(), "x")
        database = open_database(address)
        async with database.writing() as connection:
            await _fill(connection, conversation.id, 4_500)
            dialect = connection.dialect.name
            for statement in _STOP[dialect]:
                await connection.exec_driver_sql(statement)
        of_it = MESSAGES.table.c.conversation_id == conversation.id
        left = sa.select(sa.func.count()).select_from(MESSAGES.table).where(of_it)

        async def delete() -> None:
            if what == "conversation":
                await repository.conversations.delete("acme", conversation.id)
            else:
                await repository.tenants.delete("acme")

        with pytest.raises(DatabaseError, match="no room"):
            await delete()
        async with database.writing() as connection:
            assert (await connection.execute(left)).scalar() == 2_500
            await connection.exec_driver_sql(
                "DROP TRIGGER stop" + (" ON bichat_messages" if dialect == "postgresql" else "")
            )
        await delete()
        async with database.reading() as connection:
            assert (await connection.execute(left)).scalar() == 0
        await database.close()

        assert await repository.messages.get("beta", kept.id) == kept
        with pytest.raises(NotFoundError):
            await repository.conversations.get("acme", conversation.id)
