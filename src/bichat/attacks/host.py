"""What the suite must leave as it was: processes, mounts, control groups and files that could be ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from bichat.attacks.attack import Attack, Family, Statement, expect

#: What the kernel still has to do for killed processes takes some hundred milliseconds.
_PATIENCE_S: Final = 5.0
_REMOVE: Final = 0  # IPC_RMID

HOST_LEFT_AS_IT_WAS: Final = Attack(
    name="host-left-as-it-was",
    family=Family.TIMING,
    tries="to leave a process, a mount, a control group or a file behind, by all the attacks together",
    expected="after the suite there is nothing of it on the host",
    signs={"nothing left": ("tear-down",)},
)


@dataclass(frozen=True, slots=True)
class Host:
    """What there was at one moment."""

    processes: frozenset[int]
    """Below this one."""
    mounts: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]
    segments: frozenset[str]
    """Of System V shared memory, made by this process, one below it, or one that has gone; queues and semaphores by key."""

    @staticmethod
    def seen() -> Host:
        """What there is now."""
        return Host(
            processes=frozenset(family(os.getpid())),
            mounts=frozenset(_lines("/proc/self/mountinfo")),
            groups=frozenset(map(str, Path("/sys/fs/cgroup").rglob(f"bichat-{os.getpid()}-*"))),
            files=frozenset(_files()),
            segments=frozenset(_segments()),
        )

    async def compared(self) -> list[Statement]:
        """One statement for each kind: whether there is no more of it now."""
        with anyio.move_on_after(_PATIENCE_S):
            while Host.seen().processes - self.processes:  # noqa: ASYNC110  # nobody tells of another's children
                await anyio.sleep(0.02)
        now = Host.seen()
        kinds = {
            "processes": now.processes - self.processes,
            "mounts": frozenset(line for line in now.mounts - self.mounts if "bichat" in line),
            "control groups": now.groups - self.groups,
            "files": now.files - self.files,
            "shared memory, queues and semaphores": now.segments - self.segments,
        }
        return [
            expect(not left, "nothing left", f"{kind} left behind: {sorted(left)[:3] if left else 'none'}")  # pyright: ignore[reportArgumentType]
            for kind, left in kinds.items()
        ]

    def sweep(self) -> None:
        """Remove what attacks have planted since, by its names and numbers: what was left behind has been told of."""
        for path in set(_files()) - self.files:
            if os.path.basename(path).startswith(planted_name()):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        libc = ctypes.CDLL(None)
        for kind, _, number in _planted_objects():
            arguments = (number, 0, _REMOVE, 0) if kind == "sem" else (number, _REMOVE, 0)
            getattr(libc, f"{kind}ctl")(*arguments)
        libc.mq_unlink(f"/{planted_name()}".encode())


def planted_name() -> str:
    """How the names begin of all that attacks plant outside of folders of the suite's own."""
    return f"bichat-planted-{os.getpid()}"


def planted_key() -> int:
    """The number of System V objects that attacks make, and the next one."""
    return 0x6200_0000 | os.getpid() << 1


def family(root: int) -> list[int]:
    """The living processes below this one, by what the kernel says of each one's children."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_bytes().split())
    return [pid for pid in found[1:] if not _is_dead(pid)]


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    except OSError:
        return []


def _segments() -> list[str]:
    """Number and key of each; others on the host use theirs meanwhile, and make some."""
    own = {os.getpid(), *family(os.getpid())}
    rows = [line.split() for line in _lines("/proc/sysvipc/shm")[1:]]
    made = [f"{key} {number}" for key, number, _, _, maker, *_ in rows if int(maker) in own or _is_dead(int(maker))]
    return made + [f"{kind} {key} {number}" for kind, key, number in _planted_objects() if kind != "shm"]


def _planted_objects() -> list[tuple[str, int, int]]:
    """Kind, key and number of each System V object by a key of ours; the numbers hold in this namespace alone."""
    keys = {planted_key(), planted_key() + 1}
    rows = [(kind, line.split()) for kind in ("shm", "msg", "sem") for line in _lines(f"/proc/sysvipc/{kind}")[1:]]
    return [(kind, int(row[0]), int(row[1])) for kind, row in rows if int(row[0]) in keys]


def _files() -> list[str]:
    """Those that attacks and sandboxes name, where everybody may write."""
    places = {"/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", tempfile.gettempdir()}  # noqa: S108  # looked at, not written to
    own = (f"{planted_name()}*", f"bichat-attack-{os.getpid()}-*", f"bichat-rooms-{os.getpid()}-*")
    return [str(path) for place in places for pattern in own for path in Path(place).glob(pattern)]
