"""Going through a folder that somebody else may change at any moment, by descriptors alone.

A name is pinned (`O_PATH`, symlinks not followed), its kind is read from the pin, and the pin itself is opened.  A
pinned inode cannot change its kind, so nothing but regular files and folders is ever opened: no FIFO that would
block, no device, no link that leads out.  Entries and depth are bounded.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bichat.errors import StorageError
from bichat.sandbox.descriptors import OUT_OF_DESCRIPTORS

MAX_DEPTH = 32
"""Folders inside one another; a deeper one is refused."""

_SKIPPED_FOLDERS = frozenset({"__pycache__"})


class FileState(NamedTuple):
    """What tells that a file was written to.  The guest can forge all but `changed_ns`."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """The state in a stat result.

        Without a time of change for what is locked: `readable` gives it another one whenever it is read.
        """
        changed_ns = 0 if _is_locked(status) else status.st_ctime_ns
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, changed_ns)


UNSEEN = FileState(-1, -1, -1, -1, -1)
"""Of what could not even be looked at: it may have changed."""


class RefusedError(Exception):
    """The reason why a file is not taken."""


class Entry(NamedTuple):
    """Something in a folder that is no folder to go into."""

    folder: int
    """Descriptor of the folder it is in: open until the walk goes on."""
    name: str
    path: bytes
    state: FileState
    reason: str
    """Why it cannot be taken, or empty for what looks like a regular file."""


class Walk:
    """One pass over a tree: files of a folder by name, then its subfolders by name; bounded in entries and depth."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.stopped_at: bytes | None = None
        """The folder in which the budget was used up."""
        self._left = self.budget

    def entries(self, dirfd: int) -> Generator[Entry]:
        """What is below `dirfd`, which stays as it is: its read position is not touched."""
        try:
            with readable(dirfd, os.O_DIRECTORY) as root:
                yield from self._below(root, b"", 0)
        except PermissionError as exc:
            # Locked by the guest in the moment between our unlocking and opening it: its own files are the loss.
            yield Entry(dirfd, ".", b".", UNSEEN, in_words(exc))
        except OSError as exc:
            remedy = "Raise ulimit -n." if exc.errno in OUT_OF_DESCRIPTORS else ""
            raise StorageError(
                f"cannot read the sandbox's /mnt/data: {in_words(exc)}", stage="capture", remedy=remedy
            ) from exc

    def _below(self, folder: int, prefix: bytes, depth: int) -> Generator[Entry]:
        entries, subfolders = self._listed(folder, prefix)
        yield from entries
        for entry in subfolders:
            if depth >= MAX_DEPTH:
                yield entry._replace(reason=f"nested more than {MAX_DEPTH} folders deep")
                continue
            try:
                with pinned(folder, entry.name, stat.S_IFDIR) as pin, readable(pin, os.O_DIRECTORY) as inner:
                    yield from self._below(inner, entry.path + b"/", depth + 1)
            except FileNotFoundError:
                continue
            except RefusedError as exc:
                yield entry._replace(reason=str(exc))
            except OSError as exc:
                yield entry._replace(reason=in_words(exc))

    def _listed(self, folder: int, prefix: bytes) -> tuple[list[Entry], list[Entry]]:
        entries: list[Entry] = []
        subfolders: list[Entry] = []
        with os.scandir(folder) as listing:
            for found in listing:
                if self._left <= 0:
                    self.stopped_at = prefix.rstrip(b"/") or b"."
                    break
                self._left -= 1
                path = prefix + os.fsencode(found.name)
                try:
                    status = found.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    entries.append(Entry(folder, found.name, path, UNSEEN, in_words(exc)))
                    continue
                is_folder = stat.S_ISDIR(status.st_mode)
                if is_folder and found.name in _SKIPPED_FOLDERS:
                    continue
                reason = "" if is_folder else _not_regular(status.st_mode)
                entry = Entry(folder, found.name, path, FileState.of(status), reason)
                (subfolders if is_folder else entries).append(entry)
        entries.sort(key=_by_path)
        subfolders.sort(key=_by_path)
        return entries, subfolders


@contextmanager
def pinned(folder: int, name: str, kind: int) -> Generator[int]:
    """A descriptor that stands for `name` in `folder` without opening it, once it is known to be of `kind`."""
    pin = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        mode = os.fstat(pin).st_mode
        if stat.S_IFMT(mode) != kind:
            raise RefusedError(_not_regular(mode) or "a file where a folder was")
        yield pin
    finally:
        os.close(pin)


@contextmanager
def readable(pin: int, flags: int = 0) -> Generator[int]:
    """A descriptor to read what `pin` stands for, with a read position of its own.

    What its owner locked (`chmod 000`) is read all the same, as root would: when the server runs as the guest's own
    user the mode is widened meanwhile.
    """
    # The magic link leads to the pinned inode itself: no name is looked up.
    link = Path(f"/proc/self/fd/{pin}")
    status = os.fstat(pin)
    mode = stat.S_IMODE(status.st_mode)
    locked = _is_locked(status)
    try:
        if locked:
            link.chmod(mode | _needed(status))
        descriptor = os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        if locked:
            with suppress(OSError):
                link.chmod(mode)


def _is_locked(status: os.stat_result) -> bool:
    """Whether it is ours, and we could not read it."""
    return status.st_mode & _needed(status) != _needed(status) and status.st_uid == os.geteuid()


def _needed(status: os.stat_result) -> int:
    """The bits of a mode that its owner must have to read it."""
    return stat.S_IRUSR | stat.S_IXUSR if stat.S_ISDIR(status.st_mode) else stat.S_IRUSR


def _by_path(entry: Entry) -> bytes:
    return entry.path


def _not_regular(mode: int) -> str:
    """Why something of this mode is not captured; empty for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISLNK(mode):
        return "a symbolic link: only regular files are captured"
    if stat.S_ISFIFO(mode):
        return "a FIFO: only regular files are captured"
    if stat.S_ISSOCK(mode):
        return "a socket: only regular files are captured"
    if stat.S_ISDIR(mode):
        return "a folder where a file was"
    return "a device: only regular files are captured"


def in_words(exc: OSError) -> str:
    """Why something could not be opened or read."""
    return f"cannot be read: {os.strerror(exc.errno or errno.EIO)}"
