"""The port to what runs code for a message: our own sandbox, or somebody else's server.

It knows code, files and what comes of them.  It does not know who wrote the code, nor how it is run.  Above it stands
the code_interpreter tool.  `bichat.agent.local_executor.LocalExecutor` is it on this machine's sandbox,
`bichat.clients.AssistantsClient` and `bichat.clients.ResponsesClient` are it on servers that speak OpenAI's wire;
`bichat.testing.executor.ExecutorConformance` checks all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from bichat.domain import ExecutionResult, Status
from bichat.repository.records import CodeInterpreterOutput
from bichat.sandbox.inputs import InputSource
from bichat.tenants import LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """Code that is to run."""

    code: str
    """Python source, 4 MiB at most."""
    description: str = ""
    """What it is for, in a sentence; servers with a model tell it that."""
    tenant: str = LOCAL
    """Whose it is: outputs are recorded and counted as theirs."""
    user: str = ""
    """Whose within the tenant, for the record."""
    message_id: str | None = None
    """The message that it runs for: outputs belong to that.  Where executions are recorded it must be there."""
    files: Mapping[str, InputSource] = field(default_factory=dict[str, InputSource])
    """What `/mnt/data` holds at the start, by name; as `bichat.interpreter.RunOptions`."""
    timeout_s: float | None = None
    """Seconds that it may take; the executor's own default if None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteObject:
    """Something that was made on another server and could not be deleted there yet."""

    kind: str
    """`assistant`, `thread`, `file`, `container` or `response`."""
    id: str
    """As that server calls it; empty where its answer was lost and it could not be found."""
    reason: str
    """Why it is still there, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeInterpreterResult:
    """All that came of a request.  Code that fails is a status, never an exception."""

    execution: ExecutionResult
    """Status, output, error, artifacts with their bytes, timings.

    Servers that speak OpenAI's wire tell output, values and tracebacks as one text: it stands in `stdout`.  They tell no
    status either: code has failed where the log of its last cell ends in a traceback.  What they left behind and could
    not be loaded stands in `refused`.
    """
    outputs: tuple[CodeInterpreterOutput, ...] = ()
    """Artifacts that were stored, in their order."""
    cells: tuple[str, ...] = ()
    """What really ran, piece by piece: a model may have changed the code, or mended it."""
    is_verbatim: bool = True
    """Whether the code that was asked for is what ran, to the letter, and nothing else did."""
    text: str = ""
    """What a model, or `local-python`, said to it; empty from an executor that says nothing."""
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Tokens, as the server counts them."""
    container_id: str = ""
    """Where it ran, in the words of the server; empty where it does not tell."""
    leftovers: tuple[RemoteObject, ...] = ()
    """What could not be deleted on the server.  With a repository it is on record, and tried again."""

    @property
    def ok(self) -> bool:
        """Whether the code completed, and all that came out is here."""
        return self.execution.ok and not self.execution.refused

    @property
    def status(self) -> Status:
        """How the code ended."""
        return self.execution.status

    @property
    def logs(self) -> str:
        """What it printed, stdout before stderr."""
        return self.execution.stdout + self.execution.stderr

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the bytes of files, in the names that chat front ends know.

        `id`, `code`, `container_id`, `status` (`completed` or `failed`), `logs` and `outputs`, each of which is of the
        type `logs` or `image`; then all there is: `files`, `text`, `execution`, `usage`, `leftovers`.
        """
        shown: list[dict[str, Any]] = [{"type": "logs", "logs": self.logs}] if self.logs else []
        images = [output for output in self.outputs if output.mime_type.startswith("image/")]
        return {
            "id": self.execution.id,
            "code": "\n\n".join(self.cells),
            "container_id": self.container_id,
            "status": "completed" if self.execution.ok else "failed",
            "logs": self.logs,
            "outputs": shown + [{"type": "image", "url": image.url} for image in images],
            "files": [output.to_dict() for output in self.outputs],
            "text": self.text,
            "is_verbatim": self.is_verbatim,
            "execution": self.execution.to_dict(),
            "usage": dict(self.usage),
            "leftovers": [asdict(left) for left in self.leftovers],
        }


class Executor(Protocol):
    """Runs code in isolation, each request by itself: nothing of one is there for the next.

    Any number of tasks may use one at a time.  A caller that is cancelled ends the code, and nothing of it stays.
    """

    async def execute(self, request: CodeRequest) -> CodeInterpreterResult:
        """Run the code, and give back what came of it once it has ended.

        New and changed files in `/mnt/data`, and images that were shown, are artifacts of the result.  Where files are
        kept, each of them is an output, or says in `not_kept` why it is none: that is no exception.

        Raises:
            UserInputError: unusable code, files or names; the code has not run.
            NotFoundError: there is no such message; the code has not run.
            CapacityError: there is no room; the code has not run.
            RemoteServiceError: a server did not do its part; says whether the code has run.
            SandboxUnavailableError: this host cannot give a sandbox; the code has not run.
            DatabaseError: that it is to run could not be recorded; so it has not.
        """
        ...
