"""Folders on the host for sandboxes that have no file system of their own: made, measured, and removed.

A thread of its own measures them: a folder of twenty thousand files takes a tenth of a second, in which the watchdog
must not be kept from looking at everybody's memory.

What lies in them is the guest's doing: folders a thousand deep, without permissions, names of any bytes, links that
lead elsewhere.  Nothing here follows a link, nor recurses.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bichat.errors import SandboxUnavailableError
from bichat.sandbox.descriptors import OUT_OF_DESCRIPTORS
from bichat.sandbox.owners import acting_as
from bichat.sandbox.plan import DATA, TEMPORARY
from bichat.sandbox.rounds import Rounds
from bichat.sandbox.tree import Tree, is_exiting, shown

logger = logging.getLogger(__name__)

_PREFIX: Final = "bichat-rooms-"
#: Stands for what could not be measured where a whole number is wanted.
_MOST: Final = 1 << 62
_BLOCK: Final = 512
#: Between two measurements, at least; and so many times what the last one took.
_PAUSE_S: Final = 0.1
_PAUSE_FACTOR: Final = 4
#: Between two measurements of what is held still for it.
_HELD_EVERY_S: Final = 2.0
#: Of a processor's time, for one measurement: what takes longer is there to keep us from looking.
_LONGEST_S: Final = 0.5
#: Longest that a room is emptied.
_REMOVAL_S: Final = 60.0
#: Folders inside one another that are gone into.
_DEEPEST: Final = 100
#: Of looks in a row that may fail because this process is out of descriptors.
_MOST_FAILURES: Final = 10
#: Part of the disk that is left free by what cannot be measured well.
_RESERVE: Final = 0.1
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Rooms:
    """Those of one supervisor, in a folder that is its own as long as it holds a lock on it."""

    def __init__(self) -> None:
        """Below the system's folder for temporary files (`TMPDIR`).  What servers that are gone have left is removed.

        Raises:
            SandboxUnavailableError: there is no place for it.
        """
        with _in_words():
            self._folder, self._lock = _made_and_locked()
        self._sweep()
        self._rounds = Rounds[Room]("bichat-rooms", _PAUSE_S, lambda room, _: room.measure())

    def scratch(self) -> str:
        """A folder for one zygote; it goes with the rooms.

        Raises:
            SandboxUnavailableError: the disk is full, or not to be written to.
        """
        with _in_words():
            path = tempfile.mkdtemp(dir=self._folder, prefix="zygote-")
            os.chmod(path, 0o700)
        return path

    def make(self, owner: int | None) -> Room:
        """An empty room, for the user and group numbered `owner`, by default our own.

        Raises:
            SandboxUnavailableError: the disk is full, or not to be written to; nothing is left of it.
        """
        path = os.path.join(self._folder, secrets.token_hex(8))
        with ExitStack() as undo, _in_words():
            undo.callback(remove_tree, path)
            for folder in (path, f"{path}/{DATA}", f"{path}/{TEMPORARY}"):
                os.mkdir(folder, 0o700)
                os.chmod(folder, 0o700)  # whatever the umask
            if owner is not None:
                for folder in (f"{path}/{TEMPORARY}", f"{path}/{DATA}", path):
                    os.chown(folder, owner, owner)
            undo.pop_all()
        return Room(path, None if owner is None else (owner, owner), self._rounds)

    def close(self) -> None:
        """Remove all of them.  Nobody lives in one any more."""
        self._rounds.close()
        remove_tree(self._folder)
        os.close(self._lock)

    def _sweep(self) -> None:
        """Remove what servers have left behind that were killed: nobody holds their lock."""
        for folder in Path(self._folder).parent.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if folder.lstat().st_uid == os.geteuid():
                    lock = _locked(str(folder))
                    remove_tree(str(folder))
                    os.close(lock)


def _made_and_locked() -> tuple[str, int]:
    """A folder, and a descriptor whose lock on it ends with this process.

    A server that sweeps meanwhile may come before us, and take it for one that was left: then there is another.

    Raises:
        OSError: there is no place for it.
    """
    while True:
        folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
        with ExitStack() as undo:
            undo.callback(remove_tree, folder)
            with suppress(FileNotFoundError, BlockingIOError):
                # Whatever the umask.  Guests of root are other users, and see what is theirs alone.
                os.chmod(folder, 0o711 if os.geteuid() == 0 else 0o700)
                lock = _locked(folder)
                undo.callback(os.close, lock)
                if os.path.exists(folder):
                    undo.pop_all()
                    return folder, lock


@contextmanager
def _in_words() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SandboxUnavailableError(
            f"no folder for sandboxes could be made: {error}",
            stage="rooms",
            remedy="Make room in the folder for temporary files, or let TMPDIR name one that can be written to.",
        ) from error


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
        self._tree: Tree | None = None
        self._most = Usage(float("inf"), _MOST)
        self._again_at = 0.0
        self._held_at = 0.0
        self._failures = 0
        #: When something in its folders was changed last, by the last measurement that held all of it still.
        self._changed_ns = 0

    def inhabit(self, tree: Tree, most: Usage) -> None:
        """Have it measured from now on, up to `most`; `tree` lives in it."""
        self._tree, self._most = tree, most
        self._rounds.add(self)

    def measured(self) -> Usage:
        """What lies in it now, measured by the calling thread.

        Raises:
            FileNotFoundError: it has been removed.
            OSError: this process is out of descriptors (EMFILE, ENFILE).
        """
        with acting_as(self._owner):
            return measure(self.path)

    def measure(self) -> None:
        """Again, if that is due; what could not be measured counts as more than is allowed.

        If that is for want of descriptors, which is not the guest's doing, then only when it goes on.
        """
        now = time.monotonic()
        if now < self._again_at:
            return
        try:
            with acting_as(self._owner):
                self.usage = self._found(now)
            self._failures = 0
        except FileNotFoundError:
            return  # it has been removed
        except Exception as error:
            logger.exception("a sandbox's folder could not be measured")
            self._failures += 1
            is_ours = isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS
            if not is_ours or self._failures > _MOST_FAILURES:
                self.usage = Usage(float("inf"), 0)
        self._again_at = now + _PAUSE_FACTOR * (time.monotonic() - now)

    def _found(self, now: float) -> Usage:
        """Of what moves while it is measured some may be missed: now and then all of the tree is held still."""
        tree = self._tree
        if tree is None:
            return measure(self.path, most=self._most)
        usage = measure(self.path, tree.pids(), most=self._most)
        if usage.changed_ns != self._changed_ns and now - self._held_at > _HELD_EVERY_S:
            with tree.held():
                usage = measure(self.path, tree.pids(), most=self._most)
            self._held_at, self._changed_ns = now, usage.changed_ns
        return usage

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
    changed_ns: int = 0
    """When something was put into one of its folders, or taken out, last; of the folders below the first one."""


def measure(path: str, processes: Iterable[int] = (), *, most: Usage | None = None) -> Usage:
    """What lies below `path`, and what `processes` hold open or mapped of it after it was deleted.

    By descriptors alone: whoever lives there may put links in the place of folders meanwhile.  A file that is deleted,
    closed, and mapped in part counts by what is mapped of it, as long as the disk has room.

    Args:
        path: a folder.
        processes: pids.
        most: above this it is not counted on.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: this process is out of descriptors (EMFILE, ENFILE).
    """
    most = most or Usage(float("inf"), _MOST)
    count = _Count(most)
    try:
        root = os.open(path, _FOLDER)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS:
            raise
        return Usage(float("inf"), 0)
    try:
        device = os.fstat(root).st_dev
        count.below(root)
        for pid in processes:
            count.deleted(pid, device, path)
        if count.mapped and _is_nearly_full(root):
            return Usage(float("inf"), count.names)
    except _EnoughError:
        pass
    except OSError as error:  # locked, or a process that hides what it has
        if error.errno in OUT_OF_DESCRIPTORS:
            raise
        return Usage(float("inf"), count.names)
    finally:
        os.close(root)
    return count.usage


class _EnoughError(Exception):
    """It is more than is allowed: how much more does not matter."""


class _Count:
    """Of one measurement."""

    def __init__(self, most: Usage) -> None:
        self.names = 0
        self.mapped: dict[int, int] = {}
        """By inode, of deleted files that nobody has open any more."""
        self._most = most
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._deadline = time.thread_time() + _LONGEST_S
        self._changed_ns = 0

    @property
    def usage(self) -> Usage:
        """What was found."""
        closed = sum(size for inode, size in self.mapped.items() if inode not in self._sizes)
        return Usage(self._bytes + closed, self.names, self._changed_ns)

    def below(self, root: int) -> None:
        """Everything in the folder `root` and in those below it, one path of them open at a time."""
        waiting = [(root, self._listed(root))]
        try:
            while waiting:
                folder, subfolders = waiting[-1]
                if not subfolders:
                    waiting.pop()
                    if folder != root:
                        os.close(folder)
                    continue
                if len(waiting) > _DEEPEST:
                    raise OSError(errno.ELOOP, "too deep")
                try:
                    inner = os.open(subfolders.pop(), _FOLDER, dir_fd=folder)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        continue  # gone, or something else by now
                    raise
                waiting.append((inner, []))
                waiting[-1][1].extend(self._listed(inner))
        finally:
            for folder, _ in waiting:
                if folder != root:
                    os.close(folder)

    def _listed(self, folder: int) -> list[str]:
        """The folders in one; all that is in it is counted."""
        subfolders: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    state = entry.stat(follow_symlinks=False)
                    self.names += 1
                    self._add(state)
                    if stat.S_ISDIR(state.st_mode):
                        subfolders.append(entry.name)
                        self._changed_ns = max(self._changed_ns, state.st_ctime_ns)
        return subfolders

    def deleted(self, pid: int, device: int, path: str) -> None:
        """The files without a name that a process has open or mapped.

        Raises:
            PermissionError: it does not let us look, and is not about to end.
        """
        try:
            where = shown(pid)
            for name in os.listdir(f"{where}/fd"):
                # Through the link that the kernel makes of each: its text may be too long to be read.
                with suppress(FileNotFoundError, ProcessLookupError):
                    state = os.stat(f"{where}/fd/{name}")
                    if state.st_dev == device and not state.st_nlink and stat.S_ISREG(state.st_mode):
                        self.names += state.st_ino not in self._sizes
                        self._add(state)
            with open(f"{where}/maps", "rb") as file:
                for line in file:
                    if line.endswith(b" (deleted)\n") and os.fsencode(path) in line:
                        addresses, _, offset, _, inode = line.split(None, 5)[:5]
                        first, _, last = addresses.partition(b"-")
                        end = int(offset, 16) + int(last, 16) - int(first, 16)
                        self.names += int(inode) not in self._sizes and int(inode) not in self.mapped
                        self.mapped[int(inode)] = max(self.mapped.get(int(inode), 0), end)
        except (FileNotFoundError, ProcessLookupError):
            return
        except PermissionError:
            if not is_exiting(pid):
                raise
        self._check()

    def _add(self, state: os.stat_result) -> None:
        size = state.st_blocks * _BLOCK
        self._bytes += size - self._sizes.get(state.st_ino, 0)
        self._sizes[state.st_ino] = size
        self._check()

    def _check(self) -> None:
        if self._bytes > self._most.bytes or self.names > self._most.inodes:
            raise _EnoughError
        if time.thread_time() > self._deadline:
            raise OSError(errno.ETIMEDOUT, "this takes too long")


def _is_nearly_full(folder: int) -> bool:
    disk = os.fstatvfs(folder)
    return disk.f_bavail < _RESERVE * disk.f_blocks


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it; what cannot be removed is logged.

    Folders are moved up before they are emptied, so that no path is long and no more than two are open at a time.
    """
    try:
        with suppress(FileNotFoundError):
            top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _empty(top)
            finally:
                os.close(top)
            os.rmdir(path)
    except OSError:
        logger.exception("a sandbox's folder could not be removed")


def _empty(top: int) -> None:
    deadline = time.monotonic() + _REMOVAL_S
    while names := os.listdir(top):
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "somebody keeps filling it")
        for name in map(os.fsencode, names):
            # Whoever is left there may put something else in its place meanwhile: then it comes next time.
            with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                    _flatten(top, name)
                    os.rmdir(name, dir_fd=top)
                else:
                    os.unlink(name, dir_fd=top)


def _flatten(top: int, name: bytes) -> None:
    """Delete the files of a folder in `top`, and move its folders there."""
    _unlock(top, name)
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        for inside in map(os.fsencode, os.listdir(folder)):
            if stat.S_ISDIR(os.stat(inside, dir_fd=folder, follow_symlinks=False).st_mode):
                _unlock(folder, inside)  # one that is moved has its `..` changed, which takes leave to write in it
                os.rename(inside, secrets.token_hex(8), src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(inside, dir_fd=folder)
    finally:
        os.close(folder)


def _unlock(folder: int, name: bytes) -> None:
    """Let its owner into a folder, by what is there and not by its name: no link is followed."""
    pin = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(pin).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{pin}", 0o700)
    finally:
        os.close(pin)
