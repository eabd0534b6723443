"""The layers of isolation by name, so that a test can take one away and see which other one holds."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Layer(StrEnum):
    """One thing that stands between guest code and the host.  All are on, always; only tests leave one out."""

    #: The launcher is exec'd with constants as its environment, nothing of the server's.
    EMPTY_ENVIRONMENT = "empty_environment"
    #: Guest processes hold their own streams and channel, no other descriptor.
    CLOSED_DESCRIPTORS = "closed_descriptors"
    #: A root folder of our own, read-only, holding what Python needs; the host's is unmounted.
    PRIVATE_ROOT = "private_root"
    #: File systems of its own, a disk in memory among them; without it there are no namespaces at all (see `Level`).
    MOUNT_NAMESPACE = "mount_namespace"
    PID_NAMESPACE = "pid_namespace"
    IPC_NAMESPACE = "ipc_namespace"
    UTS_NAMESPACE = "uts_namespace"
    NET_NAMESPACE = "net_namespace"
    #: A user namespace of its own inside the zygote's: one uid, no power over the mounts.
    NESTED_USER_NAMESPACE = "nested_user_namespace"
    #: A session of its own (setsid): process groups cross pid namespaces.
    OWN_PROCESS_GROUP = "own_process_group"
    NO_CAPABILITIES = "no_capabilities"
    RESOURCE_LIMITS = "resource_limits"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    #: The kernel's own limit of memory and processes, where the host lets us set one.
    CONTROL_GROUP = "control_group"
    #: The supervisor's look at the whole tree's memory every 20 ms.
    WATCHDOG = "watchdog"


ALL_LAYERS = frozenset(Layer)
#: What needs user namespaces of the host.
_NAMESPACES = frozenset(
    {
        *(Layer.PRIVATE_ROOT, Layer.MOUNT_NAMESPACE, Layer.PID_NAMESPACE, Layer.IPC_NAMESPACE),
        *(Layer.UTS_NAMESPACE, Layer.NET_NAMESPACE, Layer.NESTED_USER_NAMESPACE),
    }
)


class Level(StrEnum):
    """How strong the isolation is as a whole: which layers there are."""

    NAMESPACES = "namespaces"
    #: Where the host forbids user namespaces: the guest is a process among the host's, and sees its file systems.
    #: Landlock, a stricter filter of calls and a process group take the place of the walls.
    LANDLOCK = "landlock"

    @property
    def layers(self) -> frozenset[Layer]:
        """All that this level has."""
        return ALL_LAYERS if self is Level.NAMESPACES else ALL_LAYERS - _NAMESPACES

    @staticmethod
    def of(layers: Collection[Layer]) -> Level:
        """The level at which sandboxes with these `layers` are built."""
        return Level.NAMESPACES if Layer.MOUNT_NAMESPACE in layers else Level.LANDLOCK
