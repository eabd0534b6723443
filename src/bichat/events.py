"""What an execution tells while it goes on, as values to `match` on."""

from __future__ import annotations

from dataclasses import dataclass

from bichat.domain import Artifact, ExecutionResult, Result


@dataclass(frozen=True, slots=True)
class Stdout:
    r"""Text that the code printed, as it came; bytes that are not UTF-8 stand as `\xNN`."""

    text: str


@dataclass(frozen=True, slots=True)
class Stderr:
    """Text on the error stream, as it came."""

    text: str


@dataclass(frozen=True, slots=True)
class Displayed:
    """A value that the code displayed, in its place among what it printed.

    The name of its image's artifact is known only at the end: in `Completed`.
    """

    result: Result


@dataclass(frozen=True, slots=True)
class FileChanged:
    """A file that the code made or changed, captured when the code had ended."""

    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of every execution, however it ended."""

    result: ExecutionResult


Event = Stdout | Stderr | Displayed | FileChanged | Completed
