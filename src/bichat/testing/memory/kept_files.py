"""Outputs and files in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from bichat.domain import StoredFile
from bichat.errors import ConflictError, UserInputError
from bichat.repository.ids import check_id
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.quota import check_quota, reserved
from bichat.repository.records import CodeInterpreterOutput, FileRecord, FileState, Policy
from bichat.repository.rows import admit
from bichat.testing.memory.tables import Table, Tables

_Kept = TypeVar("_Kept", CodeInterpreterOutput, FileRecord)


def hold_quota(tables: Tables, tenant: str, *, size_bytes: int, files: int) -> None:
    """Nothing, when so much more is within the tenant's quota; LimitError when it is above."""
    policy = tables.policies.get(tenant, Policy())
    check_quota(policy, tables.usage(tenant), size_bytes=size_bytes, files=files)


def publish(
    tables: Tables,
    table: Table[_Kept],
    tenant: str,
    published: Mapping[str, StoredFile],
    where: Callable[[_Kept], bool] = lambda _: True,
    **values: Any,
) -> None:
    """Make pending rows available, by id, and set `values` in them."""
    for file_id, file in published.items():
        row = table.get(tenant, file_id, lambda row: row.state is FileState.PENDING and where(row))
        if file.key != row.storage_key:
            raise UserInputError("these bytes lie under another key than was reserved", stage="repository")
        if file.size_bytes > row.size_bytes:
            hold_quota(tables, tenant, size_bytes=file.size_bytes - row.size_bytes, files=0)
        available = {"state": FileState.AVAILABLE, "size_bytes": file.size_bytes, "sha256": file.sha256, "lease": None}
        table.put(replace(row, **available, **values))


class _MemoryKeptFiles(Generic[_Kept]):
    """What outputs and files have in common."""

    def __init__(self, tables: Tables, table: Table[_Kept]) -> None:
        self._tables = tables
        self._table = table

    async def reserve(self, tenant: str, file: _Kept) -> _Kept:
        """See `KeptFiles.reserve`."""
        record, tables = reserved(admit(tenant, file)), self._tables
        if isinstance(record, CodeInterpreterOutput):
            tables.executions.require(tenant, record.execution_id)
            tables.messages.require(tenant, record.message_id)
        else:
            tables.sessions.require(tenant, record.session_id)
        hold_quota(tables, tenant, size_bytes=record.size_bytes, files=1)
        if self._table.those(lambda other: other.storage_key == record.storage_key):
            raise ConflictError("there is one already with this id or key", stage="repository")
        return self._table.add(record)

    async def publish(self, tenant: str, file_id: str, stored: StoredFile) -> _Kept:
        """See `KeptFiles.publish`."""
        publish(self._tables, self._table, tenant, {file_id: stored})
        return self._table.get(tenant, file_id)

    async def abandon(self, tenant: str, file_id: str) -> None:
        """See `KeptFiles.abandon`."""
        its_id = check_id(file_id, self._table.noun)
        # An id that is not there is no error here, but a tenant that cannot be is.
        self._table.page(tenant, lambda _: False, 1, "")
        for row in self._table.those(lambda row: row.id == its_id and row.tenant == tenant):
            if row.state is FileState.PENDING:
                self._tables.drop(self._table, row)

    async def get(self, tenant: str, file_id: str) -> _Kept:
        """See `KeptFiles.get`."""
        return self._table.get(tenant, file_id, _is_available)

    async def delete(self, tenant: str, file_id: str) -> None:
        """See `KeptFiles.delete`."""
        self._tables.drop(self._table, self._table.get(tenant, file_id, _is_available))

    def _page(
        self, tenant: str, where: Callable[[_Kept], bool], limit: int, cursor: str, *, oldest_first: bool = False
    ) -> Page[_Kept]:
        return self._table.page(
            tenant, lambda row: _is_available(row) and where(row), limit, cursor, oldest_first=oldest_first
        )


class MemoryOutputs(_MemoryKeptFiles[CodeInterpreterOutput]):
    """Implements `Outputs`."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables, tables.outputs)

    async def page(
        self,
        tenant: str,
        *,
        message_id: str | None = None,
        execution_id: str | None = None,
        session_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Page[CodeInterpreterOutput]:
        """See `Outputs.page`."""

        def is_wanted(made: CodeInterpreterOutput) -> bool:
            session = self._tables.executions.rows[made.execution_id].session_id
            return (
                message_id in (None, made.message_id)
                and execution_id in (None, made.execution_id)
                and session_id in (None, session)
            )

        return self._page(tenant, is_wanted, limit, cursor)


class MemoryFiles(_MemoryKeptFiles[FileRecord]):
    """Implements `Files`."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables, tables.files)

    async def page(
        self,
        tenant: str,
        *,
        user: str | None = None,
        purpose: str | None = None,
        session_id: str | None = None,
        in_session: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[FileRecord]:
        """See `Files.page`."""
        its_id = None if session_id is None else check_id(session_id, "session")

        def is_wanted(file: FileRecord) -> bool:
            return (
                user in (None, file.user)
                and purpose in (None, file.purpose)
                and its_id in (None, file.session_id)
                and in_session in (None, file.session_id is not None)
            )

        return self._page(tenant, is_wanted, limit, cursor, oldest_first=oldest_first)


def _is_available(row: CodeInterpreterOutput | FileRecord) -> bool:
    return row.state is FileState.AVAILABLE
