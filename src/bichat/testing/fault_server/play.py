"""What comes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Every run of a server's has the same."""

    states: tuple[str, ...] = ("in_progress", "completed")
    """What a run is each time that it is looked at; it stays what it is last."""
    heeds_cancel: bool = True
    """Whether it ends when it is cancelled."""
    error: Mapping[str, Any] | None = None
    """`last_error` of a run, `error` of a response, in its last state."""
    code: str = ""
    """What ran; if empty, what stands in the last block of code of the message."""
    runs_code: bool = True
    """Whether anything ran."""
    logs: str = "42\n"
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Left in `/mnt/data`, and cited in the answer."""
    uncited: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Left there too; in a thread they stand among the attachments of the answer."""
    images: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Shown."""
    text: str = "Done."
    announced: Mapping[str, int] = field(default_factory=dict[str, int])
    """Sizes that are told in the place of the true ones, by name."""
    messages: int = 1
    """Messages of the run; files are cited in the last one alone."""
    strangers: int = 0
    """Messages of another run that lie in the thread too, each with a file."""
