"""API keys, and the audit log."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from bichat.errors import ConflictError, NotFoundError
from bichat.repository import ChatRepository, new_id
from bichat.repository.records import (
    ApiKey,
    AuditEntry,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    moment,
)


class KeyTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_key_is_found_by_its_hash_and_revoked_once(self, repository: ChatRepository, tenant: str) -> None:
        key = ApiKey(tenant=tenant, user="ann", name="ci", prefix="bk_abc", sha256=secrets.token_hex(32))
        await repository.keys.add(tenant, key)
        await repository.keys.use(tenant, key.id, moment(1))

        assert await repository.keys.find(key.sha256) == replace(key, last_used_at=moment(1))
        assert await repository.keys.exist(good_at=moment(1))
        revoked = await repository.keys.revoke(tenant, key.id, moment(2))
        assert await repository.keys.revoke(tenant, key.id, moment(3)) == revoked
        assert revoked.revoked_at == moment(2)
        assert await repository.keys.exist()
        assert (await repository.keys.page(tenant)).items == (revoked,)
        for nothing in ("", "\0", "0" * 64, "x" * 1_000):
            with pytest.raises(NotFoundError):
                await repository.keys.find(nothing)
        with pytest.raises(ConflictError):
            await repository.keys.add(tenant, replace(key, id=new_id()))

    async def test_the_audit_log_says_who_ran_what_when(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        execution = await chat.execution()
        entries = [
            AuditEntry(
                tenant=tenant,
                user="ann",
                api_key_id=new_id(),
                action="execution",
                session_id=execution.session_id,
                execution_id=execution.id,
                code_sha256=execution.code_sha256,
                outcome=str(number),
                at=moment(number),
            )
            for number in range(9)
        ]
        for entry in entries:
            await repository.audit.add(tenant, entry)
        await repository.sessions.delete(tenant, execution.session_id)

        assert await everything(repository.audit.page, tenant, limit=4) == entries[::-1]
