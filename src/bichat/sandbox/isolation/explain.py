"""Why a sandbox could not be set up on this host, in words, from the step that failed and its errno.

Pure.  Read by the supervisor for its errors and by `bichat doctor` for its table.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is missing and what to do about it."""

    reason: str
    remedy: str


def explain(step: str, error_number: int | None, message: str) -> Explanation:  # noqa: PLR0911  # a table in words
    """The explanation for `step`, as launcher and zygote name them."""
    if step in ("user namespace", "mount namespace") and error_number in (errno.EPERM, errno.EACCES):
        return Explanation(
            "this host forbids user namespaces to this process",
            "In a container, run with a seccomp profile that allows unshare and mount (Docker's default one does not). "
            "On a host, see that kernel.unprivileged_userns_clone is 1 and, on Ubuntu 24.04 and later, that "
            "kernel.apparmor_restrict_unprivileged_userns is 0 or an AppArmor profile allows userns for this Python.",
        )
    if step == "user namespace" and error_number in (errno.ENOSPC, errno.EUSERS):
        return Explanation(
            "no more user namespaces may be made on this host",
            "Raise the sysctl user.max_user_namespaces (0 switches them off).",
        )
    if step in ("root folder", "private mounts", "pivot", "process view", "scratch") and error_number in (
        errno.EPERM,
        errno.EACCES,
    ):
        return Explanation(
            f"user namespaces are there, but mounting inside them is forbidden ({message})",
            "AppArmor's restriction of unprivileged user namespaces does this (Ubuntu): set "
            "kernel.apparmor_restrict_unprivileged_userns to 0 or allow userns for this Python in a profile.",
        )
    if step == "landlock":
        return Explanation(
            "the kernel has no Landlock, or it is not switched on",
            "Use Linux 5.13 or later with landlock in its list of security modules (lsm=landlock,... at boot).",
        )
    if step == "seccomp" and error_number == errno.EBUSY:
        return Explanation(
            "refused calls cannot be explained here, for a container's manager hears of them already",
            "Run without --explain-denials, or outside of the container.",
        )
    if step == "seccomp":
        return Explanation(
            "the kernel refused a seccomp filter",
            "Use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64.",
        )
    if step in ("fork", "guest") and error_number in (errno.EAGAIN, errno.ENOMEM):
        return Explanation(
            f"no process could be forked ({message})",
            "The host is out of processes or memory: see ulimit -u, the pids cgroup and free memory.",
        )
    if step == "unused uid":
        return Explanation(
            "every uid that is mapped here belongs to an account, and root's own must not run guest code",
            "Map more uids into the container, or run bichat as an ordinary user.",
        )
    if error_number == errno.EMFILE:
        return Explanation("the server is out of file descriptors", "Raise ulimit -n.")
    return Explanation(f"setting up a sandbox failed at the step {step!r}: {message}", "Run `bichat doctor`.")
