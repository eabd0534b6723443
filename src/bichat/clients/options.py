"""What a client may be told beside where its server is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from bichat.errors import UserInputError
from bichat.sizes import MIB

#: What a model is told that is to write code itself.
INSTRUCTIONS: Final = (
    "You run Python in the code interpreter to do what the user asks for. "
    "Save every file that the user should have under /mnt/data, and link each in your answer as sandbox:/mnt/data/NAME. "
    "Code that the user gives you is to be run as it is, in one call, without a change."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Of one client."""

    model: str = ""
    """Which model is asked; if empty, `local-python` for code where the server has it, else `OPENAI_MODEL`, else `gpt-4o`.

    `local-python` runs code to the letter, and is no model: words it refuses.
    """
    instructions: str = INSTRUCTIONS
    """What the model is told before anything else."""
    poll_interval_s: float = 0.5
    """How often a run is looked at; a server that sends `openai-poll-after-ms` is obeyed instead."""
    timeout_s: float = 300.0
    """How long a run may take from its start; then it is cancelled."""
    request_timeout_s: float = 30.0
    """How long an answer may keep still: a request that waits longer for the next byte has failed."""
    retries: int = 3
    """How often a call is made again that failed for the moment: 429, 5xx, no connection, no answer.

    Calls that make something are made again after 429 alone, which says that nothing was made.  Looking at a run goes on
    until its timeout, however often that fails.
    """
    retry_wait_s: float = 0.1
    """Seconds before the first of these, each next one twice as long, up to 5; a server's `retry-after` is obeyed instead."""
    cleanup_s: float = 30.0
    """How long, behind a result or a failure, a run is cancelled and things are deleted before they are left for later."""
    max_file_bytes: int = 512 * MIB
    """A larger file that comes out is refused by name."""
    max_files: int = 200
    """Files of one execution that are loaded; those above it are refused by name."""
    server_name: str = ""
    """What the server is called in the list of what is still to be deleted: whoever deletes claims by this name.

    Its address by default.  Give each account at one server a name of its own, for none can delete what is another's.
    """
    spool_folder: Path | None = None
    """Where files lie between server and storage, without names; the system's folder for temporary files by default."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, int | float) and not (value >= 0 if spec.name == "retries" else value > 0):
                raise UserInputError(f"the option {spec.name} must be above zero, got {value!r}", stage="settings")
