"""How much memory there is for this process and all that it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


def host_memory() -> int:
    """Bytes that the machine has, swap not counted."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int:
    """Bytes that the machine has, or this process's control groups if that is less: a container's, a unit's."""
    limit = own_memory_limit()
    return host_memory() if limit is None else limit


def own_memory_limit(own: Path = _OWN, groups: Path = _GROUPS) -> int | None:
    """The least limit of memory of the control groups that this process is in; None where none can be read, or holds.

    Args:
        own: the kernel's list of them.
        groups: where version 2 is mounted, and the hierarchy `memory` of version 1 below it.
    """
    limits: list[int] = []
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8", errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                limits += _limits_above(groups, path, "memory.max")
            elif "memory" in controllers.split(","):
                limits += _limits_above(groups / "memory", path, "memory.limit_in_bytes")
    held = [limit for limit in limits if limit < host_memory()]
    return min(held) if held else None


def _limits_above(root: Path, path: str, name: str) -> Iterator[int]:
    folder = root / path.lstrip("/")
    for each in (folder, *folder.parents):
        with suppress(OSError, ValueError):
            yield int((each / name).read_text(encoding="ascii"))  # "max" is no number
        if each == root:
            return
