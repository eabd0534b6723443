"""The root folder of a zygote and of its sandboxes: what it holds (a pure plan) and how it is built.

It holds what Python and a shell need, all of it read-only: the system's programs and libraries, the base Python
and the environment at their own paths (`bin/python` is an absolute link, and byte code names its source), and an
`/etc` of our own with no account in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from bichat.sandbox.isolation import kernel

DATA_FOLDER: Final = "/mnt/data"
TEMPORARY_FOLDER: Final = "/tmp"  # noqa: S108  # the guest's own, inside its mount namespace
SHARED_MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108
#: Where the new root is put together, inside the launcher's own mount namespace: a folder every Linux has and
#: nothing we bind can lie below.
STAGING: Final = "/sys"
_OLD_ROOT: Final = "/.old"

_SYSTEM_FOLDERS: Final = ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32")
_MERGED_FOLDERS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SHARED_FILES: Final = (
    "/usr/share/zoneinfo",
    "/usr/share/fonts",
    "/usr/share/fontconfig",
    "/usr/share/locale",
    "/usr/share/terminfo",
    "/usr/share/misc",
    "/usr/share/file",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
)
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
#: `/dev/full` gives zeros too when it is read, and unlike the real `/dev/zero` it cannot be mapped: pages of such a
#: mapping, shared, are counted by no limit and shown by nothing.
_STAND_INS: Final = {"/dev/zero": "/dev/full"}
#: What libraries look up about their own process.
_OWN_FIGURES: Final = (
    *("cgroup", "cmdline", "comm", "environ", "fd", "fdinfo", "io", "limits", "maps", "oom_score", "oom_score_adj"),
    *("smaps", "smaps_rollup", "stat", "statm", "status"),
)
_LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_FILES: Final = {
    "/etc/passwd": "user:x:1000:1000:user:/tmp:/bin/sh\n",
    "/etc/group": "user:x:1000:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_FOLDERS: Final = ("/mnt/data", "/tmp", "/proc", "/dev/shm", _OLD_ROOT)  # noqa: S108


@dataclass(frozen=True, slots=True)
class RootPlan:
    """What a root folder consists of.  Paths are absolute, as the guest sees them."""

    binds: tuple[str, ...]
    """Host paths shown at the same path, read-only; those that do not exist are left out."""
    links: dict[str, str]
    """Symbolic links by path."""
    devices: tuple[str, ...] = tuple(f"/dev/{name}" for name in _DEVICES)

    @property
    def readable(self) -> tuple[str, ...]:
        """What Landlock lets the guest read and execute."""
        return (*self.binds, *self.links, "/etc", "/proc", *self.devices)

    @property
    def readable_on_host(self) -> tuple[str, ...]:
        """The same for a guest that sees the host's file systems: no accounts, and of `/proc` its own figures alone.

        `/proc/self/net`, `mountinfo` and `task`, in which both are again, would tell of the host.
        """
        devices = (path for path in self.devices if path not in _STAND_INS)
        return (*self.binds, *devices, *(f"/proc/self/{name}" for name in _OWN_FIGURES))


def plan_root(prefixes: tuple[str, ...]) -> RootPlan:
    """The root for an environment whose files lie below `prefixes` (the environment's own folder, base Python's prefix).

    A prefix that the system folders hold already adds nothing; `/usr` and `/usr/local`, which hold more than Python,
    add their `bin` and `lib` only.
    """
    links = {path: os.readlink(path) for path in _MERGED_FOLDERS if os.path.islink(path)}
    binds = [path for path in _MERGED_FOLDERS if path not in links]
    binds += _SYSTEM_FOLDERS
    for prefix in prefixes:
        if prefix in ("/usr", "/usr/local"):
            binds += [f"{prefix}/bin", f"{prefix}/lib"]
        else:
            binds.append(prefix)
        if prefix.startswith("/nix/store/"):
            binds.append("/nix/store")
    binds += _SHARED_FILES
    unique = [path for path in dict.fromkeys(binds) if os.path.exists(path)]
    return RootPlan(binds=tuple(path for path in unique if not _is_below_another(path, unique)), links=links)


def _is_below_another(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other}/") for other in others)


def build_root(plan: RootPlan) -> None:
    """Put the plan together at `STAGING`.  Needs a mount namespace of our own and the power to mount in it."""
    kernel.mount("tmpfs", STAGING, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,nr_inodes=4k,mode=755")
    for path in plan.binds:
        _show(path)
        attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
        kernel.set_mount_attributes(STAGING + path, attributes, recursive=True)
    for path, target in (*plan.links.items(), *_LINKS.items()):
        os.makedirs(os.path.dirname(STAGING + path), exist_ok=True)
        os.symlink(target, STAGING + path)
    for path, text in _FILES.items():
        os.makedirs(os.path.dirname(STAGING + path), exist_ok=True)
        with open(STAGING + path, "w", encoding="utf-8") as file:
            file.write(text)
    for path in plan.devices:
        _show(path, _STAND_INS.get(path, path))
        attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
        kernel.set_mount_attributes(STAGING + path, attributes, recursive=False)
    for path in _FOLDERS:
        os.makedirs(STAGING + path, exist_ok=True)


def _show(path: str, source: str | None = None) -> None:
    target = STAGING + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8"):
            pass
    kernel.bind(source or path, target)


def enter_root() -> None:
    """Make `STAGING` the root, read-only; the old one is at hand until `leave_old_root`, with its `/proc` on ours.

    A fresh procfs may only be mounted where a whole one is in view already: hence the bind.
    """
    os.chdir(STAGING)
    kernel.pivot_root(".", f".{_OLD_ROOT}")
    os.chdir("/")
    kernel.bind(f"{_OLD_ROOT}/proc", "/proc")
    attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    kernel.set_mount_attributes("/", attributes, recursive=False)


def leave_old_root() -> None:
    """Let go of the host's root for good.

    The real root user must do this *before* entering a user namespace: afterwards the old root is a locked mount.
    """
    kernel.detach(_OLD_ROOT)


def use_host_root() -> None:
    """For tests that switch the private root off: keep the host's, with an empty `/mnt` to hang `/mnt/data` in."""
    kernel.mount("tmpfs", "/mnt", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.mkdir(DATA_FOLDER)


def mount_process_view(options: str | None = None) -> None:
    """A procfs of this pid namespace on `/proc`; where the host forbids it, an empty folder.

    A host that masks parts of its own `/proc` (containers do) refuses a new one with EPERM; the libraries that
    were tried (numpy, pandas, scikit-learn, multiprocessing) run without.
    """
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    try:
        kernel.mount("proc", "/proc", "proc", flags, options)
    except PermissionError:
        kernel.mount("tmpfs", "/proc", "tmpfs", flags | kernel.MS_RDONLY, "size=4k")


def mount_scratch(size_bytes: int, inodes: int, prefixes: tuple[str, ...]) -> None:
    """One memory-backed disk, shown as `/mnt/data`, `/tmp` and `/dev/shm`, so that one cap covers all three.

    Their common root is hidden below `/mnt/data`; a hard link between them is EXDEV, for they are mounts apart.
    Those `prefixes` (see `plan_root`) that the new `/tmp` or `/dev/shm` would hide are shown in them again.
    """
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    options = f"size={size_bytes},nr_inodes={inodes + 16},mode=755"
    kernel.mount("tmpfs", DATA_FOLDER, "tmpfs", flags, options)
    for name, shown_at, mode in (
        ("tmp", TEMPORARY_FOLDER, 0o1777),
        ("shm", SHARED_MEMORY_FOLDER, 0o1777),
        ("data", DATA_FOLDER, 0o755),
    ):
        folder = f"{DATA_FOLDER}/{name}"
        os.mkdir(folder)
        os.chmod(folder, mode)
        for prefix in prefixes:
            if prefix.startswith(f"{shown_at}/"):
                again = folder + prefix.removeprefix(shown_at)
                os.makedirs(again)
                kernel.bind(prefix, again)
        kernel.bind(folder, shown_at)
