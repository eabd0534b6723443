"""Files in a folder of this host: written beside, synced to the disk, and moved into their place in one step.

    <folder>/<tenant>/<first two digits>/<32 digits>/content     the bytes
                                                    /card.json   name, MIME type, size, sha256, time
    <folder>/.partial/<random>/                                  on their way in, or out

A file is a folder of two, for a folder is moved at once and its content stays a plain file that any backup
understands.  Whoever writes one holds a lock on it, so that what a crash leaves in `.partial` is known from what is
being written by another process.  No component of a path comes from a name, and none is followed where it is a link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from bichat.domain import StoredFile
from bichat.errors import NotFoundError, StorageError
from bichat.sizes import MIB
from bichat.storage import card
from bichat.storage.incoming import Incoming
from bichat.storage.keys import split_key
from bichat.storage.links import DownloadLinks
from bichat.storage.ranges import clipped

_PARTIAL: Final = ".partial"
_PIECE_BYTES: Final = MIB
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LocalStorage:
    """Implements `FileStorage` in one folder, which several processes of one host may share."""

    keeps = True

    def __init__(self, folder: Path, links: DownloadLinks) -> None:
        """Nothing is touched yet: the folder is made, mode 0700, with the first file; `sweep` is the owner's to call."""
        self._folder = folder
        self._links = links

    async def save(
        self, key: str, chunks: AsyncIterable[bytes], *, name: str, mime_type: str, max_bytes: int
    ) -> StoredFile:
        """See `FileStorage.save`."""
        split_key(key)
        incoming = Incoming(chunks, max_bytes)
        partial = await self._in_thread(_Partial, self._folder)
        try:
            async for piece in incoming.chunks(_PIECE_BYTES):
                await self._in_thread(partial.write, piece)
            file = incoming.stored(key, name, mime_type)
            await self._in_thread(partial.finish, file)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial.discard)
            raise
        return file

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """See `FileStorage.open`."""
        clipped(start, end, 0)
        descriptor = await self._in_thread(self._opened, key, card.CONTENT)
        try:
            position, last = clipped(start, end, os.fstat(descriptor).st_size)
            while position < last:
                piece = await self._in_thread(os.pread, descriptor, min(_PIECE_BYTES, last - position), position)
                if not piece:
                    raise StorageError(f"{key} is shorter than it was", stage="storage", remedy="Restore it.")
                position += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    async def stat(self, key: str) -> StoredFile:
        """See `FileStorage.stat`."""
        return await self._in_thread(self._stat, key)

    async def delete(self, key: str) -> None:
        """See `FileStorage.delete`."""
        await self._in_thread(self._delete, key)

    async def url(self, key: str, *, expires_in_s: float) -> str:
        """See `FileStorage.url`; answered by `bichat serve`."""
        address = self._links.url(key, expires_in_s)
        await self.stat(key)
        return address

    def sweep(self) -> int:
        """Remove what processes that are gone have left half-written; how much there was.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._in_words(), suppress(FileNotFoundError), _folder(self._folder, _PARTIAL) as partials:
            return sum(_abandoned(partials, name) for name in os.listdir(partials))  # noqa: PTH208  # a descriptor has no Path
        return 0

    # ------------------------------------------------------------------------------------------- in a worker thread

    def _opened(self, key: str, part: str) -> int:
        with _folder(self._folder, *_parts(key)) as folder:
            return os.open(part, _READ, dir_fd=folder)

    def _stat(self, key: str) -> StoredFile:
        with os.fdopen(self._opened(key, card.CARD), "rb") as file:
            return card.read(file.read(card.MAX_CARD_BYTES), key)

    def _delete(self, key: str) -> None:
        *above, own = _parts(key)
        with suppress(FileNotFoundError), _folder(self._folder, *above) as folder:
            os.stat(own, dir_fd=folder)
            with _made_folder(self._folder, _PARTIAL) as partials:
                gone = secrets.token_hex(16)
                os.rename(own, gone, src_dir_fd=folder, dst_dir_fd=partials)
                os.fsync(folder)
                _remove(partials, gone)

    async def _in_thread(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        def run() -> _T:
            with self._in_words():
                return call(*arguments, **options)

        return await anyio.to_thread.run_sync(run)

    @contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError("nothing is kept under this key", stage="storage") from error
        except OSError as error:
            raise StorageError(
                f"the storage folder {self._folder}: {os.strerror(error.errno or errno.EIO)}",
                stage="storage",
                remedy=_REMEDIES.get(error.errno or 0, "See that the folder is there, and that this user may use it."),
            ) from error


_REMEDIES: Final = {
    errno.ENOSPC: "Make room on that disk, or choose another place with BICHAT_STORAGE_URL.",
    errno.EDQUOT: "Make room within the disk quota, or choose another place with BICHAT_STORAGE_URL.",
    errno.EROFS: "Make the disk writable, or choose another place with BICHAT_STORAGE_URL.",
    errno.ELOOP: "It holds a symbolic link where a folder or file should be: remove it.",
    errno.ENOTDIR: "It holds a symbolic link or a file where a folder should be: remove it.",
    errno.EMFILE: "Raise the number of open files that this process may have (ulimit -n).",
}


class _Partial:
    """A file that is being written: a locked folder of its own below `.partial`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._moved_to: tuple[str, ...] | None = None
        self._name, self._folder = _locked(root)
        try:
            self._content = os.open(card.CONTENT, _CREATE, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            with suppress(OSError), _folder(root, _PARTIAL) as partials:
                _remove(partials, self._name)
            raise

    def write(self, piece: bytes) -> None:
        _write_all(self._content, piece)

    def finish(self, file: StoredFile) -> None:
        """It is in its place, also after a power cut, when this returns."""
        os.fsync(self._content)
        about = os.open(card.CARD, _CREATE, 0o600, dir_fd=self._folder)
        try:
            _write_all(about, card.written(file))
            os.fsync(about)
        finally:
            os.close(about)
        os.fsync(self._folder)
        *above, own = _parts(file.key)
        with _made_folder(self._root, *above) as target, _folder(self._root, _PARTIAL) as partials:
            try:
                os.rename(self._name, own, src_dir_fd=partials, dst_dir_fd=target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise StorageError(
                        f"something is kept under {file.key} already", stage="storage", remedy="Make a new key."
                    ) from error
                raise
            self._moved_to = (*above, own)
            os.fsync(target)
        self._close()

    def discard(self) -> None:
        """Nothing of it is left."""
        *above, own = self._moved_to or (_PARTIAL, self._name)
        with suppress(OSError), _folder(self._root, *above) as folder:
            _remove(folder, own)
        self._close()

    def _close(self) -> None:
        for descriptor in (self._content, self._folder):
            with suppress(OSError):
                os.close(descriptor)
        self._content = self._folder = -1


def _parts(key: str) -> tuple[str, str, str]:
    tenant, rest = split_key(key)
    return tenant, rest[:2], rest


def _locked(root: Path) -> tuple[str, int]:
    """A new folder below `.partial`, and its descriptor, which holds the lock."""
    with _made_folder(root, _PARTIAL) as partials:
        while True:
            name = secrets.token_hex(16)
            _mkdir(name, partials)
            descriptor = os.open(name, _FOLDER, dir_fd=partials)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # Between its making and its locking a sweep may have taken it for one that was left.
                if _is_there(name, partials):
                    return name, descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _abandoned(partials: int, name: str) -> bool:
    """Whether nobody was writing it; then it is removed."""
    with suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(name, _FOLDER, dir_fd=partials)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(partials, name)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)
    return False


def _remove(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        with _below(folder, name) as own:
            for part in os.listdir(own):  # noqa: PTH208  # a descriptor has no Path
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=own)
        os.rmdir(name, dir_fd=folder)


@contextmanager
def _folder(root: Path, *parts: str) -> Generator[int]:
    """The folder below `root`, opened link by link; a descriptor that lasts as long as the block."""
    with ExitStack() as stack:
        descriptor = os.open(root, _FOLDER)
        stack.callback(os.close, descriptor)
        for part in parts:
            descriptor = stack.enter_context(_below(descriptor, part))
        yield descriptor


@contextmanager
def _made_folder(root: Path, *parts: str) -> Generator[int]:
    """As `_folder`, with every folder made, and its making synced, where it is missing."""
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        _mkdir(str(root), None)
    with ExitStack() as stack:
        descriptor = os.open(root, _FOLDER)
        stack.callback(os.close, descriptor)
        for part in parts:
            if not _is_there(part, descriptor):
                _mkdir(part, descriptor)
                os.fsync(descriptor)
            descriptor = stack.enter_context(_below(descriptor, part))
        yield descriptor


@contextmanager
def _below(folder: int, name: str) -> Generator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mkdir(name: str, folder: int | None) -> None:
    """Made by us or, at the same moment, by another; ours alone whatever the umask is."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
        os.chmod(name, 0o700, dir_fd=folder)


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
