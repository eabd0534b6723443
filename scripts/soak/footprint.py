"""What a server holds at one moment."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.tree import sandboxed, zygotes

from bichat.sizes import KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Of this process and those below it."""

    descriptors: int
    threads: int
    processes: int
    """In sandboxes, ready ones included, and those that they are forked from."""
    temporary_files: int
    """In the spool's folder, with a name or without."""
    control_groups: int
    server_bytes: int
    """Resident."""
    zygote_bytes: int
    """Resident, of the largest of those that sandboxes are forked from."""

    @classmethod
    def look(cls, spool_folder: Path) -> Self:
        """At this process, now."""
        gc.collect()
        above = zygotes()
        targets = [_target(entry) for entry in Path("/proc/self/fd").iterdir()]
        return cls(
            descriptors=sum(not target.startswith("/proc/") for target in targets),  # the watchdog's
            threads=threading.active_count(),
            processes=len(above) + len(sandboxed()),
            temporary_files=len(list(spool_folder.glob("*")))
            + sum(target.startswith(str(spool_folder)) for target in targets),
            control_groups=sum(1 for _ in Path("/sys/fs/cgroup").glob(f"**/bichat-{os.getpid()}-*/")),
            server_bytes=_resident(os.getpid()),
            zygote_bytes=max(map(_resident, above), default=0),
        )


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return "/proc/"


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * KIB for line in lines if line.startswith("VmRSS:")), 0)
