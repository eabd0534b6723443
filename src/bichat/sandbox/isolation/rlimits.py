"""Resource limits of one guest process: a pure table, and the call that applies it."""

from __future__ import annotations

import resource
from typing import Final

STACK_BYTES: Final = 8 << 20
OPEN_FILES: Final = 1024
#: The part of the memory that no single process gets: code that meets a MemoryError must have room left to go on in,
#: before the sum of all passes the limit and ends everything.
_SPARE_PART: Final = 16


def process_limits(*, memory_bytes: int, base_data_bytes: int, disk_bytes: int, pids: int) -> dict[int, int]:
    """Limit by RLIMIT_* constant for each process of a session.

    `base_data_bytes` is what the zygote's own data segments measured at the fork: RLIMIT_DATA counts them too.
    There is no RLIMIT_AS: V8 inside vl-convert reserves 68 GB of address space and dies at any limit below that,
    so memory mapped shared is held by the watchdog, not by rlimits.
    """
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: base_data_bytes + memory_bytes - memory_bytes // _SPARE_PART,
        resource.RLIMIT_FSIZE: disk_bytes,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: pids,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: 1024,
        resource.RLIMIT_STACK: STACK_BYTES,
    }


def apply_limits(limits: dict[int, int]) -> None:
    """Set soft and hard limits; one above what this process may have is cut to that."""
    for kind, wanted in limits.items():
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
