"""The Sandbox port: a walled-in process tree that a session lives in.

It knows nothing of storage, databases, HTTP or models, and keeps no history.  Above it stands the interpreter, which
decides when to open and end one; below it the kernel.  Implemented by `namespace_sandbox.NamespaceSandbox`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bichat.domain import CapturedText, CodeError, IsolationReport, Status
from bichat.events import Stderr, Stdout
from bichat.sandbox.artifacts import Capture
from bichat.sandbox.inputs import InputFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one execution ended: the last thing that `Sandbox.execute` yields."""

    status: Status
    stdout: CapturedText
    stderr: CapturedText
    error: CodeError | None
    """None exactly when the status is `completed`."""
    alive: bool
    """Whether the sandbox can run another execution."""


class Sandbox(Protocol):
    """One session's walls.  Never used for a second session."""

    @property
    def isolation(self) -> IsolationReport:
        """What stands between the code and the host."""
        ...

    async def put(self, files: Sequence[InputFile]) -> None:
        """Copy `files` into `/mnt/data`.

        Raises:
            UserInputError: one exists already, or changed under our hands.
            LimitError: they do not fit on the sandbox's disk.
        """
        ...

    def execute(
        self, code: str, *, name: str, timeout_s: float, final: bool = False
    ) -> AsyncGenerator[Stdout | Stderr | Ended]:
        """Run `code`, called `name` in tracebacks; output as it comes, then `Ended`.

        `final` code is the last of its sandbox, and ends as a program does: its threads are waited for, its `atexit`
        functions called.

        At `timeout_s`, at a limit, or when the caller stops iterating (cancellation too) the whole tree is killed.

        Raises:
            SandboxLostError: the sandbox was dead before the code was handed over.
        """
        ...

    async def capture(self) -> Capture:
        """Every file that is new or changed since the last `execute` began; also after the tree is dead."""
        ...

    async def close(self) -> None:
        """Kill the tree and wait until the kernel says that it is gone.  May be called again."""
        ...
