"""One execution at another server, from its first call to its last."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bichat.clients.loading import RemoteFile
from bichat.sandbox.inputs import InputFile

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of code that ran there."""

    code: str
    logs: str


@dataclass(slots=True, kw_only=True)
class Job:
    """What is asked for, and what is known of it by now."""

    tenant: str
    user: str = ""
    message_id: str | None = None
    text: str
    """What is said to the server, files aside."""
    code: str = ""
    """What is to run to the letter; empty where a model writes it."""
    description: str = ""
    model: str
    files: tuple[InputFile, ...] = ()
    timeout_s: float

    before: str = ""
    """Code that puts the files in their places."""
    is_started: bool = False
    """Whether the code may run by now."""
    is_over: bool = False
    """Whether it has come to its end there."""
    is_unwanted: bool = False
    """Whether its end was asked for."""
    is_collected: bool = False
    """Whether all is known that came out of it."""
    ids: dict[str, str] = field(default_factory=dict[str, str])
    """By kind: assistant, thread, run, container, response."""
    cells: list[Cell] = field(default_factory=list[Cell])
    said: list[str] = field(default_factory=list[str])
    remote_files: list[RemoteFile] = field(default_factory=list[RemoteFile])
    images: list[str] = field(default_factory=list[str])
    """Data URLs."""
    usage: Json = field(default_factory=dict[str, Any])
    container_id: str = ""
    notes: list[str] = field(default_factory=list[str])
    times: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds, by the fields of `Timings` without their ending."""
    began: float = field(default_factory=time.perf_counter)

    def knows(self, file_id: object) -> bool:
        """Whether a file is among those that came out."""
        return any(known.id == file_id for known in self.remote_files)

    def add_file(self, file: RemoteFile) -> None:
        """A file that came out; of one that is known already, what is new: its size, that it is cited and no mere image."""
        for number, known in enumerate(self.remote_files):
            if known.id == file.id:
                size = file.size_bytes if known.size_bytes is None else known.size_bytes
                best = file if known.source != file.source == "file" else known
                name = file.name if file.name.endswith(f"/{known.name}") else best.name  # with its folders
                self.remote_files[number] = replace(best, size_bytes=size, name=name)
                return
        self.remote_files.append(file)
