"""The kernel's calls that Python does not offer, through ctypes; each raises OSError with the call's name.

Nothing here decides anything: policy stands in the modules beside it.  Standard library only, because the
launcher and the zygote run it before anything else may be imported.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWCGROUP: Final = 0x0200_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

CAP_KILL: Final = 5
CAP_SETGID: Final = 6
CAP_SETUID: Final = 7

_MNT_DETACH: Final = 2
_MADV_COLLAPSE: Final = 25
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_CAPABILITY_VERSION_3: Final = 0x2008_0522

#: Numbers of the calls made by number here: (x86_64, aarch64).  From the kernel's syscall tables.
_NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "pivot_root": (155, 41),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "close_range": (436, 436),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}.get(platform.machine())


def syscall(name: str, *args: int | bytes | ctypes._Pointer[ctypes.Structure] | None) -> int:  # pyright: ignore[reportPrivateUsage]  # ctypes has no public name for a pointer's type
    """Make the call `name` by number and return its result.

    Raises:
        OSError: the kernel refused, or the machine is neither x86_64 nor aarch64 (ENOSYS).
    """
    if _COLUMN is None:
        raise OSError(38, f"no system call table for {platform.machine()}", name)
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _checked(_libc.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *converted), name)


def _checked(result: int, call: str) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), call)
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* `flags` for fresh ones."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace that `descriptor` refers to; of a pidfd, those of that process named by the flags in `kind`."""
    _checked(_libc.setns(descriptor, kind), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Put a file system of this `kind` at `target`; flags and data are those of section 2 of the manual."""

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    _checked(
        _libc.mount(encoded(source), encoded(target), encoded(kind), ctypes.c_ulong(flags), encoded(data)),
        f"mount({source}, {target}, {kind})",
    )


def bind(source: str, target: str) -> None:
    """Show the tree at `source` at `target` too, mounts below it included."""
    mount(source, target, None, MS_BIND | MS_REC)


def set_mount_attributes(path: str, attributes: int, *, clear: int = 0, recursive: bool) -> None:
    """Set and clear MOUNT_ATTR_* flags of the mount at `path`, and of those below it if `recursive`."""
    packed = attributes.to_bytes(8, "little") + clear.to_bytes(8, "little") + bytes(16)
    syscall("mount_setattr", _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE if recursive else 0, packed, len(packed))


def detach(path: str) -> None:
    """Unmount the tree at `path` now; what still uses it keeps it until it lets go."""
    _checked(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"umount({path})")


def pivot_root(root: str, old: str) -> None:
    """Make `root` the root of this mount namespace and put the old one at `old`."""
    syscall("pivot_root", os.fsencode(root), os.fsencode(old))


def prctl(option: int, argument: int = 0) -> int:
    """Set an attribute of this process, one of PR_*, with at most one argument."""
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), f"prctl({option})")


def collapse_into_huge_page(address: int, size: int) -> bool:
    """Whether the kernel has made one huge page of this process's memory there (madvise(2), MADV_COLLAPSE)."""
    return _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_COLLAPSE) == 0


def die_with_parent(signal_number: int = 9) -> None:
    """Have the kernel send a signal, SIGKILL by default, to this process when the thread that forked it ends.

    A change of user undoes that.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)


def forbid_new_privileges() -> None:
    """From now on no exec of this process or its children gains privileges; cannot be undone."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def adopt_orphans() -> None:
    """From now on be the parent of every process below this one whose own parent ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def drop_capabilities() -> None:
    """Give up every capability: ambient, bounding (where this process may), inheritable, permitted and effective."""
    empty_bounding_set()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    keep_capabilities(())


def empty_bounding_set() -> None:
    """Have no program that this process or a child executes gain a capability."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # EINVAL: past the last capability that this kernel knows; EPERM: without CAP_SETPCAP


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up every capability but those `kept`, which this process must have: they stay permitted and in effect.

    Raises:
        OSError: it has not (EPERM).
    """
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    bits = sum(1 << capability for capability in kept).to_bytes(4, "little")
    syscall("capset", header, bits + bits + bytes(16))


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor of this process that is not in `kept`."""
    lowest = 0
    for descriptor in (*sorted(kept), 0x7FFF_FFFF):
        if lowest < descriptor:
            syscall("close_range", lowest, descriptor - 1, 0)
        lowest = descriptor + 1


def set_hostname(name: str) -> None:
    """Name of the host as this UTS namespace shows it."""
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, ctypes.c_size_t(len(encoded))), "sethostname")
