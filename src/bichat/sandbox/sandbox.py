"""The Sandbox port: a walled-in process tree that a session lives in.

It knows nothing of storage, databases, HTTP or models, and keeps no history.  Above it stands the session, which
decides when to use and to end one; below it the kernel.  Implemented by `namespace_sandbox.NamespaceSandbox`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bichat.domain import Artifact, CapturedText, CodeError, IsolationReport, RefusedFile, Result, SessionFile, Status
from bichat.events import Displayed, Stderr, Stdout
from bichat.sandbox.artifacts import Capture
from bichat.sandbox.inputs import InputFile
from bichat.sandbox.results import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one execution ended: the last thing that `Sandbox.execute` yields."""

    status: Status
    stdout: CapturedText
    stderr: CapturedText
    error: CodeError | None
    """None exactly when the status is `completed`."""
    shown: tuple[Shown, ...] = ()
    results_omitted: int = 0
    alive: bool
    """Whether the sandbox can run another execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one execution left: its files, images and cut streams as artifacts, and its results by their names."""

    artifacts: tuple[Artifact, ...]
    refused: tuple[RefusedFile, ...]
    results: tuple[Result, ...]


class Sandbox(Protocol):
    """One session's walls.  Never used for a second session.  One execution at a time, the caller sees to that."""

    @property
    def isolation(self) -> IsolationReport:
        """What stands between the code and the host."""
        ...

    async def configure(self, variables: Mapping[str, str]) -> None:
        """Set environment variables for the code and its children, before the first execution."""
        ...

    async def put(self, files: Sequence[InputFile]) -> None:
        """Copy `files` into `/mnt/data`, in the place of those of the same names.

        Raises:
            UserInputError: one changed under our hands, or has the name of a folder.
            LimitError: they do not fit on the sandbox's disk.
        """
        ...

    def execute(
        self, code: str, *, name: str, timeout_s: float, final: bool = False
    ) -> AsyncGenerator[Stdout | Stderr | Displayed | Ended]:
        """Run `code`, called `name` in tracebacks; output as it comes, then `Ended`.

        `final` code is the last of its sandbox, and ends as a program does: its threads are waited for, its `atexit`
        functions called.

        At `timeout_s`, and when the caller stops iterating (cancellation too), the code is interrupted, and the whole
        tree is killed when that has not ended it after `grace_s`; in the second case `settle` waits for the end.  At
        a limit the whole tree is killed at once.

        Raises:
            SandboxLostError: the sandbox was dead before the code was handed over.
        """
        ...

    def hold_output(self, is_held: bool) -> None:  # noqa: FBT001  # what it sets
        """Leave the code's output in its pipes from now on, where the code waits once they are full; or go on taking it.

        Its timeout and its end are noticed all the same.  The next execution begins with its output taken.
        """
        ...

    async def settle(self) -> None:
        """Wait for the end of an execution whose caller walked away; does nothing where there is none."""
        ...

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs; nothing happens between two executions."""
        ...

    def begin_restart(self) -> None:
        """End the interpreter with everything that it started, and begin a fresh one on the same files.

        The execution under way ends as cancelled; `finish_restart` must be awaited before the next.
        """
        ...

    async def finish_restart(self) -> None:
        """Wait for the fresh interpreter."""
        ...

    def rest(self, allowed_bytes: int, grown: Callable[[int], None]) -> None:
        """After an execution: `grown` is told once, in the loop's thread, when what is held gets above `allowed_bytes`.

        Threads and programs that were left behind may do that.  With the next execution it is forgotten.
        """
        ...

    async def capture(self) -> Capture:
        """Every file that is new or changed since the last capture; also after the tree is dead."""
        ...

    async def outcome(self, ended: Ended) -> Outcome:
        """`capture`, and with it what the execution that `ended` displayed and what was cut from its output."""
        ...

    async def files(self) -> tuple[SessionFile, ...]:
        """The regular files in `/mnt/data`."""
        ...

    async def open(self, name: str) -> Artifact:
        """One of `files`, with its bytes as they are now."""
        ...

    async def remove(self, name: str) -> None:
        """Remove one of `files`; what is not there is no error."""
        ...

    def kill(self, reason: Status) -> None:
        """Have the kernel kill the whole tree now; the first reason given is the one that counts."""
        ...

    async def close(self) -> None:
        """Kill the tree and wait until the kernel says that it is gone.  May be called again."""
        ...
