"""Writing files under names that somebody else chose, without ever leaving the folder meant for them."""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bichat.errors import StorageError
from bichat.names import printable, safe_file_name, with_suffix


def save_files(files: Iterable[tuple[str, Iterable[bytes]]], folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Where each of `files` (name, chunks of bytes) now lies below `folder`, in the order given.

    The folder is made when it is missing.  Names go through `safe_file_name`; two that would fall together,
    also on a disk that ignores case, get ` (2)`.  A file or symlink of that name from before is replaced, never
    written through; a symlink in place of a subfolder is an error.  Each file appears whole or not at all.

    Raises:
        StorageError: the folder or a file could not be written; files before it have been saved.
    """
    target = Path(folder)
    with _in_words(target), ExitStack() as stack:
        target.mkdir(parents=True, exist_ok=True)
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        names = _UnusedNames()
        return tuple(_save(target, root, names.claim(safe_file_name(name).parts), chunks) for name, chunks in files)


class _UnusedNames:
    """The paths given out so far, with upper and lower case, composed and decomposed letters taken as the same."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, ...]] = set()
        self._folders: dict[tuple[str, ...], tuple[str, ...]] = {}

    def claim(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """A path for a new file, as near to `parts` as is free."""
        folder: tuple[str, ...] = ()
        for part in parts[:-1]:
            folder = self._folder((*folder, part))
        return self._free((*folder, parts[-1]))

    def _folder(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        if _folded(wanted) not in self._folders:
            self._folders[_folded(wanted)] = self._free(wanted)
        return self._folders[_folded(wanted)]

    def _free(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        path, number = wanted, 1
        while _folded(path) in self._taken:
            number += 1
            path = (*wanted[:-1], with_suffix(wanted[-1], f" ({number})"))
        self._taken.add(_folded(path))
        return path


def _folded(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path)


def _save(target: Path, root: int, parts: tuple[str, ...], chunks: Iterable[bytes]) -> Path:
    path = target.joinpath(*parts)
    with _in_words(path), ExitStack() as stack:
        folder = root
        for part in parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, folder)
        _write_whole(folder, parts[-1], chunks)
    return path


def _write_whole(folder: int, name: str, chunks: Iterable[bytes]) -> None:
    """Write beside the final name, then rename: what was there is replaced at once, and a symlink is not followed."""
    partial = f".bichat-{secrets.token_hex(8)}.partial"
    create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, create, 0o666, dir_fd=folder)
    try:
        try:
            for chunk in chunks:
                _write_all(descriptor, chunk)
        finally:
            os.close(descriptor)
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _in_words(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageError(
            f"cannot write {printable(str(path))}: {os.strerror(exc.errno or 0)}",
            stage="save",
            remedy="Name an output folder that is writable, has room, and holds no symlinks or folders of these names.",
        ) from exc
