"""What was made on other servers stays on record until it is deleted there."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest

from bichat.errors import NotFoundError, UserInputError
from bichat.repository import ChatRepository
from bichat.repository.chat_repository import CLAIM_S, MAX_BACKOFF_S
from bichat.repository.records import Lease, Leftover
from bichat.testing.repository_tests.chat import lease, moment, tenant_name

_THREAD = {"kind": "thread", "id": "thread_1"}
_ASSISTANT = {"kind": "assistant", "id": "asst_\0 é"}


class LeftoverTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def server(self) -> str:
        return f"http://{secrets.token_hex(8)}.example.com/v1"

    async def test_what_an_execution_makes_elsewhere_is_on_record_until_it_is_deleted(
        self, repository: ChatRepository, tenant: str, server: str
    ) -> None:
        left = await repository.leftovers.add(
            tenant, Leftover(tenant=tenant, server=server, lease=lease(), next_attempt_at=moment())
        )
        await repository.leftovers.note(tenant, left.id, [_THREAD, _ASSISTANT])
        assert await repository.leftovers.claim(server, moment(9)) == ()

        await repository.leftovers.failed(tenant, left.id, [_ASSISTANT], "it\0 said no" * 100, moment())

        assert await repository.leftovers.claim("http://elsewhere", moment(9e6)) == ()
        (claimed,) = await repository.leftovers.claim(server, moment(60))
        assert (claimed.objects, claimed.attempts, claimed.lease) == ((_ASSISTANT,), 1, None)
        assert claimed.last_error.startswith("it\0 said no")
        assert await repository.leftovers.claim(server, moment(60)) == ()
        # Whoever claimed it is gone: once the claim is over it is somebody else's.
        (again,) = await repository.leftovers.claim(server, moment(61 + CLAIM_S))
        assert again.attempts == 2
        assert [one for one in await repository.leftovers.waiting(limit=100_000) if one.tenant == tenant] == [again]

        for _ in range(2):
            await repository.leftovers.done(tenant, left.id)
            await repository.leftovers.failed(tenant, left.id, [], "too late", moment())
        assert await repository.leftovers.claim(server, moment(9e6)) == ()

    async def test_the_next_attempt_waits_ever_longer(
        self, repository: ChatRepository, tenant: str, server: str
    ) -> None:
        left = await repository.leftovers.add(tenant, Leftover(tenant=tenant, server=server, lease=lease()))
        now = moment()
        waits: list[float] = []
        for _ in range(12):
            await repository.leftovers.failed(tenant, left.id, [_THREAD], "no", now)
            (waiting,) = [one for one in await repository.leftovers.waiting(limit=100_000) if one.tenant == tenant]
            waits.append((waiting.next_attempt_at - now).total_seconds())
            assert await repository.leftovers.claim(server, waiting.next_attempt_at - timedelta(seconds=1)) == ()
            now = waiting.next_attempt_at
            assert len(await repository.leftovers.claim(server, now)) == 1
        assert waits == [30.0] + [min(30.0 * 2**attempt, MAX_BACKOFF_S) for attempt in range(11)]

    async def test_those_of_a_process_that_is_gone_are_due_and_those_of_others_are_not(
        self, repository: ChatRepository, tenant: str, server: str
    ) -> None:
        await repository.upkeep.sweep(moment(10), limit=100_000)
        mine = lease(f"me-{tenant}", moment(0))
        gone = await repository.leftovers.add(
            tenant, Leftover(tenant=tenant, server=server, lease=lease("gone", moment(5)), objects=(_THREAD,))
        )
        kept = await repository.leftovers.add(tenant, Leftover(tenant=tenant, server=server, lease=mine))

        assert await repository.upkeep.renew(mine.owner, moment(100)) == 1
        assert (await repository.upkeep.sweep(moment(10))).leftovers == 1

        (claimed,) = await repository.leftovers.claim(server, moment(10))
        assert (claimed.id, claimed.objects) == (gone.id, (_THREAD,))
        assert (await repository.upkeep.sweep(moment(200))).leftovers == 1
        assert [one.id for one in await repository.leftovers.claim(server, moment(200))] == [kept.id]

    async def test_they_outlive_their_tenant_and_are_nobody_elses(
        self, repository: ChatRepository, tenant: str, server: str
    ) -> None:
        held = Lease(owner="process-1", until=moment())
        left = await repository.leftovers.add(tenant, Leftover(tenant=tenant, server=server, lease=held))
        other = tenant_name()

        await repository.tenants.delete(tenant)
        await repository.leftovers.done(other, left.id)
        await repository.leftovers.failed(other, left.id, [], "", moment())
        with pytest.raises(NotFoundError):
            await repository.leftovers.note(other, left.id, [])
        with pytest.raises(UserInputError):
            await repository.leftovers.add(tenant, Leftover(tenant=tenant, server=server))
        with pytest.raises(UserInputError):
            await repository.leftovers.add(tenant, Leftover(tenant=other, server=server, lease=held))

        await repository.upkeep.sweep(moment(1), limit=100_000)
        assert [one.id for one in await repository.leftovers.claim(server, moment(1))] == [left.id]
