"""Tables in memory: records by id, transactions that are all or nothing, and the outbox that every deletion fills.

Nothing in here waits, so that one event loop sees each method as one step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from bichat.errors import ConflictError
from bichat.repository.ids import check_id, missing
from bichat.repository.moments import utc_now
from bichat.repository.pages import Page, Place, page_of
from bichat.repository.quota import check_rows, row_bytes
from bichat.repository.records import (
    ApiKey,
    AuditEntry,
    CodeInterpreterOutput,
    Conversation,
    Definition,
    Deletion,
    ExecutionRecord,
    FileRecord,
    FileState,
    Leftover,
    Message,
    Policy,
    Run,
    RunEvent,
    SessionRecord,
    Usage,
)
from bichat.repository.rows import Owned
from bichat.tenants import check_tenant

_R = TypeVar("_R", bound=Owned)


class Table(Generic[_R]):
    """The records of one kind."""

    def __init__(self, noun: str, moment: str = "created_at") -> None:
        """`noun` is what errors call a record, `moment` the field that says which is newer."""
        self.rows: dict[str, _R] = {}
        self.noun = noun
        self._moment = moment

    def add(self, record: _R) -> _R:
        """Insert it; ConflictError where its id is taken."""
        if record.id in self.rows:
            raise ConflictError("there is one already with this id or key", stage="repository")
        self.rows[record.id] = record
        return record

    def get(self, tenant: str, record_id: str, where: Callable[[_R], bool] = lambda _: True) -> _R:
        """The one with this id, if `where` holds; NotFoundError where there is none."""
        check_tenant(tenant)
        record = self.rows.get(check_id(record_id, self.noun))
        if record is None or record.tenant != tenant or not where(record):
            raise missing(self.noun)
        return record

    def require(self, tenant: str, record_id: str | None) -> None:
        """NotFoundError where there is none with this id; None asks for nothing."""
        if record_id is not None:
            self.get(tenant, record_id)

    def put(self, record: _R) -> _R:
        """Let it stand in the place of the one with its id."""
        self.rows[record.id] = record
        return record

    def those(self, where: Callable[[_R], bool]) -> list[_R]:
        """All for which `where` holds, by id."""
        return sorted((record for record in self.rows.values() if where(record)), key=lambda record: record.id)

    def page(
        self, tenant: str, where: Callable[[_R], bool], limit: int, cursor: str, *, oldest_first: bool = False
    ) -> Page[_R]:
        """Some of those for which `where` holds, newest first unless the oldest are asked for."""
        check_tenant(tenant)
        found = self.those(lambda record: record.tenant == tenant and where(record))
        return page_of(found, self.position, limit=limit, cursor=cursor, oldest_first=oldest_first)

    def position(self, record: _R) -> Place:
        """Where it stands among all."""
        return Place(getattr(record, self._moment), record.id)


class Tables:
    """All of them."""

    def __init__(self) -> None:
        self.conversations = Table[Conversation]("conversation")
        self.messages = Table[Message]("message")
        self.runs = Table[Run]("run")
        self.sessions = Table[SessionRecord]("session")
        self.executions = Table[ExecutionRecord]("execution")
        self.outputs = Table[CodeInterpreterOutput]("output")
        self.files = Table[FileRecord]("file")
        self.definitions = Table[Definition]("definition")
        self.keys = Table[ApiKey]("key")
        self.audit = Table[AuditEntry]("entry", "at")
        self.leftovers = Table[Leftover]("leftover")
        self.policies: dict[str, Policy] = {}
        self.events: dict[str, tuple[RunEvent, ...]] = {}
        self.deletions: dict[int, Deletion] = {}
        self._last_deletion = 0

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Within, all that changes is as it was before when the block raises."""
        everything: list[Any] = list(vars(self).values())
        held: list[dict[Any, Any]] = [table.rows for table in everything if hasattr(table, "rows")]
        held += [self.policies, self.events, self.deletions]
        before = [dict(rows) for rows in held]
        try:
            yield
        except BaseException:
            for rows, old in zip(held, before, strict=True):
                rows.clear()
                rows.update(old)
            raise

    def usage(self, tenant: str) -> Usage:
        """What the tenant keeps, reservations included."""
        kept = [file for file in (*self.outputs.rows.values(), *self.files.rows.values()) if file.tenant == tenant]
        tables: tuple[Table[Any], ...] = (self.conversations, self.messages, self.runs, self.definitions)
        rows = [row for table in tables for row in table.rows.values() if row.tenant == tenant]
        size_bytes = sum(file.size_bytes for file in kept)
        return Usage(size_bytes=size_bytes, files=len(kept), row_bytes=sum(map(row_bytes, rows)))

    def hold_rows(self, tenant: str) -> None:
        """Nothing, when the tenant is within its quota with what was just added; LimitError when it is above."""
        if (policy := self.policies.get(tenant)) is not None:
            check_rows(policy, self.usage(tenant))

    def drop(self, table: Table[Any], record: Owned, reason: str = "") -> None:
        """Delete it and all that belongs to it; keys of bytes are noted."""
        del table.rows[record.id]
        for below, is_its in self._belongings(record):
            for one in below.those(is_its):
                if one.id in below.rows:
                    self.drop(below, one, reason)
        if isinstance(record, (CodeInterpreterOutput, FileRecord)):
            self._note(record, reason)
        if isinstance(record, Run):
            self.events.pop(record.id, None)

    def forget(self, run: Run) -> None:
        """Delete it with what was said in it; what was run and made then stays with its session."""
        said = {message.id for message in self.messages.those(lambda message: message.run_id == run.id)}
        for execution in self.executions.those(lambda execution: execution.message_id in said):
            self.executions.put(replace(execution, message_id=None))
        for made in self.outputs.those(lambda made: made.message_id in said):
            self.outputs.put(replace(made, message_id=None))
        self.drop(self.runs, run)

    def _belongings(self, record: Owned) -> list[tuple[Table[Any], Callable[[Any], bool]]]:
        def by(field: str) -> Callable[[Any], bool]:
            return lambda other: getattr(other, field) == record.id

        if isinstance(record, Conversation):
            whose = by("conversation_id")
            return [(self.messages, whose), (self.sessions, whose), (self.runs, whose)]
        if isinstance(record, Message):
            return [(self.executions, by("message_id")), (self.outputs, by("message_id"))]
        if isinstance(record, Run):
            return [(self.messages, by("run_id"))]
        if isinstance(record, SessionRecord):
            return [(self.executions, by("session_id")), (self.files, by("session_id"))]
        if isinstance(record, ExecutionRecord):
            return [(self.outputs, by("execution_id"))]
        return []

    def _note(self, file: CodeInterpreterOutput | FileRecord, reason: str) -> None:
        self._last_deletion += 1
        now = utc_now()
        deletion = Deletion(
            id=self._last_deletion,
            tenant=file.tenant,
            storage_key=file.storage_key,
            reason=reason or ("abandoned" if file.state is FileState.PENDING else "deleted"),
            next_attempt_at=now,
            created_at=now,
        )
        self.deletions[deletion.id] = deletion

    def renew(self, table: Table[Any], owner: str, until: datetime) -> int:
        """Extend the leases that `owner` holds; how many."""
        held = table.those(lambda record: record.lease is not None and record.lease.owner == owner)
        for record in held:
            table.put(replace(record, lease=replace(record.lease, until=until)))
        return len(held)

    def ownerless(self, table: Table[_R], now: datetime, limit: int) -> list[_R]:
        """Some of those whose lease has run out."""

        def is_lost(record: Any) -> bool:
            return record.lease is not None and record.lease.until < now

        return table.those(is_lost)[:limit]
