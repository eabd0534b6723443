"""The port to the database that chats, sessions, executions and files are recorded in.

It knows rows.  It does not know bytes (a `FileStorage` keeps those under the keys that stand in rows), models, HTTP, or
what the kinds of parts and events mean.  Above it stand the archive and the conversation core.  `SqlRepository` is it on
SQLite and PostgreSQL, `bichat.testing.MemoryRepository` in memory; `bichat.testing.RepositoryConformance` checks both.

What holds everywhere:

- A method about somebody's data takes the tenant first.  Another tenant's id is not found: `NotFoundError`, as for ids
  that never were.  What is no tenant's name, the empty one too, is `UserInputError`.
- A method is one transaction: all of it happens, or nothing.  Those of `Upkeep` are one for each kind of row.
- Lists come in pages, newest first, of 1 to 100 entries.
- Deleting takes along what belongs to it, and notes every key of bytes in the outbox (`Outbox`) in the same transaction.
- Text comes back as it was, NUL and lone surrogates included; see `bichat.repository.text`.
- `DatabaseError` where the database does not do its part: nothing has changed then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

from bichat.domain import StoredFile
from bichat.repository.pages import DEFAULT_LIMIT, Page
from bichat.repository.records import (
    ApiKey,
    AuditEntry,
    CodeInterpreterOutput,
    Conversation,
    Definition,
    Deletion,
    ExecutionRecord,
    FileRecord,
    Json,
    Lease,
    Leftover,
    Message,
    Part,
    Policy,
    Pruned,
    Run,
    RunEvent,
    RunState,
    SessionRecord,
    Swept,
    Usage,
)

#: Rows that one sweep, one claim or one step of pruning takes at most.
BATCH: Final = 500
#: How long deletions that somebody has claimed are nobody else's.
CLAIM_S: Final = 300.0
#: The longest wait between two attempts at a deletion; the first is half a minute, each next one twice as long.
MAX_BACKOFF_S: Final = 6 * 3600.0

_Kept = TypeVar("_Kept", CodeInterpreterOutput, FileRecord)


class Conversations(Protocol):
    """Chats."""

    async def add(self, tenant: str, conversation: Conversation) -> Conversation:
        """Record it; as it is from now on."""
        ...

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """The one with this id."""
        ...

    async def page(
        self,
        tenant: str,
        *,
        user: str | None = None,
        archived: bool | None = False,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Page[Conversation]:
        """Those of `user`, or of everybody in the tenant; with None for `archived`, archived ones and others."""
        ...

    async def change(
        self,
        tenant: str,
        conversation_id: str,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
        metadata: Json | None = None,
    ) -> Conversation:
        """The conversation with what is given in place of what was; None leaves it."""
        ...

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Delete it with its messages, runs, sessions, executions and outputs.

        One that has thousands of them goes in steps, so that nobody waits long for it; deleting again goes on where a
        failure broke it off.
        """
        ...


class Messages(Protocol):
    """What was said, with its parts."""

    async def add(
        self,
        tenant: str,
        message: Message,
        *,
        published: Mapping[str, StoredFile] | None = None,
        executions: Sequence[str] = (),
    ) -> Message:
        """Record it with its parts, in their order, and whose outputs it has: one transaction.

        Args:
            tenant: whose it is.
            message: of a conversation that is there.
            published: outputs to publish with it, by id, as by `KeptFiles.publish`; they belong to the message then.
            executions: ids of executions that belong to the message from now on, with all their outputs.

        Raises:
            ConflictError: there is a message with this id.
        """
        ...

    async def add_all(self, tenant: str, messages: Sequence[Message]) -> None:
        """Record messages of one conversation with their parts: one transaction.

        Raises:
            ConflictError: there is a message with the id of one of them.
        """
        ...

    async def get(self, tenant: str, message_id: str) -> Message:
        """The one with this id."""
        ...

    async def page(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Message]:
        """Those of a conversation with their parts; a long history makes no page slower."""
        ...

    async def of_run(
        self,
        tenant: str,
        run_id: str,
        *,
        is_input: bool,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Message]:
        """Those that went into a run, or came out of it, with their parts."""
        ...

    async def save(self, tenant: str, message: Message) -> Message:
        """Record its parts, status and metadata as they are now, in the place of those that it had."""
        ...

    async def append(
        self, tenant: str, message_id: str, parts: Sequence[Part], *, status: str | None = None
    ) -> Message:
        """The message with more parts behind those that it has, and with another status where one is given."""
        ...

    async def delete(self, tenant: str, message_id: str) -> None:
        """Delete it with its parts, executions and outputs."""
        ...

    async def truncate_from(self, tenant: str, message_id: str) -> int:
        """Delete it and every later one of its conversation; how many."""
        ...


class Runs(Protocol):
    """Answers being made, and the events that streams of them are made of."""

    async def add(
        self,
        tenant: str,
        run: Run,
        *,
        conversation: Conversation | None = None,
        inputs: Sequence[Message] = (),
        after: str | None = None,
    ) -> Run:
        """Record it, with its conversation where that is new, and with what goes into it: one transaction.

        Args:
            tenant: whose it is.
            run: the new one.
            conversation: its own, to be recorded with it.
            inputs: messages that go into it.
            after: the run that must be its conversation's newest until now, if any must.

        Raises:
            ConflictError: its conversation has one that is not over, or a newer one than `after`.
        """
        ...

    async def get(self, tenant: str, run_id: str) -> Run:
        """The one with this id."""
        ...

    async def active(self, tenant: str, conversation_id: str) -> Run | None:
        """The conversation's run that is not over."""
        ...

    async def attempted(self, tenant: str, attempt: str) -> Run | None:
        """The newest of the tenant's that was begun as this `Run.attempt`."""
        ...

    async def answered(self, tenant: str, run_id: str) -> None:
        """Its caller has had the answer: it is not found by its attempt any more.  Nothing where there is no such run."""
        ...

    async def page(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Run]:
        """Those of a conversation."""
        ...

    async def save(self, tenant: str, run: Run, *, owner: str | None = None) -> Run:
        """Record its state, error, usage, metadata and times as they are now; the run as it is then.

        A final state ends its lease.  A run that somebody wants cancelled stays `cancelling` until it is final: look at
        the state that comes back.

        Args:
            tenant: whose it is.
            run: one that was added, changed.
            owner: who must hold its lease; None where nobody need to.

        Raises:
            ConflictError: it is over already, or `owner` does not hold it: whoever believed to work on it stops.
        """
        ...

    async def describe(self, tenant: str, run_id: str, metadata: Json) -> Run:
        """The run, over or not, with other metadata."""
        ...

    async def hand_over(
        self,
        tenant: str,
        run_id: str,
        lease: Lease,
        *,
        state: RunState,
        owner: str,
        events: Sequence[tuple[str, Json]] = (),
        messages: Sequence[Message] = (),
    ) -> Run:
        """Let somebody else work on it from now on, or wait for it, in another state than before.

        Args:
            tenant: whose it is.
            run_id: a run that is not over.
            lease: of the next owner; of `CALLER`, for a run that waits.
            state: one that is not final.
            owner: who must hold its lease.
            events: recorded with it, in one transaction.
            messages: of its conversation, added in the same transaction.

        Raises:
            ConflictError: it is over already, `owner` does not hold it, or somebody wants it cancelled.
        """
        ...

    async def delete(self, tenant: str, run_id: str) -> None:
        """Delete it with its events, and with what went into it and came out of it.

        What its code did and left behind is its session's, and stays with that.

        Raises:
            ConflictError: it is not over.
        """
        ...

    async def cancel(self, tenant: str, run_id: str) -> Run:
        """Ask its owner to end it; the run as it is: `cancelling`, or over already.

        One that waits for its caller has nobody to end it: it is `cancelled` at once.
        """
        ...

    async def record(
        self, tenant: str, run_id: str, events: Sequence[tuple[str, Json]], *, messages: Sequence[Message] = ()
    ) -> int:
        """Record more events (kind, payload) of a run, in their order; the number of the last one.

        Args:
            tenant: whose it is.
            run_id: a run that is not over.
            events: any number.
            messages: of its conversation: added in the same transaction, or saved as by `Messages.save` where they are
                there already.

        Raises:
            ConflictError: the run is over.
        """
        ...

    async def events(self, tenant: str, run_id: str, *, after: int = 0, limit: int = 100) -> tuple[RunEvent, ...]:
        """Its events behind the number `after`, oldest first."""
        ...


class Sessions(Protocol):
    """Live interpreters, and those that were."""

    async def add(self, tenant: str, session: SessionRecord) -> SessionRecord:
        """Record it."""
        ...

    async def get(self, tenant: str, session_id: str) -> SessionRecord:
        """The one with this id."""
        ...

    async def page(
        self,
        tenant: str,
        *,
        live: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[SessionRecord]:
        """All; those alone that live, with True; those that have ended, with False."""
        ...

    async def save(self, tenant: str, session: SessionRecord, *, owner: str | None = None) -> SessionRecord:
        """Record files, times and end as they are now.  An end ends its lease, which `Upkeep.renew` alone extends.

        Raises:
            ConflictError: `owner` was given, and does not hold its lease.
        """
        ...

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete it with its executions, their outputs, and its own input files."""
        ...


class Executions(Protocol):
    """Pieces of code that ran."""

    async def add(self, tenant: str, execution: ExecutionRecord, *, entry: AuditEntry | None = None) -> ExecutionRecord:
        """Record it, before its code runs: of a session that is there; and note `entry`: one transaction."""
        ...

    async def finish(
        self,
        tenant: str,
        execution: ExecutionRecord,
        *,
        published: Mapping[str, StoredFile] | None = None,
        entry: AuditEntry | None = None,
        session: SessionRecord | None = None,
    ) -> ExecutionRecord:
        """Record how it ended, and what goes with that: one transaction.  Its lease ends with it.

        Args:
            tenant: whose it is.
            execution: one that was added, ended.
            published: outputs of it to publish, id to file, as by `KeptFiles.publish`.
            entry: to note in the audit log.
            session: its session as it is from now on, as by `Sessions.save`.

        Raises:
            ConflictError: it was recorded as ended already, as by a sweep.
            LimitError: the outputs are larger than they were reserved, and above the tenant's quota.
        """
        ...

    async def get(self, tenant: str, execution_id: str) -> ExecutionRecord:
        """The one with this id."""
        ...

    async def page(
        self, tenant: str, session_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str = ""
    ) -> Page[ExecutionRecord]:
        """Those of a session."""
        ...

    async def delete(self, tenant: str, execution_id: str) -> None:
        """Delete it with its outputs."""
        ...


class KeptFiles(Protocol[_Kept]):
    """Rows with bytes.  The row goes first, under a lease; then the bytes, into a storage; then the row is available."""

    async def reserve(self, tenant: str, file: _Kept) -> _Kept:
        """Record that bytes are coming, `file.size_bytes` of them as far as is known; the row as it is: pending.

        Args:
            tenant: whose it is.
            file: with a lease, and with a key of the storage's under which nothing was ever kept.

        Raises:
            LimitError: the tenant's quota of bytes or files does not have room for it.
            UserInputError: it has no lease.
        """
        ...

    async def publish(self, tenant: str, file_id: str, stored: StoredFile) -> _Kept:
        """The row, available, with the size and sha256 of what the storage keeps.

        Raises:
            NotFoundError: it is not pending: a sweep took it, for its lease had run out.  Delete the bytes.
            UserInputError: the bytes lie under another key.
            LimitError: they are more than was reserved, and above the quota.  It is still pending.
        """
        ...

    async def abandon(self, tenant: str, file_id: str) -> None:
        """Give up what was reserved: no row, and the key in the outbox.  One that is gone already is no error."""
        ...

    async def get(self, tenant: str, file_id: str) -> _Kept:
        """The one with this id, pending ones not."""
        ...

    async def delete(self, tenant: str, file_id: str) -> None:
        """Delete it."""
        ...


class Outputs(KeptFiles[CodeInterpreterOutput], Protocol):
    """What executions left behind."""

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
        """Those of a message, of an execution, of a session, or of all; pending ones not."""
        ...


class Files(KeptFiles[FileRecord], Protocol):
    """What people uploaded."""

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
        """Those of a user, for a purpose, of a session, of any session (`in_session`) or of none, or all.

        Pending ones not.
        """
        ...


class Definitions(Protocol):
    """What callers describe once and name by its id.  Nothing hangs on one: what it was used for has a copy of it."""

    async def add(self, tenant: str, definition: Definition) -> Definition:
        """Record it."""
        ...

    async def get(self, tenant: str, definition_id: str, *, kind: str) -> Definition:
        """The one of this kind with this id."""
        ...

    async def page(
        self,
        tenant: str,
        *,
        kind: str,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
        oldest_first: bool = False,
    ) -> Page[Definition]:
        """Those of a kind."""
        ...

    async def change(self, tenant: str, definition_id: str, *, kind: str, content: Json) -> Definition:
        """The one of this kind with this id, with other content."""
        ...

    async def delete(self, tenant: str, definition_id: str, *, kind: str) -> None:
        """Delete it."""
        ...


class Keys(Protocol):
    """API keys."""

    async def add(self, tenant: str, key: ApiKey) -> ApiKey:
        """Record it."""
        ...

    async def find(self, sha256: str) -> ApiKey:
        """The key with this hash, whosoever it is: this is how it is found out whose a request is."""
        ...

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[ApiKey]:
        """The tenant's, revoked ones too."""
        ...

    async def exist(self, *, good_at: datetime | None = None) -> bool:
        """Whether anybody has a key; with a moment, one that is neither revoked by now nor past its expiry then."""
        ...

    async def use(self, tenant: str, key_id: str, at: datetime) -> None:
        """Note when it was last used."""
        ...

    async def revoke(self, tenant: str, key_id: str, at: datetime) -> ApiKey:
        """The key, of no use from now on; one that was revoked before stays as it was."""
        ...


class Tenants(Protocol):
    """Whose data it is, and what holds for them."""

    async def policy(self, tenant: str) -> Policy:
        """What holds for it; nothing is bounded where nobody has said so."""
        ...

    async def set_policy(self, tenant: str, policy: Policy) -> None:
        """Let `policy` hold from now on; what is above a quota already stays."""
        ...

    async def usage(self, tenant: str) -> Usage:
        """What it keeps, reservations included."""
        ...

    async def delete(self, tenant: str) -> None:
        """Delete everything of it but what was noted of its doings (`Audit`), and deletions that are still to be done.

        In steps, as a conversation.
        """
        ...


class Audit(Protocol):
    """Who ran what code when."""

    async def add(self, tenant: str, entry: AuditEntry) -> None:
        """Note it; nothing here changes or deletes an entry."""
        ...

    async def page(self, tenant: str, *, limit: int = DEFAULT_LIMIT, cursor: str = "") -> Page[AuditEntry]:
        """All entries."""
        ...


class Outbox(Protocol):
    """Keys whose bytes nobody needs any more.  One leaves it when its bytes are deleted, and never else.

    It is the installation's, not a tenant's: whoever works it off deletes everybody's.
    """

    async def claim(self, now: datetime, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """Some that are due, longest due first; nobody else gets them before `CLAIM_S` are over."""
        ...

    async def done(self, deletion_id: int) -> None:
        """The bytes are gone; so is the entry."""
        ...

    async def failed(self, deletion_id: int, error: str, now: datetime) -> None:
        """Note why they are not; the next attempt waits twice as long as the last, `MAX_BACKOFF_S` at most."""
        ...

    async def waiting(self, *, limit: int = BATCH) -> tuple[Deletion, ...]:
        """Those that are still to be done, longest first, for people to look at; nothing is claimed."""
        ...


class Leftovers(Protocol):
    """What was made on other servers and is to be deleted there.  A row leaves when that is done, and never else.

    Rows outlive their tenant, for what they tell of lies elsewhere still.
    """

    async def add(self, tenant: str, leftover: Leftover) -> Leftover:
        """Record it, before anything is made there.

        Raises:
            UserInputError: it has no lease.
        """
        ...

    async def note(self, tenant: str, leftover_id: str, objects: Sequence[Json]) -> None:
        """Record what there is by now."""
        ...

    async def done(self, tenant: str, leftover_id: str) -> None:
        """Nothing is left; so is the entry.  One that is gone already is no error."""
        ...

    async def failed(self, tenant: str, leftover_id: str, objects: Sequence[Json], error: str, now: datetime) -> None:
        """Note what is left and why; its lease ends.  The next attempt waits as in the outbox.

        One that is gone already is no error.
        """
        ...

    async def claim(self, server: str, now: datetime, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """Some at `server` that nobody works on and that are due, longest due first; nobody else gets them before
        `CLAIM_S` are over.
        """
        ...

    async def waiting(self, *, limit: int = BATCH) -> tuple[Leftover, ...]:
        """Those that nobody works on, oldest first, for people to look at; nothing is claimed."""
        ...


class Upkeep(Protocol):
    """What processes do for their own work, and now and then for that of processes that are gone."""

    async def renew(self, owner: str, until: datetime) -> int:
        """Extend every lease that `owner` holds; how many.  Nobody is given back what a sweep took."""
        ...

    async def runs(self, owner: str, states: Collection[RunState]) -> tuple[Run, ...]:
        """Runs that `owner` holds, whosoever they are, in one of these states: what others want done in this process."""
        ...

    async def sweep(self, now: datetime, *, limit: int = BATCH) -> Swept:
        """Take up to `limit` of each kind of work from owners whose lease has run out, and from nobody else.

        Pending outputs and files go, their keys into the outbox; executions are `lost`, sessions end as `lost`, runs
        fail with the code `owner_lost`, those that waited for their caller expire, those that nobody wanted any more
        are cancelled; leftovers are due.  Any number of processes may sweep at a time.
        """
        ...

    async def prune(self, now: datetime, *, dry_run: bool = False, limit: int = BATCH) -> Pruned:
        """Delete up to `limit` outputs and files each that are past their expiry or their tenant's retention.

        Also the events of some runs that ended more than `EVENTS_KEPT` ago, and of those that are not to
        be kept (`IS_KEPT`), which ended more than `UNKEPT_FOR` ago, all (`Runs.delete`; a conversation that is empty then goes
        with them): whoever should have forgotten them has not lived to do it.
        With `dry_run` nothing is deleted, and all are counted.  Call it until nothing more comes of it.
        """
        ...


class ChatRepository(Protocol):
    """All of it; safe for any number of tasks at a time, and any number of processes on one database."""

    @property
    def conversations(self) -> Conversations: ...  # noqa: D102  # said by its type, and so below
    @property
    def messages(self) -> Messages: ...  # noqa: D102
    @property
    def runs(self) -> Runs: ...  # noqa: D102
    @property
    def sessions(self) -> Sessions: ...  # noqa: D102
    @property
    def executions(self) -> Executions: ...  # noqa: D102
    @property
    def outputs(self) -> Outputs: ...  # noqa: D102
    @property
    def files(self) -> Files: ...  # noqa: D102
    @property
    def definitions(self) -> Definitions: ...  # noqa: D102
    @property
    def keys(self) -> Keys: ...  # noqa: D102
    @property
    def tenants(self) -> Tenants: ...  # noqa: D102
    @property
    def audit(self) -> Audit: ...  # noqa: D102
    @property
    def outbox(self) -> Outbox: ...  # noqa: D102
    @property
    def leftovers(self) -> Leftovers: ...  # noqa: D102
    @property
    def upkeep(self) -> Upkeep: ...  # noqa: D102

    async def close(self) -> None:
        """End every connection."""
        ...


__all__ = [
    "Audit",
    "ChatRepository",
    "Conversations",
    "Definitions",
    "Executions",
    "Files",
    "KeptFiles",
    "Keys",
    "Messages",
    "Outbox",
    "Outputs",
    "Runs",
    "Sessions",
    "Tenants",
    "Upkeep",
]
