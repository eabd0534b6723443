"""The processes of sandboxes, seen from outside, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio

from bichat.sizes import KIB

_LOOK_AGAIN_S = 0.005
_SETTLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory of processes together."""

    proportional_bytes: int = 0
    """PSS: what is shared counts in parts."""
    private_bytes: int = 0
    """What no other process has."""

    def __add__(self, other: Held) -> Held:
        return Held(
            proportional_bytes=self.proportional_bytes + other.proportional_bytes,
            private_bytes=self.private_bytes + other.private_bytes,
        )


def sandboxed() -> tuple[int, ...]:
    """Pids of all that is in sandboxes which this process has opened: two pid namespaces below ours."""
    own = _depth(Path("/proc/self"))
    return tuple(pid for pid in _below(os.getpid()) if _depth(Path(f"/proc/{pid}")) == own + 2)


def zygotes() -> tuple[int, ...]:
    """Pids of what sandboxes are forked from: the processes that are one pid namespace below ours."""
    own = _depth(Path("/proc/self"))
    return tuple(pid for pid in _below(os.getpid()) if _depth(Path(f"/proc/{pid}")) == own + 1)


async def settled() -> None:
    """Wait until processes in sandboxes neither come nor go: until what was killed has ended."""
    before = -1
    while before != (before := len(sandboxed())):
        await anyio.sleep(_SETTLE_S)


async def gone(*, but: int) -> None:
    """Wait until no more than `but` processes are left in sandboxes."""
    while len(sandboxed()) > but:
        await anyio.sleep(_LOOK_AGAIN_S)


def held(pids: Iterable[int]) -> Held:
    """What `pids` hold.

    Init hides its figures from an ordinary user: of such a process all that is resident counts, which is too much.
    """
    return sum((_held(pid) for pid in pids), Held())


def available_bytes() -> int:
    """What the host could still give out."""
    return _kib(Path("/proc/meminfo"), "MemAvailable")


def _held(pid: int) -> Held:
    process = Path(f"/proc/{pid}")
    try:
        rollup = process / "smaps_rollup"
        private = _kib(rollup, "Private_Clean") + _kib(rollup, "Private_Dirty")
        return Held(proportional_bytes=_kib(rollup, "Pss"), private_bytes=private)
    except PermissionError:
        anonymous = _kib(process / "status", "RssAnon")
        return Held(proportional_bytes=anonymous, private_bytes=anonymous)
    except (FileNotFoundError, ProcessLookupError):
        return Held()


def _below(root: int) -> Iterator[int]:
    """Children of `root`, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, ())


def _parent(process: Path) -> int:
    try:
        # The name before it, in parentheses, may hold anything.
        return int((process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _depth(process: Path) -> int:
    """In how many pid namespaces the process has a number; 0 once it is gone."""
    try:
        lines = (process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((len(line.split()) - 1 for line in lines if line.startswith("NSpid:")), 0)


def _kib(file: Path, name: str) -> int:
    """The value of a `name: N kB` line, in bytes; 0 where there is none."""
    lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:")), 0)
