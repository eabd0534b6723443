"""The rows of the repository as values.  Ids are UUIDs as text, moments are aware and in UTC.

Who makes one names the tenant and what is special about it; id and time are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from bichat.repository.ids import new_id
from bichat.repository.moments import utc_now

Json = Mapping[str, Any]

#: Status of an execution whose code runs, and of one whose process died with it.
RUNNING: Final = "running"
LOST: Final = "lost"
#: Who holds the lease of a run that waits for its caller; nobody renews it, and with it the run expires.
CALLER: Final = "caller"
#: In `Run.request`: False for one that whoever asked for it wants nothing kept of.
IS_KEPT: Final = "is_kept"
#: How long after a run the events are kept that streams of it are made of.
EVENTS_KEPT: Final = timedelta(days=7)
#: How long after a run that is not to be kept those have to forget it who work on it.
UNKEPT_FOR: Final = timedelta(minutes=10)


class Role(StrEnum):
    """Who says a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class RunState(StrEnum):
    """How far an answer has come."""

    QUEUED = "queued"
    RUNNING = "running"
    #: It waits for what its caller alone can give: the outcome of a tool of the caller's.
    WAITING = "waiting"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    #: It came to a limit: what there is, is there.
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether it stays so."""
        return self not in ACTIVE_STATES


#: States of a run that is not over: a conversation has one such run at most.
ACTIVE_STATES: Final = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.CANCELLING)


class FileState(StrEnum):
    """Whether the bytes of a row are there."""

    #: Somebody is bringing them; see `Lease`.
    PENDING = "pending"
    AVAILABLE = "available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works on a row, and until when nobody else may take it over."""

    owner: str
    """A process: an id that it made at its start."""
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A chat with its messages."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    """Whose within the tenant; empty where the caller has no users."""
    title: str = ""
    pinned: bool = False
    archived: bool = False
    metadata: Json = field(default_factory=dict[str, Any])
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime = field(default_factory=utc_now)
    """When its last message was saved, or the conversation itself was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a message, in its place: history replays exactly as it was."""

    kind: str
    """`text`, `reasoning`, `code`, `tool_call`, `tool_result`, `citation`, `image`, `file`, ...; for the core to say."""
    content: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn."""

    id: str = field(default_factory=new_id)
    tenant: str
    conversation_id: str
    role: Role
    author: str = ""
    """The user, or the model, that says it."""
    parts: tuple[Part, ...] = ()
    run_id: str | None = None
    """The run that it went into or came out of."""
    is_input: bool = False
    """Whether it went into that run."""
    status: str = "completed"
    metadata: Json = field(default_factory=dict[str, Any])
    created_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One answer being made, by one owner at a time."""

    id: str = field(default_factory=new_id)
    tenant: str
    conversation_id: str
    state: RunState
    model: str = ""
    request: Json = field(default_factory=dict[str, Any])
    """What was asked for, as its view needs it to be told again."""
    attempt: str = ""
    """By which the same request, sent again, finds the run; empty once its caller has the answer."""
    error: Json | None = None
    """Code, message, stage, remedy."""
    usage: Json = field(default_factory=dict[str, Any])
    metadata: Json = field(default_factory=dict[str, Any])
    lease: Lease | None = None
    created_at: datetime = field(default_factory=utc_now)
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run: who lost the stream reads on from the last number that he saw."""

    sequence: int
    """From 1, without gaps."""
    kind: str
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that lies in a session's `/mnt/data`, and where its bytes are kept."""

    name: str
    storage_key: str
    """Empty where they could not be kept."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A live interpreter, or one that was."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    conversation_id: str | None = None
    environment: str
    options: Json = field(default_factory=dict[str, Any])
    """Limits and the like, to open it again with."""
    files: tuple[KeptFile, ...] = ()
    """What lay in its folder after its last execution, as far as it is kept."""
    lease: Lease | None = None
    """Of the process that its sandbox lives in; None once it has ended."""
    end_reason: str = ""
    """As `SessionEndedError.reason`; empty while it lives."""
    expires_at: datetime | None = None
    """When it ends in any case."""
    created_at: datetime = field(default_factory=utc_now)
    last_used_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One piece of code that was run, and what came of it.  Its bytes are in `CodeInterpreterOutput`."""

    id: str = field(default_factory=new_id)
    tenant: str
    session_id: str
    user: str = ""
    message_id: str | None = None
    run_id: str | None = None
    code: str
    code_sha256: str
    environment: str
    lock_hash: str
    """Of the environment's locked packages: with the code, all that is needed to run it again."""
    status: str = RUNNING
    """`running`, then `bichat.domain.Status`; `lost` when its process died with it."""
    stdout: str = ""
    """Bounded, as the caller saw it."""
    stderr: str = ""
    stdout_omitted_bytes: int = 0
    stderr_omitted_bytes: int = 0
    error: Json | None = None
    results: tuple[Json, ...] = ()
    timings: Json = field(default_factory=dict[str, Any])
    isolation: str = ""
    lease: Lease | None = None
    """Of the process that runs it; None once it has ended."""
    created_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeInterpreterOutput:
    """A file that an execution made or changed, or an image that it displayed: a row and its bytes."""

    id: str = field(default_factory=new_id)
    tenant: str
    message_id: str | None = None
    """None where no message is involved."""
    execution_id: str
    name: str
    mime_type: str
    url: str
    """Where the server gives it out to whoever may have it: it stays the same, and is no secret."""
    size_bytes: int
    source: str
    """`file`, `display` or `output`, as `Artifact.source`."""
    storage_key: str
    sha256: str
    state: FileState = FileState.AVAILABLE
    lease: Lease | None = None
    created_at: datetime = field(default_factory=utc_now)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the names that chat front ends know: id, message_id, name, mime_type, url, size, created_at."""
        return {
            "id": self.id,
            "message_id": self.message_id,
            "name": self.name,
            "mime_type": self.mime_type,
            "url": self.url,
            "size": self.size_bytes,
            "created_at": self.created_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file that somebody uploaded: a row and its bytes."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    name: str
    purpose: str
    """What it was uploaded for, in the words of the interface: `assistants`, `user_data`, `session`, ..."""
    session_id: str | None = None
    """The session whose own input it is, and with which it is deleted; None for what stands for itself."""
    mime_type: str
    size_bytes: int
    storage_key: str
    sha256: str
    state: FileState = FileState.AVAILABLE
    lease: Lease | None = None
    metadata: Json = field(default_factory=dict[str, Any])
    created_at: datetime = field(default_factory=utc_now)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Something that a caller describes once and then names by its id: an assistant, say."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    kind: str
    """What it describes, in the words of whoever reads it: `assistant`, `vector_store`."""
    content: Json
    created_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What a program shows to be let in; the key itself is known to its holder alone."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    name: str
    prefix: str
    """Its first characters, to tell keys apart by."""
    sha256: str
    created_at: datetime = field(default_factory=utc_now)
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for a tenant; None is without bound."""

    retention_days: float | None = None
    """Age at which outputs and files go, whatever they say themselves."""
    quota_bytes: int | None = None
    """Of all kept files together, and of what is said (`Usage.row_bytes`); above it nothing more is taken."""
    quota_files: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose data it is."""

    name: str
    policy: Policy = Policy()
    created_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a tenant keeps, reservations included."""

    size_bytes: int
    """Of its files."""
    files: int
    row_bytes: int = 0
    """About how much its conversations, messages, runs and definitions take in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what when, such as running code.  Entries outlive what they tell of, their tenant too."""

    id: str = field(default_factory=new_id)
    tenant: str
    user: str = ""
    api_key_id: str | None = None
    action: str
    """`execution`, `key.created`, `conversation.deleted`, ..."""
    session_id: str | None = None
    execution_id: str | None = None
    subject_id: str = ""
    """What else it was done to."""
    code_sha256: str = ""
    outcome: str
    at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """Bytes that no row needs any more, and that are still to be removed."""

    id: int
    tenant: str
    storage_key: str
    reason: str
    """`deleted`, with what it belonged to; `abandoned`, before it was published; `expired`, by its age."""
    attempts: int = 0
    """How often somebody set out to remove them."""
    last_error: str = ""
    next_attempt_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What one execution has made on somebody else's server, and what is still to be deleted there.

    While the execution is under way its process holds the lease; without one it waits for somebody who can delete it.
    """

    id: str = field(default_factory=new_id)
    tenant: str
    server: str
    """Which server, in the words of who made it there: he claims by it."""
    objects: tuple[Json, ...] = ()
    """Each with `kind` and `id`, oldest first, as far as their ids are known."""
    attempts: int = 0
    """How often somebody set out to delete it since its execution ended."""
    last_error: str = ""
    lease: Lease | None = None
    next_attempt_at: datetime = field(default_factory=utc_now)
    created_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was taken from processes that are gone."""

    outputs: int = 0
    files: int = 0
    executions: int = 0
    sessions: int = 0
    runs: int = 0
    leftovers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went because of its age, or would go."""

    outputs: int = 0
    files: int = 0
    size_bytes: int = 0
    """Of outputs and files."""
    runs: int = 0
    """Whose events went, or all of them."""
