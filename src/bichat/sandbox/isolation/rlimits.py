"""Resource limits of one guest process: a pure table, and the call that applies it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import Final

STACK_BYTES: Final = 8 << 20
OPEN_FILES: Final = 1024
#: The part of the memory that no process gets by itself: code that has met a MemoryError must have room left to go on
#: in (see `guest.spare`), before the sum of all passes the limit and ends everything.
_SPARE_PART: Final = 16


def process_limits(
    *, memory_bytes: int, base_data_bytes: int, disk_bytes: int, pids: int
) -> dict[int, tuple[int, int]]:
    """Soft and hard limit by RLIMIT_* constant for each process of a session.

    `base_data_bytes` is what the zygote's own data segments measured at the fork: RLIMIT_DATA counts them too.
    There is no RLIMIT_AS: V8 inside vl-convert reserves 68 GB of address space and dies at any limit below that,
    so memory mapped shared is held by the watchdog, not by rlimits.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: base_data_bytes + memory_bytes,
        resource.RLIMIT_FSIZE: disk_bytes,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: pids,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 1024,
        resource.RLIMIT_STACK: STACK_BYTES,
    }
    both = {kind: (limit, limit) for kind, limit in limits.items()}
    hard = limits[resource.RLIMIT_DATA]
    return {**both, resource.RLIMIT_DATA: (hard - memory_bytes // _SPARE_PART, hard)}


def apply_limits(limits: dict[int, tuple[int, int]]) -> None:
    """Set soft and hard limits; one above what this process may have is cut to that."""
    for kind, wanted in limits.items():
        _, highest = resource.getrlimit(kind)
        soft, hard = (limit if highest == resource.RLIM_INFINITY else min(limit, highest) for limit in wanted)
        resource.setrlimit(kind, (soft, hard))


def tasks_of(user: int) -> int:
    """Processes and threads of the user with this number, as far as `/proc` shows them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
