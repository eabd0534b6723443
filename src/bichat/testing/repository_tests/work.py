"""Sessions and executions, from beginning to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bichat.errors import ConflictError, NotFoundError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    KeptFile,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    moment,
    output,
    stored,
)


class WorkTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_session_is_saved_and_ended_by_its_owner(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        session = await chat.session()
        used = replace(
            session, last_used_at=moment(5), files=(KeptFile(name="a", storage_key="k", size_bytes=1, sha256=""),)
        )

        assert await repository.sessions.save(tenant, used, owner="process-1") == used
        with pytest.raises(ConflictError):
            await repository.sessions.save(tenant, used, owner="process-2")
        ended = await repository.sessions.save(tenant, replace(used, end_reason="idle", ended_at=moment(6)))

        assert ended == replace(used, end_reason="idle", ended_at=moment(6), lease=None)
        alive = await chat.session()
        assert await everything(repository.sessions.page, tenant, live=True) == [alive]
        assert await everything(repository.sessions.page, tenant, live=False) == [ended]

    async def test_an_execution_ends_together_with_its_outputs_and_once(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id))
        ended = replace(
            execution, status="completed", stdout="2\n", timings={"run_s": 0.5}, stdout_omitted_bytes=1 << 40
        )

        with pytest.raises(NotFoundError):
            await repository.executions.finish(tenant, ended, published={new_id(): stored("a")})
        assert (await repository.executions.get(tenant, execution.id)).status == "running"
        after = await repository.executions.finish(tenant, ended, published={made.id: stored(made.storage_key)})

        assert after == replace(ended, lease=None, ended_at=after.ended_at)
        assert after.ended_at is not None
        assert await repository.executions.get(tenant, execution.id) == after
        assert (await repository.outputs.get(tenant, made.id)).sha256 == stored("").sha256
        with pytest.raises(ConflictError):
            await repository.executions.finish(tenant, ended)
        assert await everything(repository.executions.page, tenant, execution.session_id) == [after]

    async def test_an_execution_publishes_its_own_outputs_alone(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        one, other = await chat.execution(), await chat.execution()
        made = await repository.outputs.reserve(tenant, output(tenant, other.id))

        with pytest.raises(NotFoundError):
            await repository.executions.finish(
                tenant, replace(one, status="completed"), published={made.id: stored(made.storage_key)}
            )
