"""Why a sandbox could not be set up on this host, in words, from the step that failed and its errno.

Pure.  Read by the supervisor for its errors and by `bichat doctor` for its table.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

#: Steps at which a host that forbids namespaces, or mounts in them, stops us, and how it says so.
_NAMESPACE_STEPS: Final = frozenset(
    {
        *("user namespace", "mount namespace", "private mounts", "root folder", "pivot", "process view", "host name"),
        *("scratch", "namespaces", "mounts"),
    }
)
_FORBIDDEN: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOSPC, errno.EUSERS})


def forbids_namespaces(step: str, error_number: int | None) -> bool:
    """Whether this host does not let us have the namespaces and mounts of the level `namespaces`."""
    return step in _NAMESPACE_STEPS and error_number in _FORBIDDEN


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is missing and what to do about it."""

    reason: str
    remedy: str


def explain(step: str, error_number: int | None, message: str) -> Explanation:
    """The explanation for `step`, as launcher, init and zygote name them."""
    for steps, errors, explanation in _TABLE:
        if step in steps and (errors is None or error_number in errors):
            return Explanation(explanation.reason.format(message=message), explanation.remedy)
    if error_number in (errno.EMFILE, errno.ENFILE):
        return Explanation("the server is out of file descriptors", "Raise ulimit -n.")
    return Explanation(f"setting up a sandbox failed at the step {step!r}: {message}", "Run `bichat doctor`.")


#: What every failure comes from where `/proc` is not there, whatever it is that fails.
WITHOUT_PROC: Final = Explanation(
    "there is no /proc, from which the kernel tells of processes and descriptors",
    "Mount it: `mount -t proc proc /proc`; a container or chroot must have one of its own.",
)
#: Added where the level `namespaces` was insisted on.
LESS_WOULD_DO: Final = "Or let BICHAT_ISOLATION be landlock, which does without."
_NOT_ALLOWED: Final = (errno.EPERM, errno.EACCES)
#: Steps, the error numbers meant (None: any), and what they say; `{message}` stands for the kernel's own words.
_TABLE: Final[tuple[tuple[tuple[str, ...], tuple[int, ...] | None, Explanation], ...]] = (
    (
        ("user namespace", "mount namespace"),
        _NOT_ALLOWED,
        Explanation(
            "this host forbids user namespaces to this process",
            "In a container, run with a seccomp profile that allows unshare and mount (Docker's default one does not). "
            "On a host, see that kernel.unprivileged_userns_clone is 1 and, on Ubuntu 24.04 and later, that "
            "kernel.apparmor_restrict_unprivileged_userns is 0 or an AppArmor profile allows userns for this Python.",
        ),
    ),
    (
        ("user namespace",),
        (errno.ENOSPC, errno.EUSERS),
        Explanation(
            "no more user namespaces may be made on this host",
            "Raise the sysctl user.max_user_namespaces (0 switches them off).",
        ),
    ),
    (
        ("root folder", "private mounts", "pivot", "process view", "scratch", "mounts"),
        _NOT_ALLOWED,
        Explanation(
            "user namespaces are there, but mounting inside them is forbidden ({message})",
            "AppArmor's restriction of unprivileged user namespaces does this (Ubuntu): set "
            "kernel.apparmor_restrict_unprivileged_userns to 0 or allow userns for this Python in a profile. A container's "
            "seccomp profile does it as well: allow mount, umount2, pivot_root and mount_setattr.",
        ),
    ),
    (
        ("host name",),
        _NOT_ALLOWED,
        Explanation(
            "namespaces and mounts are there, but naming the host inside them is forbidden ({message})",
            "A container's seccomp profile does this: allow sethostname in it, too; docs/how-to/deploy.md has the whole list.",
        ),
    ),
    (
        ("landlock",),
        None,
        Explanation(
            "the kernel has no Landlock, or it is not switched on",
            "Use Linux 5.13 or later with landlock in its list of security modules (lsm=landlock,... at boot).",
        ),
    ),
    (
        ("seccomp",),
        (errno.EBUSY,),
        Explanation(
            "refused calls cannot be explained here, for a container's manager hears of them already",
            "Run without --explain-denials, or outside of the container.",
        ),
    ),
    (
        ("seccomp",),
        None,
        Explanation(
            "the kernel refused a seccomp filter",
            "Use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64.",
        ),
    ),
    (
        ("fork", "guest"),
        (errno.EAGAIN, errno.ENOMEM),
        Explanation(
            "no process could be forked ({message})",
            "The host is out of processes or memory: see ulimit -u, the pids cgroup and free memory.",
        ),
    ),
    (
        ("environment",),
        _NOT_ALLOWED,
        Explanation(
            "guests of a server that is root are other users at the level landlock, and cannot reach the environment: "
            "{message}",
            "Let BICHAT_DATA_DIR, and the Python that environments are built from, lie where every user may pass (mode "
            "711 on each folder above), or run bichat as an ordinary user.",
        ),
    ),
    (
        ("folder", "hand over"),
        _NOT_ALLOWED,
        Explanation(
            "guests of a server that is root are other users at the level landlock, and cannot reach their folder: "
            "{message}",
            "Let TMPDIR name a folder that every user may pass through.",
        ),
    ),
    (
        ("unused uid",),
        None,
        Explanation(
            "every uid that is mapped here belongs to an account, and root's own must not run guest code",
            "Map more uids into the container, or run bichat as an ordinary user.",
        ),
    ),
)
