"""Control groups: the kernel's own count of what a sandbox holds, for hosts that let us make them.

A group bounds memory exactly, the kernel's own included (page tables, pipes, file locks), and processes.  It is charged
for the sandbox's disk too, which is memory: its limit is the sum of both, and below that the watchdog holds `memory`
alone.  Version 2 where memory and pids are delegated to us (systemd: `Delegate=yes`) or we are root in a container of
our own; version 1 as root.  cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

Groups are used again: one that is removed lives on in the kernel as long as a cached page is charged to it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN: Final = Path("/proc/self/cgroup")
_PREFIX: Final = "bichat-"
#: `bichat-<pid of the server>-<its start, in clock ticks>-<where that is its pid>-<random>`.
_NAME: Final = re.compile(rf"{_PREFIX}(\d+)-(\d+)-(\d+)-[0-9a-f]+")
#: How the kernel writes spaces in a list of mounts.
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
#: Into which the server's own processes go: with version 2 a group that has children with limits may have no process.
_SERVER: Final = "bichat-server"


class ControlGroup:
    """One sandbox's, in one hierarchy or two."""

    def __init__(self, folders: Sequence[Path], files: _Files) -> None:
        self._folders = tuple(folders)
        self._files = files
        self._kills_before = 0

    def limit(self, memory_bytes: int, pids: int) -> None:
        """Before its first process: hold it to so much memory, disk included, and so many processes and threads.

        Raises:
            OSError: the kernel refused.
        """
        self._files.limit(self._folders, memory_bytes, pids)
        self._kills_before = self._kills()

    def entrances(self) -> list[int]:
        """Descriptors by which a process of one thread goes in itself, by writing `0`; those that it starts are in it, too.

        They are the caller's to close.  Version 1 moves such a one at once, and takes some ten milliseconds for one that
        is moved by another.

        Raises:
            OSError: the group is gone, or there is no descriptor to be had.
        """
        with contextlib.ExitStack() as undo:
            opened = [_opened(folder / self._files.entrance, undo) for folder in self._folders]
            undo.pop_all()
        return opened

    @property
    def was_exceeded(self) -> bool:
        """Whether the kernel has killed one of its processes for memory.

        Raises:
            OSError: the group is gone.
        """
        return self._kills() > self._kills_before

    @property
    def is_empty(self) -> bool:
        """Whether it has no process."""
        return not any(_read(folder / "cgroup.procs").split() for folder in self._folders)

    def remove(self) -> None:
        """Kill what is in it, and let the kernel forget it; what cannot be removed now is left to `ControlGroups.sweep`."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                for pid in _read(folder / "cgroup.procs").split():
                    os.kill(int(pid), signal.SIGKILL)
        for folder in self._folders:
            with contextlib.suppress(OSError):
                self._files.empty(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _kills(self) -> int:
        return self._files.kills(self._folders)


class ControlGroups:
    """Those of one supervisor.  Methods may be called from any thread, one at a time."""

    def __init__(self, parents: Sequence[Path], files: _Files, kind: str) -> None:
        self.kind = kind
        """`v1` or `v2`."""
        self._parents = tuple(parents)
        self._files = files
        self._pid_namespace = os.stat("/proc/self/ns/pid").st_ino
        self._prefix = f"{_PREFIX}{os.getpid()}-{_started(os.getpid())}-{self._pid_namespace}-"
        self._free: list[ControlGroup] = []
        self._all: list[ControlGroup] = []

    @staticmethod
    def find() -> ControlGroups | None:
        """Those that this host lets us make, found by making one; None where there are none to be had."""
        for kind, look in (("v2", _version_2), ("v1", _version_1)):
            with contextlib.suppress(OSError, ValueError):
                parents, files = look()
                groups = ControlGroups(parents, files, kind)
                groups.sweep()
                groups.give_back(groups.take(1 << 30, 64))
                return groups
        return None

    def take(self, memory_bytes: int, pids: int) -> ControlGroup:
        """An empty group with these limits.

        Raises:
            OSError: the kernel refused.
        """
        group = self._unused() or self._made()
        group.limit(memory_bytes, pids)
        return group

    def give_back(self, group: ControlGroup) -> None:
        """Its sandbox has gone."""
        self._free.append(group)

    def close(self) -> None:
        """Remove all of them."""
        for group in self._all:
            group.remove()
        self._all.clear()
        self._free.clear()

    def sweep(self) -> None:
        """Remove those that servers which are gone have left behind; those of other pid namespaces cannot be known."""
        for parent in self._parents:
            for folder in parent.glob(f"{_PREFIX}*"):
                found = _NAME.fullmatch(folder.name)
                if found is None or int(found[3]) != self._pid_namespace:
                    continue
                if _started(int(found[1])) != int(found[2]):
                    ControlGroup([folder], self._files).remove()

    def _unused(self) -> ControlGroup | None:
        for group in tuple(self._free):
            try:
                is_empty = group.is_empty
            except FileNotFoundError:  # somebody on the host has removed it
                self._free.remove(group)
                self._all.remove(group)
                continue
            if is_empty:
                self._free.remove(group)
                return group
        return None

    def _made(self) -> ControlGroup:
        name = self._prefix + secrets.token_hex(6)
        group = ControlGroup([parent / name for parent in self._parents], self._files)
        self._all.append(group)
        for parent in self._parents:
            (parent / name).mkdir()
        return group


class _Files(Protocol):
    """What a version of control groups calls its files."""

    entrance: str
    """Takes the number of what is to go in; 0 for whoever writes."""

    def limit(self, folders: Sequence[Path], memory_bytes: int, pids: int) -> None:
        """Set both limits."""
        ...

    def kills(self, folders: Sequence[Path]) -> int:
        """How many processes were ever killed for memory."""
        ...

    def empty(self, folder: Path) -> None:
        """Let go of cached pages."""
        ...


class _Version2:
    entrance = "cgroup.procs"

    def limit(self, folders: Sequence[Path], memory_bytes: int, pids: int) -> None:
        (folder,) = folders
        _write(folder / "memory.max", memory_bytes)
        _write(folder / "memory.oom.group", 1)
        if (folder / "memory.swap.max").exists():
            _write(folder / "memory.swap.max", 0)
        _write(folder / "pids.max", pids)

    def kills(self, folders: Sequence[Path]) -> int:
        (folder,) = folders
        return _field(folder / "memory.events", "oom_kill")

    def empty(self, folder: Path) -> None:
        """Nothing is to be done: cached pages go to the parent."""


class _Version1:
    """Folders: of the hierarchy `memory`, and of `pids`."""

    entrance = "tasks"

    def limit(self, folders: Sequence[Path], memory_bytes: int, pids: int) -> None:
        memory, processes = folders
        both = memory / "memory.memsw.limit_in_bytes"  # memory and swap; not on every kernel
        limit = memory / "memory.limit_in_bytes"
        names = [limit, both] if both.exists() else [limit]
        if both.exists() and memory_bytes > int(_read(both)):
            names.reverse()  # neither may pass the other
        for name in names:
            _write(name, memory_bytes)
        _write(processes / "pids.max", pids)

    def kills(self, folders: Sequence[Path]) -> int:
        return _field(folders[0] / "memory.oom_control", "oom_kill")

    def empty(self, folder: Path) -> None:
        if (folder / "memory.force_empty").exists():
            _write(folder / "memory.force_empty", 0)


def _version_2() -> tuple[list[Path], _Files]:
    mounts = _mounts("cgroup2", "")
    parent = mounts / _own_path("").lstrip("/")
    wanted = {"memory", "pids"}
    if not wanted <= set(_read(parent / "cgroup.controllers").split()):
        raise OSError("memory and pids are not ours to limit")
    if not wanted <= set(_read(parent / "cgroup.subtree_control").split()):
        _make_way(parent)
        _write(parent / "cgroup.subtree_control", "+memory +pids")
    return [parent], _Version2()


def _make_way(parent: Path) -> None:
    """Move our own processes a level down, where nobody else's are among them: a delegated group is the server's alone."""
    pids = [int(pid) for pid in _read(parent / "cgroup.procs").split()]
    if parent == _mounts("cgroup2", "") or any(os.getsid(pid) != os.getsid(0) for pid in pids):
        raise OSError("the group is shared with other processes")
    server = parent / _SERVER
    server.mkdir(exist_ok=True)
    for pid in pids:
        _write(server / "cgroup.procs", pid)


def _version_1() -> tuple[list[Path], _Files]:
    parents = [_mounts("cgroup", kind) / _own_path(kind).lstrip("/") for kind in ("memory", "pids")]
    return parents, _Version1()


def _mounts(file_system: str, option: str) -> Path:
    """Where the hierarchy is mounted whose super options have `option`."""
    for line in _read(_MOUNTS).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()[:3]
        if kind == file_system and (not option or option in options.split(",")):
            return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), before.split()[4]))
    raise OSError(f"no {file_system} with {option!r} is mounted")


def _own_path(controller: str) -> str:
    """Our own group in the hierarchy of `controller`; the empty name is version 2's."""
    for line in _read(_OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.removesuffix(f"/{_SERVER}")
    raise OSError(f"this process is in no group of {controller!r}")


def _started(pid: int) -> int:
    """When a process began, in clock ticks since boot; -1 where there is none."""
    try:
        return int(_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[19])
    except OSError:
        return -1


def _field(path: Path, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise OSError(f"{path} has no field {name}")


def _opened(path: Path, undo: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    undo.callback(os.close, descriptor)
    return descriptor


def _read(path: Path) -> str:
    # Names of processes and folders stand in these files, and need be no text.
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _write(path: Path, value: int | str) -> None:
    path.write_text(str(value), encoding="ascii")
