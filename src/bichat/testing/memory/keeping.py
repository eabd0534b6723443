"""Keys, tenants, the audit log, the outbox and upkeep in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bichat.errors import ConflictError, UserInputError
from bichat.repository.backoff import CLAIM, next_attempt_at, shortened
from bichat.repository.changes import OWNER_LOST
from bichat.repository.chat_repository import BATCH
from bichat.repository.ids import check_id, missing
from bichat.repository.moments import check_moment
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.quota import check_policy
from bichat.repository.records import (
    CALLER,
    EVENTS_KEPT,
    IS_KEPT,
    LOST,
    UNKEPT_FOR,
    ApiKey,
    AuditEntry,
    Deletion,
    FileState,
    Json,
    Leftover,
    Message,
    Policy,
    Pruned,
    Run,
    RunState,
    Swept,
    Usage,
)
from bichat.repository.rows import admit
from bichat.tenants import check_tenant
from bichat.testing.memory.tables import Table, Tables


class MemoryKeys:
    """Implements `Keys`."""

    def __init__(self, tables: Tables) -> None:
        self._keys = tables.keys

    async def add(self, tenant: str, key: ApiKey) -> ApiKey:
        """See `Keys.add`."""
        record = admit(tenant, key)
        if self._keys.those(lambda other: other.sha256 == record.sha256):
            raise ConflictError("there is one already with this id or key", stage="repository")
        return self._keys.add(record)

    async def find(self, sha256: str) -> ApiKey:
        """See `Keys.find`."""
        for key in self._keys.those(lambda key: key.sha256 == sha256):
            return key
        raise missing(self._keys.noun)

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[ApiKey]:
        """See `Keys.page`."""
        return self._keys.page(tenant, lambda _: True, limit, cursor)

    async def exist(self, *, good_at: datetime | None = None) -> bool:
        """See `Keys.exist`."""
        moment = None if good_at is None else check_moment(good_at)

        def is_good(key: ApiKey) -> bool:
            return key.revoked_at is None and (moment is None or key.expires_at is None or key.expires_at > moment)

        return bool(self._keys.those(lambda key: moment is None or is_good(key)))

    async def use(self, tenant: str, key_id: str, at: datetime) -> None:
        """See `Keys.use`."""
        self._keys.put(replace(self._keys.get(tenant, key_id), last_used_at=check_moment(at)))

    async def revoke(self, tenant: str, key_id: str, at: datetime) -> ApiKey:
        """See `Keys.revoke`."""
        key, moment = self._keys.get(tenant, key_id), check_moment(at)
        return self._keys.put(replace(key, revoked_at=key.revoked_at or moment))


class MemoryTenants:
    """Implements `Tenants`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def policy(self, tenant: str) -> Policy:
        """See `Tenants.policy`."""
        return self._tables.policies.get(check_tenant(tenant), Policy())

    async def set_policy(self, tenant: str, policy: Policy) -> None:
        """See `Tenants.set_policy`."""
        self._tables.policies[check_tenant(tenant)] = check_policy(policy)

    async def usage(self, tenant: str) -> Usage:
        """See `Tenants.usage`."""
        return self._tables.usage(check_tenant(tenant))

    async def delete(self, tenant: str) -> None:
        """See `Tenants.delete`."""
        check_tenant(tenant)
        tables = self._tables
        roots: list[Table[Any]] = [
            tables.conversations,
            tables.sessions,
            tables.files,
            tables.definitions,
            tables.keys,
        ]
        for table in roots:
            for record in table.those(lambda record: record.tenant == tenant):
                tables.drop(table, record)
        tables.policies.pop(tenant, None)


class MemoryAudit:
    """Implements `Audit`."""

    def __init__(self, tables: Tables) -> None:
        self._entries = tables.audit

    async def add(self, tenant: str, entry: AuditEntry) -> None:
        """See `Audit.add`."""
        self._entries.add(admit(tenant, entry))

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[AuditEntry]:
        """See `Audit.page`."""
        return self._entries.page(tenant, lambda _: True, limit, cursor)


class MemoryOutbox:
    """Implements `Outbox`."""

    def __init__(self, tables: Tables) -> None:
        self._deletions = tables.deletions

    async def claim(self, now: datetime, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """See `Outbox.claim`."""
        moment = check_moment(now)
        due = [deletion for deletion in self._deletions.values() if deletion.next_attempt_at <= moment]
        due.sort(key=lambda deletion: (deletion.next_attempt_at, deletion.id))
        claimed = tuple(
            replace(deletion, attempts=deletion.attempts + 1, next_attempt_at=moment + CLAIM)
            for deletion in due[:limit]
        )
        self._deletions.update({deletion.id: deletion for deletion in claimed})
        return claimed

    async def done(self, deletion_id: int) -> None:
        """See `Outbox.done`."""
        self._deletions.pop(deletion_id, None)

    async def failed(self, deletion_id: int, error: str, now: datetime) -> None:
        """See `Outbox.failed`."""
        moment = check_moment(now)
        deletion = self._deletions.get(deletion_id)
        if deletion is not None:
            self._deletions[deletion_id] = replace(
                deletion,
                last_error=shortened(error),
                next_attempt_at=next_attempt_at(deletion.attempts, moment),
            )

    async def waiting(self, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """See `Outbox.waiting`."""
        return tuple(sorted(self._deletions.values(), key=lambda deletion: deletion.id)[:limit])


class MemoryLeftovers:
    """Implements `Leftovers`."""

    def __init__(self, tables: Tables) -> None:
        self._leftovers = tables.leftovers

    async def add(self, tenant: str, leftover: Leftover) -> Leftover:
        """See `Leftovers.add`."""
        record = admit(tenant, leftover)
        if record.lease is None:
            raise UserInputError("who makes something elsewhere holds a lease of it", stage="repository")
        return self._leftovers.add(record)

    async def note(self, tenant: str, leftover_id: str, objects: Sequence[Json]) -> None:
        """See `Leftovers.note`."""
        before = self._leftovers.get(tenant, leftover_id)
        self._leftovers.put(admit(tenant, replace(before, objects=tuple(objects))))

    async def done(self, tenant: str, leftover_id: str) -> None:
        """See `Leftovers.done`."""
        if (found := self._found(tenant, leftover_id)) is not None:
            del self._leftovers.rows[found.id]

    async def failed(self, tenant: str, leftover_id: str, objects: Sequence[Json], error: str, now: datetime) -> None:
        """See `Leftovers.failed`."""
        moment = check_moment(now)
        if (found := self._found(tenant, leftover_id)) is not None:
            left = replace(
                found,
                objects=tuple(objects),
                last_error=shortened(error),
                lease=None,
                next_attempt_at=next_attempt_at(found.attempts, moment),
            )
            self._leftovers.put(admit(tenant, left))

    def _found(self, tenant: str, leftover_id: str) -> Leftover | None:
        leftover_id = check_id(leftover_id, self._leftovers.noun)
        found = self._leftovers.rows.get(leftover_id)
        return found if found is not None and found.tenant == check_tenant(tenant) else None

    async def claim(self, server: str, now: datetime, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """See `Leftovers.claim`."""
        moment = check_moment(now)
        due = self._leftovers.those(
            lambda left: left.lease is None and left.server == server and left.next_attempt_at <= moment
        )
        due.sort(key=lambda left: (left.next_attempt_at, left.id))
        return tuple(
            self._leftovers.put(replace(left, attempts=left.attempts + 1, next_attempt_at=moment + CLAIM))
            for left in due[:limit]
        )

    async def waiting(self, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """See `Leftovers.waiting`."""
        return tuple(self._leftovers.those(lambda left: left.lease is None)[:limit])


class MemoryUpkeep:
    """Implements `Upkeep`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def renew(self, owner: str, until: datetime) -> int:
        """See `Upkeep.renew`."""
        tables, moment = self._tables, check_moment(until)
        leased: list[Table[Any]] = [
            tables.outputs,
            tables.files,
            tables.executions,
            tables.sessions,
            tables.runs,
            tables.leftovers,
        ]
        return sum(tables.renew(table, owner, moment) for table in leased)

    async def sweep(self, now: datetime, *, limit: int = BATCH) -> Swept:
        """See `Upkeep.sweep`."""
        moment = check_moment(now)
        return Swept(
            outputs=self._dropped(self._tables.outputs, moment, limit),
            files=self._dropped(self._tables.files, moment, limit),
            executions=self._ended(self._tables.executions, moment, limit, {"status": LOST}),
            sessions=self._ended(self._tables.sessions, moment, limit, {"end_reason": LOST}),
            runs=self._runs_ended(moment, limit),
            leftovers=self._leftovers_due(moment, limit),
        )

    async def runs(self, owner: str, states: Collection[RunState]) -> tuple[Run, ...]:
        """See `Upkeep.runs`."""
        found = self._tables.runs.those(lambda run: run.lease is not None and run.lease.owner == owner)
        return tuple(run for run in found if run.state in states)

    def _runs_ended(self, now: datetime, limit: int) -> int:
        lost = self._tables.ownerless(self._tables.runs, now, limit)
        for run in lost:
            self._tables.runs.put(replace(run, **_end_of(run), ended_at=now, lease=None))
        return len(lost)

    def _leftovers_due(self, now: datetime, limit: int) -> int:
        lost = self._tables.ownerless(self._tables.leftovers, now, limit)
        for leftover in lost:
            self._tables.leftovers.put(replace(leftover, lease=None, next_attempt_at=now))
        return len(lost)

    async def prune(self, now: datetime, *, dry_run: bool = False, limit: int = BATCH) -> Pruned:
        """See `Upkeep.prune`."""
        moment, tables = check_moment(now), self._tables
        kinds: list[Table[Any]] = [tables.outputs, tables.files]
        gone = [table.those(lambda file: self._is_past(file, moment))[: None if dry_run else limit] for table in kinds]
        if not dry_run:
            for table, files in zip(kinds, gone, strict=True):
                for file in files:
                    tables.drop(table, file, "expired")
        sizes = sum(file.size_bytes for files in gone for file in files)
        runs = self._forgotten(moment, dry_run=dry_run)
        return Pruned(outputs=len(gone[0]), files=len(gone[1]), size_bytes=sizes, runs=runs)

    def _forgotten(self, now: datetime, *, dry_run: bool) -> int:
        tables = self._tables

        def is_due(run: Run) -> bool:
            kept = EVENTS_KEPT if run.request.get(IS_KEPT, True) else UNKEPT_FOR
            return bool(tables.events.get(run.id)) and run.ended_at is not None and run.ended_at <= now - kept

        due = tables.runs.those(is_due)
        for run in () if dry_run else due:
            tables.events.pop(run.id)
            if not run.request.get(IS_KEPT, True):
                tables.forget(run)
                own = run.conversation_id
                if not (tables.runs.those(_is_in(own)) or tables.messages.those(_is_in(own))):
                    tables.drop(tables.conversations, tables.conversations.rows[own])
        return len(due)

    def _dropped(self, table: Table[Any], now: datetime, limit: int) -> int:
        lost = self._tables.ownerless(table, now, limit)
        for record in lost:
            self._tables.drop(table, record)
        return len(lost)

    def _ended(self, table: Table[Any], now: datetime, limit: int, values: dict[str, Any]) -> int:
        lost = self._tables.ownerless(table, now, limit)
        for record in lost:
            table.put(replace(record, **values, ended_at=now, lease=None))
        return len(lost)

    def _is_past(self, file: Any, now: datetime) -> bool:
        if file.state is not FileState.AVAILABLE:
            return False
        days = self._tables.policies.get(file.tenant, Policy()).retention_days
        expires_at = getattr(file, "expires_at", None)
        is_too_old = days is not None and file.created_at <= now - timedelta(days=days)
        return is_too_old or (expires_at is not None and expires_at <= now)


def _is_in(conversation_id: str) -> Callable[[Message | Run], bool]:
    return lambda record: record.conversation_id == conversation_id


def _end_of(run: Run) -> dict[str, Any]:
    """What becomes of a run whose lease has run out."""
    if run.lease is not None and run.lease.owner == CALLER:
        return {"state": RunState.EXPIRED, "error": None}
    if run.state is RunState.CANCELLING:
        return {"state": RunState.CANCELLED, "error": None}
    return {"state": RunState.FAILED, "error": dict(OWNER_LOST)}
