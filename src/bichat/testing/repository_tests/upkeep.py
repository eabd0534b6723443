"""Leases, sweeps and age."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bichat.errors import ConflictError, NotFoundError
from bichat.repository import ChatRepository
from bichat.repository.records import (
    LOST,
    Lease,
    Policy,
    Pruned,
    Run,
    RunState,
)
from bichat.testing.repository_tests.chat import (
    Chat,
    everything,
    lease,
    moment,
    output,
    stored,
    tenant_name,
    upload,
)


class UpkeepTests:
    """Tests of `RepositoryConformance`."""

    pytestmark = pytest.mark.anyio

    async def test_a_sweep_takes_what_has_lost_its_owner_and_nothing_else(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        await repository.upkeep.sweep(moment(10), limit=100_000)
        gone = lease("gone", moment(0))
        alive = lease("alive", moment(20))
        dead_execution = await chat.execution(await chat.session(lease=gone), lease=gone)
        execution = await chat.execution(await chat.session(lease=alive), lease=alive)
        dead_run = await chat.run(await chat.conversation(), lease=gone)
        run = await chat.run(await chat.conversation(), lease=alive)
        dead = await repository.outputs.reserve(tenant, output(tenant, dead_execution.id, lease=gone))
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id, lease=alive))
        dead_file = await repository.files.reserve(tenant, upload(tenant, lease=gone))
        done = await chat.upload(lease=gone)

        swept = await repository.upkeep.sweep(moment(10))

        assert (swept.outputs, swept.files, swept.executions, swept.sessions, swept.runs) == (1, 1, 1, 1, 1)
        lost = await repository.executions.get(tenant, dead_execution.id)
        assert (lost.status, lost.ended_at, lost.lease) == (LOST, moment(10), None)
        session = await repository.sessions.get(tenant, dead_execution.session_id)
        assert (session.end_reason, session.ended_at, session.lease) == ("lost", moment(10), None)
        failed = await repository.runs.get(tenant, dead_run.id)
        assert failed.error is not None
        assert (failed.state, failed.error["code"], failed.lease) == (RunState.FAILED, "owner_lost", None)
        assert set(await chat.waiting()) == {dead.storage_key, dead_file.storage_key}
        for late, kept in ((dead, repository.outputs), (dead_file, repository.files)):
            with pytest.raises(NotFoundError):
                await kept.publish(tenant, late.id, stored(late.storage_key))
        with pytest.raises(ConflictError):
            await repository.runs.save(tenant, dead_run, owner="gone")
        assert await repository.executions.get(tenant, execution.id) == execution
        assert await repository.runs.get(tenant, run.id) == run
        assert await repository.files.get(tenant, done.id) == done
        await repository.outputs.publish(tenant, made.id, stored(made.storage_key))

    async def test_a_renewed_lease_keeps_work_from_sweeps(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        mine = lease(f"me-{tenant}", moment(0))
        execution = await chat.execution(await chat.session(lease=mine), lease=mine)
        run = await chat.run(await chat.conversation(), lease=mine)
        made = await repository.outputs.reserve(tenant, output(tenant, execution.id, lease=mine))
        file = await repository.files.reserve(tenant, upload(tenant, lease=mine))

        assert await repository.upkeep.renew(mine.owner, moment(100)) == 5
        assert await repository.upkeep.renew("nobody", moment(100)) == 0
        await repository.upkeep.sweep(moment(50), limit=100_000)

        assert (await repository.runs.get(tenant, run.id)).lease == Lease(owner=mine.owner, until=moment(100))
        await repository.outputs.publish(tenant, made.id, stored(made.storage_key))
        await repository.files.publish(tenant, file.id, stored(file.storage_key))
        assert (await repository.executions.get(tenant, execution.id)).status == "running"

    async def test_files_go_at_their_expiry_and_at_their_tenants_age(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        now = moment()
        await _pruned(repository, now)
        await repository.tenants.set_policy(tenant, Policy(retention_days=10))
        execution = await chat.execution()
        old = await chat.output(execution, created_at=now - timedelta(days=11))
        new = await chat.output(execution, created_at=now - timedelta(days=9))
        expired = await chat.upload(created_at=now - timedelta(days=1), expires_at=now)
        lasting = await chat.upload(created_at=now - timedelta(days=1), expires_at=now + timedelta(seconds=1))
        under_way = await repository.files.reserve(tenant, upload(tenant, created_at=now - timedelta(days=99)))
        unbounded = Chat(repository, tenant_name())
        kept = await unbounded.upload(created_at=now - timedelta(days=5_000))

        would = await repository.upkeep.prune(now, dry_run=True)
        assert would == Pruned(outputs=1, files=1, size_bytes=14)
        assert await chat.waiting() == {}
        assert await _pruned(repository, now) == would

        assert {key: one.reason for key, one in (await chat.waiting()).items()} == {
            old.storage_key: "expired",
            expired.storage_key: "expired",
        }
        assert await everything(repository.outputs.page, tenant) == [new]
        assert await everything(repository.files.page, tenant) == [lasting]
        assert await repository.files.get(unbounded.tenant, kept.id) == kept
        await repository.files.publish(tenant, under_way.id, stored(under_way.storage_key))

    async def test_events_go_a_week_after_their_run_and_a_run_that_nobody_wants_kept_goes_whole(
        self, repository: ChatRepository, chat: Chat, tenant: str
    ) -> None:
        now = moment()
        await _pruned(repository, now)
        ages = {
            "old": timedelta(days=7),
            "new": timedelta(days=6),
            "unkept": timedelta(minutes=10),
            "young": timedelta(),
        }
        runs: dict[str, Run] = {}
        for name, age in ages.items():
            conversation = await chat.conversation()
            run = await chat.run(conversation, request={"is_kept": name not in ("unkept", "young")})
            await chat.message(conversation, "said", run_id=run.id, is_input=True)
            await repository.runs.record(tenant, run.id, [("one", {}), ("two", {})])
            over = replace(run, state=RunState.COMPLETED, ended_at=now - age)
            runs[name] = await repository.runs.save(tenant, over)

        assert (await repository.upkeep.prune(now, dry_run=True)).runs == 2
        assert (await _pruned(repository, now)).runs == 2

        assert await repository.runs.get(tenant, runs["old"].id) == runs["old"]
        left = {
            name: len(await repository.runs.events(tenant, run.id)) for name, run in runs.items() if name != "unkept"
        }
        assert left == {"old": 0, "new": 2, "young": 2}
        with pytest.raises(NotFoundError):
            await repository.conversations.get(tenant, runs["unkept"].conversation_id)

    async def test_pruning_takes_no_more_at_a_time_than_it_may(self, repository: ChatRepository, chat: Chat) -> None:
        await _pruned(repository, moment())
        for _ in range(5):
            await chat.upload(expires_at=moment(), created_at=moment(-1))

        steps = [(await repository.upkeep.prune(moment(), limit=2)).files for _ in range(4)]

        assert steps == [2, 2, 1, 0]


async def _pruned(repository: ChatRepository, now: datetime) -> Pruned:
    """All that goes, step by step."""
    total = Pruned()
    while (step := await repository.upkeep.prune(now)) != Pruned():
        total = Pruned(
            outputs=total.outputs + step.outputs,
            files=total.files + step.files,
            size_bytes=total.size_bytes + step.size_bytes,
            runs=total.runs + step.runs,
        )
    return total
