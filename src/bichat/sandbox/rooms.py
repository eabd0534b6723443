"""Folders on the host for sandboxes that have no file system of their own: made, measured, and removed.

A thread of its own measures them: a folder of twenty thousand files takes a tenth of a second, in which the watchdog
must not be kept from looking at everybody's memory.

What lies in them is the guest's doing: folders a thousand deep, without permissions, names of any bytes, links that
lead elsewhere.  Nothing here follows a link, nor recurses.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bichat.errors import SandboxUnavailableError
from bichat.sandbox.owners import acting_as
from bichat.sandbox.plan import DATA, TEMPORARY
from bichat.sandbox.rounds import Rounds

logger = logging.getLogger(__name__)

_PREFIX: Final = "bichat-rooms-"
#: A folder that is younger may be about to be locked by who has made it.
_SETTLED_S: Final = 60.0
#: Stands for what could not be measured where a whole number is wanted.
_MOST: Final = 1 << 62
_BLOCK: Final = 512
#: Between two measurements, at least; and so many times what the last one took.
_PAUSE_S: Final = 0.1
_PAUSE_FACTOR: Final = 10


class Rooms:
    """Those of one supervisor, in a folder that is its own as long as it holds a lock on it."""

    def __init__(self) -> None:
        """Below the system's folder for temporary files (`TMPDIR`).  What servers that are gone have left is removed.

        Raises:
            SandboxUnavailableError: there is no place for it.
        """
        try:
            self._folder = tempfile.mkdtemp(prefix=_PREFIX)
            # Whatever the umask.  Guests of root are other users, and see what is theirs alone.
            os.chmod(self._folder, 0o711 if os.geteuid() == 0 else 0o700)
            self._lock = self._locked_or_gone()
        except OSError as error:
            raise SandboxUnavailableError(
                f"no folder for sandboxes could be made: {error}",
                stage="rooms",
                remedy="Let TMPDIR name a folder that can be written to.",
            ) from error
        self._sweep()
        self._rounds = Rounds[Room]("bichat-rooms", _PAUSE_S, lambda room, _: room.measure())

    def scratch(self) -> str:
        """A folder for one zygote; it goes with the rooms."""
        path = tempfile.mkdtemp(dir=self._folder, prefix="zygote-")
        os.chmod(path, 0o700)
        return path

    def make(self, owner: int | None) -> Room:
        """An empty room, for the user and group numbered `owner`, by default our own.

        Raises:
            OSError: the disk is full, or not to be written to.
        """
        path = os.path.join(self._folder, secrets.token_hex(8))
        for folder in (path, f"{path}/{DATA}", f"{path}/{TEMPORARY}"):
            os.mkdir(folder, 0o700)
            os.chmod(folder, 0o700)  # whatever the umask
        if owner is not None:
            for folder in (f"{path}/{TEMPORARY}", f"{path}/{DATA}", path):
                os.chown(folder, owner, owner)
        return Room(path, None if owner is None else (owner, owner), self._rounds)

    def close(self) -> None:
        """Remove all of them.  Nobody lives in one any more."""
        self._rounds.close()
        remove_tree(self._folder)
        os.close(self._lock)

    def _locked_or_gone(self) -> int:
        try:
            return _locked(self._folder)
        except OSError:
            os.rmdir(self._folder)
            raise

    def _sweep(self) -> None:
        """Remove what servers have left behind that were killed: nobody holds their lock."""
        for folder in Path(self._folder).parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                state = folder.lstat()
                if state.st_uid == os.geteuid() and time.time() - state.st_mtime > _SETTLED_S:
                    lock = _locked(str(folder))
                    remove_tree(str(folder))
                    os.close(lock)


def _locked(folder: str) -> int:
    """A descriptor whose lock on the folder ends with this process.

    Raises:
        OSError: another process has it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Room:
    """One sandbox's folder."""

    def __init__(self, path: str, owner: tuple[int, int] | None, rounds: Rounds[Room]) -> None:
        """Made by `Rooms.make`; on `rounds` it is measured."""
        self.path = path
        self.usage = Usage(0.0, 0)
        """What it held when it was measured last."""
        self._owner = owner
        self._rounds = rounds
        self._processes: Callable[[], Sequence[int]] = tuple
        self._again_at = 0.0

    def inhabit(self, processes: Callable[[], Sequence[int]]) -> None:
        """Have it measured from now on; `processes` gives those that live in it, and may be called from any thread."""
        self._processes = processes
        self._rounds.add(self)

    def measure(self) -> None:
        """Again, if that is due; what could not be measured counts as more than is allowed."""
        now = time.monotonic()
        if now < self._again_at:
            return
        try:
            with acting_as(self._owner):
                self.usage = measure(self.path, self._processes())
        except FileNotFoundError:
            return  # it has been removed
        except Exception:
            logger.exception("a sandbox's folder could not be measured")
            self.usage = Usage(float("inf"), 0)
        self._again_at = now + _PAUSE_FACTOR * (time.monotonic() - now)

    @property
    def used_bytes(self) -> int:
        """By the last measurement."""
        return int(min(self.usage.bytes, _MOST))

    def remove(self) -> None:
        """With all that is in it, once nobody lives there any more; failures are logged."""
        self._rounds.remove(self)
        remove_tree(self.path)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a disk."""

    bytes: float
    """Infinite where there is something that cannot be looked into."""
    inodes: int
    """Files, folders and links."""


def measure(path: str, processes: Iterable[int] = ()) -> Usage:
    """What lies below `path`, and what `processes` hold open or mapped of it after it was deleted.

    A file that is deleted, closed, and mapped in part counts by what is mapped of it.
    """
    sizes: dict[int, int] = {}
    names = 0
    waiting = [os.fsencode(path)]
    try:
        while waiting:
            for state, inside in _looked_into(waiting.pop()):
                sizes[state.st_ino] = state.st_blocks * _BLOCK
                names += 1
                waiting += [inside] if stat.S_ISDIR(state.st_mode) else []
    except OSError:  # locked, or so deep that its path is too long
        return Usage(float("inf"), names)
    nameless: dict[int, int] = {}
    for pid in processes:
        for inode, size in _deleted(pid, path):
            nameless[inode] = max(size, nameless.get(inode, 0))
    return Usage(sum((nameless | sizes).values()), names + len(nameless))


def _looked_into(folder: bytes) -> Iterator[tuple[os.stat_result, bytes]]:
    """What is in a folder, with its path; nothing if it is gone meanwhile.

    Raises:
        OSError: it cannot be told.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in list(os.scandir(folder)):
            with suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False), entry.path


def _deleted(pid: int, path: str) -> Iterator[tuple[int, int]]:
    """Inode and bytes of each file below `path` that has no name any more and that a process still has."""
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(entry.path).startswith(path):
                    state = os.stat(entry.path)
                    if not state.st_nlink:
                        yield state.st_ino, state.st_blocks * _BLOCK
    found: dict[int, int] = {}
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            if line.endswith(b" (deleted)\n") and os.fsencode(path) in line:
                addresses, _, offset, _, inode = line.split(None, 5)[:5]
                first, _, last = addresses.partition(b"-")
                size = int(last, 16) - int(first, 16)
                found[int(inode)] = max(found.get(int(inode), 0), int(offset, 16) + size)
    yield from found.items()


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it; what cannot be removed is logged.

    Folders are moved up before they are emptied, so that no path is long and no more than two are open at a time.
    """
    with suppress(FileNotFoundError):
        try:
            top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _empty(top)
            finally:
                os.close(top)
            os.rmdir(path)
        except OSError:
            logger.exception("a sandbox's folder could not be removed")


def _empty(top: int) -> None:
    while names := os.listdir(top):
        for name in map(os.fsencode, names):
            if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                _flatten(top, name)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)


def _flatten(top: int, name: bytes) -> None:
    """Delete the files of a folder in `top`, and move its folders there."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except PermissionError:
        # Nobody lives there any more who could put a link in its place.
        os.chmod(name, 0o700, dir_fd=top)
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        if os.fstat(folder).st_mode & 0o700 != 0o700:
            os.fchmod(folder, 0o700)
        for inside in map(os.fsencode, os.listdir(folder)):
            if stat.S_ISDIR(os.stat(inside, dir_fd=folder, follow_symlinks=False).st_mode):
                _chmod_to_move(folder, inside)
                os.rename(inside, secrets.token_hex(8), src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(inside, dir_fd=folder)
    finally:
        os.close(folder)


def _chmod_to_move(folder: int, name: bytes) -> None:
    """A folder that is moved has its `..` changed, which takes leave to write in it."""
    os.chmod(name, 0o700, dir_fd=folder)
