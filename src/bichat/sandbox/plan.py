"""What the supervisor asks of a launcher and of a zygote: values that travel as control messages.

Standard library only: both ends import it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from bichat.sandbox.isolation.layers import Layer

#: Folders of a room on the host: what the code's own folder is called, and where its temporary files go.
DATA: Final = "data"
TEMPORARY: Final = "tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """What the supervisor asks of a launcher: the first control message on its socket."""

    prefixes: tuple[str, ...]
    """Folders that hold the environment and its base Python."""
    preload: tuple[str, ...]
    """Modules that the zygote imports before its first fork."""
    layers: tuple[Layer, ...]
    scratch: str = ""
    """The zygote's own folder on the host; empty where it has a file system of its own."""

    @staticmethod
    def from_message(message: dict[str, Any]) -> LaunchPlan:
        """The plan that `to_message` wrote."""
        return LaunchPlan(
            prefixes=tuple(message["prefixes"]),
            preload=tuple(message["preload"]),
            layers=tuple(Layer(name) for name in message["layers"]),
            scratch=message["scratch"],
        )

    def to_message(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"prefixes": self.prefixes, "preload": self.preload, "layers": self.layers, "scratch": self.scratch}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPlan:
    """What the supervisor asks of the zygote for one sandbox; its descriptors travel beside it: init's socket, the guest's channel, stdout, stderr."""

    memory_bytes: int
    disk_bytes: int
    inodes: int
    pids: int
    cpus: tuple[int, ...]
    """Numbers of the processors that the sandbox is bound to."""
    niceness: int
    """Added to the priority number: above zero, a busy guest gives way to the server."""
    warm_up: bool
    """Whether the guest takes the slow first steps of its libraries before it says that it is ready."""
    explain_denials: bool = False
    """Whether the supervisor hears of each call that the filter refuses to the guest, and answers it."""

    room: str = ""
    """The folder on the host that the sandbox may write in: `DATA` in it is the code's, `TEMPORARY` for temporary files.

    Empty where it has file systems of its own.
    """
    user: int | None = None
    """Number of the user and group on the host that its processes become; None where they stay what they are."""

    def to_message(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @staticmethod
    def from_message(message: dict[str, Any]) -> SandboxPlan:
        """The plan that `to_message` wrote."""
        message["cpus"] = tuple(message["cpus"])
        return SandboxPlan(**message)
