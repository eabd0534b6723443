"""The values that travel through bichat: what was asked for, what came out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from bichat.errors import LimitError, UserInputError
from bichat.files import save_files
from bichat.sizes import GIB, MIB, format_size

#: Of every limit that counts something; what is above it the kernel does not take.
_MOST: Final = 1 << 50
TABLE_TYPE: Final = "application/vnd.dataresource+json"
CHART_TYPE: Final = "application/vnd.bichat.chart+json"


class Status(StrEnum):
    """How an execution ended."""

    COMPLETED = "completed"
    #: The code raised, or ended its own process with a non-zero exit code.
    ERROR = "error"
    #: The code ran longer than its wall-clock limit and was interrupted, or killed when it did not heed that.
    TIMEOUT = "timeout"
    #: An uncaught MemoryError, or the whole session's memory passed the limit and it was killed.
    OUT_OF_MEMORY = "out_of_memory"
    #: More output than may be printed; killed.
    OUTPUT_LIMIT = "output_limit"
    #: The code failed because `/mnt/data` and `/tmp` were full (bytes or inodes); at the level `landlock`, killed for it.
    DISK_FULL = "disk_full"
    #: The code's process died by a signal that no limit explains (a crash, somebody's kill); at the level `landlock` also
    #: for more processes than `pids`.
    KILLED = "killed"
    #: The caller stopped it.
    CANCELLED = "cancelled"
    #: The sandbox itself died while the code ran; the code may have run in part.
    SESSION_LOST = "session_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one session may use.  Each field also serves as an operator's bound (see `Limits.within`)."""

    timeout_s: float = 300.0
    """Wall-clock seconds of one execution; at it the code is interrupted, and killed after `grace_s`: status `timeout`."""
    memory_bytes: int = GIB
    """What all processes of the session together may add to the shared base, anonymous and shared memory.

    An allocation that would bring one process within a sixteenth of it raises MemoryError in the guest, and the code may
    go on; the sum passing it kills the session.
    """
    disk_bytes: int = GIB
    """Size of the memory-backed disk that `/mnt/data`, `/tmp` and `/dev/shm` share; above it writes fail with ENOSPC.

    At the level `landlock` the host's, measured some ten times a second; above it the session is killed: `disk_full`.
    """
    inodes: int = 20_000
    """Files, folders and links on that disk; above it creating fails with ENOSPC."""
    cpus: int = 2
    """Processors the session is bound to (never more than the host has)."""
    pids: int = 256
    """Processes and threads; above it creating one fails with EAGAIN.

    At the level `landlock`, and where the server is no root, they are counted every 20 ms, and the session is killed.
    """
    output_bytes: int = MIB
    """Bytes of stdout and of stderr that are kept, half from the head and half from the tail."""
    output_kill_bytes: int = 64 * MIB
    """Bytes of stdout and stderr together at which the code is killed: status `output_limit`."""
    artifact_bytes: int = 512 * MIB
    """Size of one captured file; a larger one is refused by name."""
    artifacts: int = 200
    """Number of captured files; those above it are refused by name."""
    grace_s: float = 2.0
    """Seconds that code has to end once it was interrupted, at its timeout or by its caller; then it is killed."""
    idle_s: float = 20 * 60.0
    """Seconds without use after which a session ends."""
    life_s: float = 24 * 3600.0
    """Seconds after which a session ends in any case."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if not value > 0 or value == float("inf"):
                raise UserInputError(f"the limit {spec.name} must be above zero and finite, got {value!r}")
            if spec.type == "int" and (not isinstance(value, int) or value > _MOST):
                raise UserInputError(f"the limit {spec.name} must be a whole number up to {_MOST:,}, got {value!r}")

    def within(self, bounds: Limits) -> Limits:
        """These limits, once every one of them is known to be at or under the operator's `bounds`.

        Raises:
            LimitError: one is above its bound; names it, the value asked for and the bound.
        """
        for spec in fields(self):
            asked, bound = getattr(self, spec.name), getattr(bounds, spec.name)
            if asked > bound:
                show = format_size if spec.name.endswith("_bytes") else str
                raise LimitError(
                    f"{spec.name} of {show(asked)} is above this installation's bound of {show(bound)}",
                    stage="limits",
                    remedy=f"Ask for less, or have the operator raise BICHAT_MAX_{spec.name.upper()}.",
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where code comes from, for the record."""

    message_id: str | None = None
    """The message that it is a part of: its outputs belong to that, and go with it."""
    run_id: str | None = None


class Content(Protocol):
    """The bytes of a captured file, kept apart from the sandbox they came from."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start, in pieces of at most 1 MiB; may be called again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that an execution made or changed, captured as it was when the execution ended."""

    name: str
    """Path below `/mnt/data` as the code named it (`report.pdf`, `plots/a.png`): *data*, never a path to open.

    Bytes that are not UTF-8 stand as `\\xNN`; `ExecutionResult.save_artifacts` writes it somewhere.
    """
    mime_type: str
    size_bytes: int
    sha256: str
    source: str = "file"
    """`file`; `display` for an image that the code displayed; `output` for the whole of a stream that was cut."""
    is_complete: bool = True
    """False for a stream of which `artifact_bytes` were kept and no more."""
    content: Content = field(repr=False, compare=False)
    id: str = ""
    """Of the output that it is kept as (`CodeInterpreterOutput`); empty when it is not kept."""
    url: str = ""
    """Where `bichat serve` gives it out, to whoever may have it; empty when it is not kept."""
    storage_key: str = field(default="", repr=False)
    """What its bytes are found by in the storage."""
    not_kept: str = ""
    """Why it could not be kept, in words; empty when it was, or nobody wanted it to be."""

    def read_bytes(self) -> bytes:
        """All the bytes at once: up to the artifact limit, 512 MiB by default."""
        return b"".join(self.content.chunks())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description, without the bytes."""
        return {
            "name": self.name,
            "mime_type": self.mime_type,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "source": self.source,
            "is_complete": self.is_complete,
            "id": self.id,
            "url": self.url,
            "not_kept": self.not_kept,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """Bytes that a storage keeps under a key of ours."""

    key: str
    """`tenant/uuid`: made by us, never from a name."""
    name: str
    """What its owner called it: data, never a path."""
    mime_type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    """When it was saved, aware, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A value that the code displayed, in all the forms that it has: a bundle of MIME types."""

    data: Mapping[str, Any]
    """By MIME type: text and `image/svg+xml` as str, other images as bytes, JSON types as the value."""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the code said about it, by MIME type, as IPython has it."""
    display_id: str = ""
    """IPython's `display_id`: a later result with the same one takes the place of this one.  Mostly empty."""
    artifact: str = ""
    """Name of the artifact that holds its image; empty when it has none, and before the execution has ended."""

    @property
    def text(self) -> str:
        """Its plain text; empty when it has none."""
        return str(self.data.get("text/plain", ""))

    @property
    def table(self) -> Mapping[str, Any] | None:
        """The first rows of a data frame or series with its schema and true row count: `TABLE_TYPE`."""
        return self.data.get(TABLE_TYPE)

    @property
    def chart(self) -> Mapping[str, Any] | None:
        """The numbers behind a chart: `CHART_TYPE`."""
        return self.data.get(CHART_TYPE)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the bytes of images: `artifact` names where they are."""
        return {
            "data": {kind: value for kind, value in self.data.items() if not isinstance(value, bytes)},
            "metadata": dict(self.metadata),
            "display_id": self.display_id,
            "artifact": self.artifact,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFile:
    """Something under `/mnt/data` that was not captured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFile:
    """A file that lies in a session's `/mnt/data` now."""

    name: str
    """Path below `/mnt/data`, as in `Artifact.name`."""
    size_bytes: int
    modified_at: datetime
    """As the code may have set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeError:
    """What ended the code: the exception that it raised, or the way its process died."""

    name: str
    """Exception class (`ZeroDivisionError`), or `ProcessExited`, `ProcessKilled`, `Timeout`, `MemoryLimit`, ..."""
    message: str
    traceback: str = ""
    """As Python prints it, showing the user's lines only; empty when the process died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedText:
    """One output stream, bounded."""

    text: str
    """What was printed; when cut, the head, a line that says how many bytes are missing, and the tail."""
    total_bytes: int = 0
    """Bytes that were printed in all (as far as they were read before a kill)."""
    omitted_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationReport:
    """What stood between the code and the host."""

    level: str
    """`namespaces`: see SECURITY.md."""
    lacks: tuple[str, ...] = ()
    """What the level does not give on this host, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds spent in each stage, on the server's monotonic clock."""

    queue_s: float = 0.0
    """Waiting for the session's earlier code, and for room (`docs/how-to/sessions.md`)."""
    sandbox_s: float = 0.0
    """Until a sandbox was ready (zygote included when it had to be started)."""
    input_s: float = 0.0
    """Copying the input files in."""
    run_s: float = 0.0
    """From handing over the code to its end."""
    capture_s: float = 0.0
    """Reading and hashing the files that came out."""
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """All that came out of one execution.  User code failing is a `status`, never an exception."""

    status: Status
    stdout: str = ""
    stderr: str = ""
    stdout_omitted_bytes: int = 0
    stderr_omitted_bytes: int = 0
    error: CodeError | None = None
    """None exactly when the status is `completed`."""
    results: tuple[Result, ...] = ()
    """What the code displayed, in that order."""
    results_omitted: int = 0
    """How many results are not in `results`, because they were more than 200 or larger than 64 MiB together."""
    artifacts: tuple[Artifact, ...] = ()
    """In the order of their names."""
    refused: tuple[RefusedFile, ...] = ()
    session_alive: bool = False
    """Whether its session can run another execution; False after `CodeInterpreter.run`, which keeps none."""
    isolation: IsolationReport
    timings: Timings = Timings()
    id: str = ""
    """Of the execution's row; empty where executions are not recorded."""
    not_recorded: str = ""
    """Why neither it nor its files could be recorded although they should be, in words; mostly empty."""
    notice: str = ""
    """What its caller should know of the session: that it was opened again, say, and its variables are gone."""

    @property
    def ok(self) -> bool:
        """Whether the code completed."""
        return self.status is Status.COMPLETED

    def artifact(self, name: str) -> Artifact:
        """The artifact called `name`.

        Raises:
            KeyError: there is none.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise KeyError(name)

    def save_artifacts(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Where each artifact now lies below `folder`, in their order; the folder is made when it is missing.

        Names become harmless file names (see `bichat.names.safe_file_name`): nothing is written outside the folder.
        A file of that name from before is replaced.

        Raises:
            StorageError: something could not be written; no file is left half-written.
        """
        return save_files(((artifact.name, artifact.content.chunks()) for artifact in self.artifacts), folder)

    def to_dict(self) -> dict[str, Any]:
        """The result as one JSON document, without the files' bytes."""
        return {
            "id": self.id,
            "status": self.status.value,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "stdout_omitted_bytes": self.stdout_omitted_bytes,
            "stderr_omitted_bytes": self.stderr_omitted_bytes,
            "error": asdict(self.error) if self.error else None,
            "results": [result.to_dict() for result in self.results],
            "results_omitted": self.results_omitted,
            "artifacts": [artifact.to_dict() for artifact in self.artifacts],
            "refused": [asdict(refused) for refused in self.refused],
            "session_alive": self.session_alive,
            "isolation": asdict(self.isolation),
            "timings": asdict(self.timings),
            "not_recorded": self.not_recorded,
            "notice": self.notice,
        }
