"""Files that go in: checked before any sandbox is touched, then written through a descriptor of `/mnt/data`."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from bichat.domain import Limits
from bichat.errors import LimitError, SandboxUnavailableError, UserInputError
from bichat.names import MAX_NAME_BYTES, printable
from bichat.sandbox.descriptors import OUT_OF_DESCRIPTORS, no_descriptor_in_words
from bichat.sandbox.owners import acting_as
from bichat.sandbox.rooms import Usage
from bichat.sizes import MIB, format_size

InputSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes themselves, or a stream of bytes that can seek (read from where it stands)."""

_STAGE = "input"
_CHUNK_BYTES = MIB
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file that may go in: its name is sound, it can be read, and it fits."""

    name: str
    size_bytes: int
    source: Path | BinaryIO
    start: int = 0
    """Where in the stream it begins."""
    modified_ns: int
    """Whole seconds, so that the first change by the guest shows even on a kernel whose clock ticks slowly."""


def check_inputs(files: Mapping[str, InputSource], limits: Limits) -> tuple[InputFile, ...]:
    """The files as they can be written, in the order given; not a byte of them is copied yet.

    Raises:
        SandboxUnavailableError: this process is out of descriptors.
        UserInputError: a name cannot be one in `/mnt/data`, or a file is missing, unreadable or no regular file.
        LimitError: they are larger together than `disk_bytes`, or more than `inodes`.
    """
    if len(files) > limits.inodes:
        raise LimitError(
            f"{len(files):,} input files are above the limit of {limits.inodes:,} (inodes)",
            stage=_STAGE,
            remedy="Pack them into an archive, or raise the limit inodes.",
        )
    checked: list[InputFile] = []
    total = 0
    for name, source in files.items():
        _check_name(name)
        with no_descriptor_in_words(_STAGE):
            checked.append(_checked(name, source))
        total += checked[-1].size_bytes
        if total > limits.disk_bytes:
            raise _too_large(checked[-1], total, limits.disk_bytes)
    return tuple(checked)


def input_at(name: str, path: Path) -> InputFile:
    """A file of ours that goes back to where a session had it: `name` may be a path below `/mnt/data`.

    Raises:
        UserInputError: the file is missing or unreadable, or the name leads elsewhere.
    """
    for part in name.split("/"):
        _check_name(part)
    return _checked(name, path)


def check_fits(file: InputFile, used: Usage, limits: Limits) -> None:
    """Where no disk of its own holds a sandbox to its limits: whether `file` fits beside what is `used`.

    Raises:
        LimitError: it does not.
    """
    if used.bytes + file.size_bytes > limits.disk_bytes or used.inodes >= limits.inodes:
        raise _does_not_fit(file, format_size(limits.disk_bytes))


def write_input(dirfd: int, file: InputFile, owner: tuple[int, int] | None) -> None:
    """Create `file` in the folder behind `dirfd`, mode 0644, and copy its bytes in.

    `owner` is the (uid, gid) that the guest has on the host; None when the server is that user itself.  A file of
    this name from before is replaced in one moment: whoever reads it meanwhile has the old one or the new one, whole.
    A copy that fails changes nothing.

    Raises:
        UserInputError: the source is gone, unreadable or shorter than when it was checked, or a folder has its name, or
            the code locks the folder again and again.
        LimitError: the sandbox's disk is full, or the source has grown since it was checked.
        SandboxUnavailableError: the server may not act as `owner`, or is out of descriptors, or the folder is gone.
    """
    *above, name = file.name.split("/")
    with no_descriptor_in_words(_STAGE), _source(file) as stream, _folder(dirfd, above, file, owner) as folder:
        with _in_words(file, folder), acting_as(owner), _writable(folder):
            descriptor = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            _copy(stream, descriptor, file, folder)
            with _in_words(file, folder), acting_as(owner), _writable(folder):
                _name(descriptor, name, folder)
        finally:
            os.close(descriptor)


@contextmanager
def _folder(dirfd: int, parts: list[str], file: InputFile, owner: tuple[int, int] | None) -> Generator[int]:
    """The folder that these lead to from `dirfd`, made where it is missing; no link is followed."""
    with ExitStack() as opened:
        folder = dirfd
        for part in parts:
            with _in_words(file, folder), acting_as(owner), _writable(folder):
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                folder = os.open(part, flags, dir_fd=folder)
            opened.callback(os.close, folder)
        yield folder


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise _bad_name(name, "is not valid Unicode") from None
    if not name:
        raise _bad_name(name, "is empty")
    if size > MAX_NAME_BYTES:
        raise _bad_name(name, f"has {size:,} bytes, {MAX_NAME_BYTES} are allowed")
    if "/" in name or "\0" in name:
        raise _bad_name(name, "holds a '/' or a NUL: input files lie side by side in /mnt/data")
    if name in (".", ".."):
        raise _bad_name(name, "stands for a folder")


def _bad_name(name: str, why: str) -> UserInputError:
    shown = printable(name if len(name) <= 80 else name[:80] + "…")
    return UserInputError(
        f"the input file name '{shown}' {why}", stage=_STAGE, remedy="Give it a plain name such as sales.csv."
    )


def _checked(name: str, source: InputSource) -> InputFile:
    if isinstance(source, bytes):
        return InputFile(name=name, size_bytes=len(source), source=BytesIO(source), modified_ns=_this_second())
    if isinstance(source, str | os.PathLike):
        with _opened(name, Path(source)) as (_, status):
            modified = status.st_mtime_ns // _SECOND_NS * _SECOND_NS
            return InputFile(name=name, size_bytes=status.st_size, source=Path(source), modified_ns=modified)
    return _checked_stream(name, source)


def _checked_stream(name: str, source: BinaryIO) -> InputFile:
    try:
        if not isinstance(cast("object", source.read(0)), bytes):
            raise _bad_source(name, "gives text", "Open it in binary mode, or pass text.encode().")
        start = source.tell()
        size = source.seek(0, os.SEEK_END) - start
        source.seek(start)
    except AttributeError:
        kind = type(source).__name__
        raise _bad_source(name, f"is a {kind}", "Pass a path, bytes, or a file opened in binary mode.") from None
    except (OSError, ValueError) as exc:
        raise _bad_source(name, "is a stream that cannot seek", "Pass its bytes: stream.read().") from exc
    return InputFile(name=name, size_bytes=max(0, size), source=source, start=start, modified_ns=_this_second())


def _this_second() -> int:
    return int(time.time()) * _SECOND_NS


def _bad_source(name: str, why: str, remedy: str) -> UserInputError:
    return UserInputError(f"the input file '{printable(name)}' {why}", stage=_STAGE, remedy=remedy)


@contextmanager
def _opened(name: str, path: Path) -> Generator[tuple[int, os.stat_result]]:
    """The regular file at `path` and what it is now; a FIFO is not waited for."""
    shown = printable(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            raise _bad_source(name, f"cannot be used: {shown} is {kind}", "Pass the path of a file.")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _bad_source(name, f"is missing: there is no {shown}", "Check the path.") from None
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno in OUT_OF_DESCRIPTORS:
            raise  # which is not the file's fault
        why = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise _bad_source(name, f"cannot be read: {shown}: {why}", "Check the path and its permissions.") from exc
    try:
        yield descriptor, os.fstat(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _source(file: InputFile) -> Generator[BinaryIO]:
    """A stream at the first byte of the file; one of the caller's stands there again afterwards, for the next run."""
    if isinstance(file.source, Path):
        with _opened(file.name, file.source) as (descriptor, _), open(descriptor, "rb", 0, closefd=False) as stream:
            yield stream
    else:
        file.source.seek(file.start)
        try:
            yield file.source
        finally:
            file.source.seek(file.start)


@contextmanager
def _writable(dirfd: int) -> Generator[None]:
    """Within it the folder takes files, whatever the code has made of its mode."""
    mode = stat.S_IMODE(os.fstat(dirfd).st_mode)
    is_locked = mode & stat.S_IRWXU != stat.S_IRWXU
    if is_locked:
        os.fchmod(dirfd, mode | stat.S_IRWXU)
    try:
        yield
    finally:
        if is_locked:
            os.fchmod(dirfd, mode)


def _name(descriptor: int, name: str, dirfd: int) -> None:
    """Give a file that has none its name in a folder, in the place of one that has it."""
    link = f"/proc/self/fd/{descriptor}"
    try:
        os.link(link, name, dst_dir_fd=dirfd, follow_symlinks=True)
    except FileExistsError:
        # Nothing but a rename replaces.
        unseen = f".{secrets.token_hex(8)}"
        os.link(link, unseen, dst_dir_fd=dirfd, follow_symlinks=True)
        try:
            os.rename(unseen, name, src_dir_fd=dirfd, dst_dir_fd=dirfd)
        except BaseException:
            os.unlink(unseen, dir_fd=dirfd)
            raise


def _copy(stream: BinaryIO, descriptor: int, file: InputFile, dirfd: int) -> None:
    size = 0
    while chunk := _read(stream, file):
        size += len(chunk)
        if size > file.size_bytes:
            raise LimitError(
                f"the input file '{printable(file.name)}' has grown beyond the {format_size(file.size_bytes)} it had",
                stage=_STAGE,
                remedy="Wait until it is written, or pass a copy.",
            )
        with _in_words(file, dirfd):
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
    if size < file.size_bytes:
        raise _bad_source(file.name, f"has shrunk: {size:,} of {file.size_bytes:,} bytes came", "Pass a copy.")
    with _in_words(file, dirfd):
        os.fchmod(descriptor, 0o644)
        os.utime(descriptor, ns=(file.modified_ns, file.modified_ns))


def _read(stream: BinaryIO, file: InputFile) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except (OSError, ValueError) as exc:
        raise _bad_source(file.name, f"cannot be read: {exc}", "Check the disk it lies on.") from exc


def _too_large(file: InputFile, total_bytes: int, limit_bytes: int) -> LimitError:
    name, size, limit = printable(file.name), format_size(file.size_bytes), format_size(limit_bytes)
    together = f", with those before it {format_size(total_bytes)}" if total_bytes > file.size_bytes else ""
    return LimitError(
        f"the input file '{name}' has {size}{together}: above the sandbox's disk of {limit} (disk_bytes)",
        stage=_STAGE,
        remedy="Raise the limit disk_bytes, or pass a smaller extract of the data.",
    )


def _does_not_fit(file: InputFile, disk: str) -> LimitError:
    return LimitError(
        f"the input file '{printable(file.name)}' of {format_size(file.size_bytes)} does not fit:"
        f" the sandbox's disk of {disk} is full (disk_bytes, inodes)",
        stage=_STAGE,
        remedy="Raise the limit disk_bytes, or pass a smaller extract of the data.",
    )


@contextmanager
def _in_words(file: InputFile, dirfd: int) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in OUT_OF_DESCRIPTORS:
            raise
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _does_not_fit(file, _disk_size(dirfd)) from exc
        if exc.errno == errno.EISDIR:
            raise _bad_source(file.name, "has the name of a folder in /mnt/data", "Choose another name.") from exc
        if exc.errno in (errno.EACCES, errno.EPERM):
            raise _bad_source(
                file.name, "cannot be written: the code has locked /mnt/data", "Restart the session."
            ) from exc
        raise SandboxUnavailableError(
            f"cannot write '{printable(file.name)}' into the sandbox: {os.strerror(exc.errno or errno.EIO)}",
            stage=_STAGE,
            remedy="Run again: the code has not run.",
        ) from exc


def _disk_size(dirfd: int) -> str:
    disk = os.fstatvfs(dirfd)
    return format_size(disk.f_blocks * disk.f_frsize)
