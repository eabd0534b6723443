"""One attack: what it tries, what must come of it, and how it is told which layer stopped it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bichat.domain import Limits, Status
from bichat.sandbox.isolation.layers import Layer
from bichat.sizes import MIB

if TYPE_CHECKING:
    from bichat.attacks.ground import Ground

#: What attacks are made with: small, so that a bomb that goes off hurts nobody.
SMALL: Final = Limits(
    timeout_s=5.0,
    memory_bytes=192 * MIB,
    disk_bytes=48 * MIB,
    inodes=1_000,
    pids=40,
    output_kill_bytes=8 * MIB,
    artifact_bytes=32 * MIB,
    grace_s=0.2,
)


class Family(StrEnum):
    """What an attack is aimed at."""

    FILES = "files"
    PROC_AND_SYS = "proc and sys"
    NETWORK = "network"
    PROCESSES = "processes"
    KERNEL = "kernel"
    PRIVILEGES = "privileges"
    RESOURCES = "resources"
    OUTPUT = "output"
    ARTIFACTS = "artifacts"
    PERSISTENCE = "persistence"
    TIMING = "timing"


class Outcome(StrEnum):
    """What became of an attack."""

    HELD = "held"
    GOT_THROUGH = "got through"
    #: The host lacks what it is about, or the attack itself broke; `Statement.what` says which.
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing that was seen, by the guest of itself or by the host of its canaries."""

    outcome: Outcome
    what: str
    sign: str = ""
    """How it showed that it held: an errno's name, a signal's, a status, an exception's name."""
    call: tuple[str, tuple[int, ...]] | None = None
    """The kernel's call that was refused so, with its arguments, pointers as 0."""


Signs = Mapping[str, tuple[Layer | str, ...]]
"""By sign, what may have given it: a layer counts where it is on, words (what is no layer) always."""

#: What an errno says of a path: how it is not there, or not ours.
PATH_SIGNS: Final[Signs] = {
    "ENOENT": (Layer.PRIVATE_ROOT,),
    "ENOTDIR": (Layer.PRIVATE_ROOT,),
    "EROFS": (Layer.PRIVATE_ROOT,),
    "EXDEV": (Layer.PRIVATE_ROOT, Layer.LANDLOCK),
    "EACCES": (Layer.LANDLOCK, "file modes"),
    "EPERM": (Layer.SECCOMP, Layer.NO_CAPABILITIES, "file modes"),
}
#: What says that a process is not there, or not ours.
PROCESS_SIGNS: Final[Signs] = {
    "ESRCH": (Layer.PID_NAMESPACE,),
    "ENOENT": (Layer.PID_NAMESPACE, Layer.PRIVATE_ROOT),
    "EACCES": (Layer.LANDLOCK, "file modes"),
    "EPERM": (Layer.LANDLOCK, Layer.SECCOMP, "another user"),
}
#: What every attack's ending may say.
_ENDINGS: Final[Signs] = {
    "SIGSYS": (Layer.SECCOMP,),
    "MemoryError": (Layer.RESOURCE_LIMITS,),
    "MemoryLimit": (Layer.WATCHDOG, Layer.CONTROL_GROUP),
    "ENOSPC": (Layer.MOUNT_NAMESPACE, "the watch on the disk"),
    "EMFILE": (Layer.RESOURCE_LIMITS,),
    "EFBIG": (Layer.RESOURCE_LIMITS,),
    "EAGAIN": (Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP),
    Status.KILLED.value: ("the watch on processes",),
    Status.TIMEOUT.value: ("wall clock",),
    Status.OUTPUT_LIMIT.value: ("bounded reader of output",),
    Status.DISK_FULL.value: (Layer.MOUNT_NAMESPACE, "the watch on the disk"),
    Status.OUT_OF_MEMORY.value: (Layer.WATCHDOG, Layer.CONTROL_GROUP),
    "ProtocolError": ("bounded reader of frames",),
    "collector": ("collector of files",),
    "supervisor": ("supervisor",),
    "teardown": ("tear-down",),
    "fresh sandbox": ("a fresh sandbox for each session",),
    "names": ("safe names",),
}

Driver = Callable[["Ground", "Attack"], Awaitable[list[Statement]]]
"""The host's side of an attack that takes more than one run: returns what was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One of the suite.  Held means: every statement of it held, and no canary was read, reached, changed or killed."""

    name: str
    """In kebab-case, unique."""
    family: Family
    tries: str
    """In words: what an attacker hopes for."""
    expected: str
    """In words, an outcome that holds at every level."""
    code: str = ""
    """The guest's, after `prelude.py`; run in a fresh sandbox of its own unless there is a driver."""
    driver: Driver | None = None
    layers: tuple[Layer, ...] = ()
    """Those that are meant to stop it, the first one first."""
    signs: Signs = field(default_factory=dict[str, tuple[Layer | str, ...]])
    first_counts: bool = False
    """Whether of the layers by a sign the first one that is on gave it: the kernel asks them in that order."""
    ends: frozenset[str] = frozenset()
    """Endings that mean that it held: a status, an error's name, a signal's name."""
    limits: Limits = SMALL

    def stopped_by(self, sign: str, layers: frozenset[Layer]) -> tuple[str, ...]:
        """What may have given the sign where these layers are on; empty when that is not known."""
        known = self.signs.get(sign, _ENDINGS.get(sign, ()))
        found = tuple(str(each) for each in known if not isinstance(each, Layer) or each in layers)
        return found[:1] if self.first_counts else found


def through(what: str) -> Statement:
    """It got through."""
    return Statement(outcome=Outcome.GOT_THROUGH, what=what)


def held(sign: str, what: str) -> Statement:
    """It held, as `sign` shows."""
    return Statement(outcome=Outcome.HELD, sign=sign, what=what)


def expect(is_held: bool, sign: str, what: str) -> Statement:  # noqa: FBT001  # what it judges
    """Held if so, else got through; `what` says what was looked at."""
    return held(sign, what) if is_held else through(f"not so: {what}")
