"""What an execution tells while it goes on, as values to `match` on."""

from __future__ import annotations

from dataclasses import dataclass

from bichat.domain import ExecutionResult


@dataclass(frozen=True, slots=True)
class Stdout:
    r"""Text that the code printed, as it came; bytes that are not UTF-8 stand as `\xNN`."""

    text: str


@dataclass(frozen=True, slots=True)
class Stderr:
    """Text on the error stream, as it came."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of every execution, however it ended."""

    result: ExecutionResult


Event = Stdout | Stderr | Completed
