"""What can go wrong with the platform, as one tree.

    BichatError
    ├── UserInputError          the caller asked for something that cannot be done
    │   └── LimitError          ... because it is above a limit or an operator's bound
    ├── NotFoundError           the thing named does not exist
    ├── SandboxUnavailableError this host, or this moment, cannot give a sandbox
    │   └── SandboxLostError    a sandbox that was there has died under us
    ├── CapacityError           all room is taken; says when to come back
    ├── SessionElsewhereError   the session lives in another process
    ├── SessionEndedError       the session has ended; says when and why
    │   └── SessionLostError    ... because its processes were killed under us
    ├── EnvironmentBuildError   a package set could not be built
    ├── StorageError            bytes could not be written or read
    ├── DatabaseError           the database could not do its part
    ├── ConflictError           something else stands in the way, and must end first
    └── ExecutorError           code that was given to another server; says whether it ran, and what survived
        ├── RemoteServiceError  that server refused, failed, or did not answer
        ├── CodeFailedError     the code itself raised, or was killed
        ├── CodeTimeoutError    it took too long, and was cancelled
        └── OutputsNotKeptError it ran, but what came out could not all be kept

User code that fails is *not* here: it is an `ExecutionResult` whose status says so.
An exception means that the platform could not do its part.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar


class BichatError(Exception):
    """The platform could not do its part.

    `code` is stable and meant for programs, `stage` says where on the path it happened, `remedy` what the
    reader can do about it.  `str(error)` is the sentence alone; the command line prints the remedy below it.
    """

    code: ClassVar[str] = "platform_error"

    def __init__(self, message: str, *, stage: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.remedy = remedy

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-ready values: code, message, stage, remedy."""
        return {"code": self.code, "message": self.message, "stage": self.stage, "remedy": self.remedy}


class UserInputError(BichatError):
    """What was asked for is not possible as asked: a bad name, an unreadable file, unusable code."""

    code = "invalid_input"


class LimitError(UserInputError):
    """What was asked for is above a limit, or a limit asked for is above the operator's bound."""

    code = "limit_exceeded"


class NotFoundError(BichatError):
    """What was named does not exist."""

    code = "not_found"


class SandboxUnavailableError(BichatError):
    """No sandbox of the level asked for can be had on this host, or it could not be set up just now.

    The user's code has not run.
    """

    code = "sandbox_unavailable"


class NamespacesForbiddenError(SandboxUnavailableError):
    """This host does not let us have what the level `namespaces` needs, and nothing less was allowed."""

    code = "namespaces_forbidden"


class SandboxLostError(SandboxUnavailableError):
    """The process that sandboxes are forked from died before the code was handed over: trying again is safe."""

    code = "sandbox_lost"


class CapacityError(BichatError):
    """No room within the time that a request waits: the code has not run.  `retry_after_s` is a guess, never below 1."""

    code = "capacity"

    def __init__(self, message: str, *, retry_after_s: float, stage: str = "admission", remedy: str = "") -> None:
        super().__init__(message, stage=stage, remedy=remedy or f"Come back in about {retry_after_s:.0f} s.")
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """As of every error, and `retry_after_s`."""
        return {**super().to_dict(), "retry_after_s": self.retry_after_s}


class SessionEndedError(BichatError):
    """The session has ended: its variables are gone, and the files that were not captured with a result.

    `reason` is stable: `closed`, `idle`, `life`, `evicted`, `grown` (what its code left behind took more memory than
    there was room for), `lost`, `exited` (its code ended the process), or the status of the execution that ended it
    (`timeout`, `out_of_memory`, `output_limit`, `killed`, `cancelled`).
    """

    code = "session_ended"

    def __init__(self, message: str, *, reason: str, ended_at: datetime) -> None:
        super().__init__(message, stage="session", remedy="Open a new session.")
        self.reason = reason
        self.ended_at = ended_at

    def to_dict(self) -> dict[str, Any]:
        """As of every error, with `reason` and `ended_at` (ISO 8601)."""
        return {**super().to_dict(), "reason": self.reason, "ended_at": self.ended_at.isoformat()}


class SessionLostError(SessionEndedError):
    """The session's processes were killed from outside, between two executions or in one."""

    code = "session_lost"


class SessionElsewhereError(BichatError):
    """The session lives in another process of this installation, and only that can do what was asked for.

    Nothing has been done: asking again is safe, and helps where requests are spread over processes.
    """

    code = "session_elsewhere"


class EnvironmentBuildError(BichatError):
    """A package set could not be built; nothing half-built is left in its place."""

    code = "environment_build_failed"


class StorageError(BichatError):
    """Bytes could not be written or read: disk full, permissions, a folder that is not one."""

    code = "storage_failed"


class DatabaseError(BichatError):
    """The database does not answer, refuses us, is full, is locked, or has another version's schema.

    The transaction was rolled back.  Where the connection broke while it was being committed, nobody knows whether it
    was: nothing is tried a second time here.
    """

    code = "database_failed"


class ConflictError(BichatError):
    """What was asked for cannot stand beside what is there: a second answer at a time, an id that is taken."""

    code = "conflict"


class ExecutorError(BichatError):
    """Code that was given to another server did not come to a good end.

    `stage` is one of `upload`, `assistant`, `container`, `thread`, `run`, `collect`, `download`, `storage`.
    """

    code = "executor_failed"

    def __init__(
        self,
        message: str,
        *,
        stage: str = "run",
        remedy: str = "",
        is_retryable: bool = False,
        ran: bool | None = None,
        survived: Any = None,
    ) -> None:
        super().__init__(message, stage=stage, remedy=remedy)
        self.is_retryable = is_retryable
        """Whether the same may go well another time; look at `ran` before it is tried."""
        self.ran = ran
        """Whether the code has run, as a whole or in part; None where nobody knows."""
        self.survived = survived
        """What came out all the same, a `bichat.executor.CodeInterpreterResult`; None where nothing did."""

    def to_dict(self) -> dict[str, Any]:
        """As of every error, with `is_retryable`, `ran`, and `survived` as JSON-ready values."""
        survived = None if self.survived is None else self.survived.to_dict()
        return {**super().to_dict(), "is_retryable": self.is_retryable, "ran": self.ran, "survived": survived}


class RemoteServiceError(ExecutorError):
    """The server that was to run the code refused, failed, answered what makes no sense, or did not answer at all.

    `status_code` is that of its HTTP answer, `retry_after_s` how long it says to wait; None where there was none.
    """

    code = "remote_failed"

    def __init__(
        self, message: str, *, status_code: int | None = None, retry_after_s: float | None = None, **others: Any
    ) -> None:
        super().__init__(message, **others)
        self.status_code = status_code
        self.retry_after_s = retry_after_s


class CodeFailedError(ExecutorError):
    """The code itself raised, or its process died.  The same code fails again."""

    code = "code_failed"


class CodeTimeoutError(ExecutorError):
    """The code took longer than it may, and was cancelled; or the server let it expire."""

    code = "code_timeout"


class OutputsNotKeptError(ExecutorError):
    """The code ran to its end, but not all that came out could be stored: disk full, permissions, a quota."""

    code = "outputs_not_kept"
