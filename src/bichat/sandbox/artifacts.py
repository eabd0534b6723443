"""What an execution left under `/mnt/data`: every regular file that is new or changed, copied out and described.

The folder is a tmpfs in another mount namespace, seen through a descriptor.  The guest may be alive and hostile and
change everything while it is read: `walk.py` opens nothing but regular files, and here all is counted: files,
bytes of each, bytes of all.  Above: the supervisor, in a worker thread.  Below: the spool that keeps the bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bichat.domain import Artifact, Limits, RefusedFile, SessionFile
from bichat.errors import LimitError, NotFoundError, StorageError
from bichat.names import display_name, printable
from bichat.sandbox.descriptors import OUT_OF_DESCRIPTORS
from bichat.sandbox.mime import HEAD_BYTES, sniff
from bichat.sandbox.spool import Spool
from bichat.sandbox.walk import UNSEEN, Entry, FileState, RefusedError, Walk, in_words, pinned, readable
from bichat.sizes import MIB, format_size

MAX_PATH_BYTES = 4096
"""Length of a path below `/mnt/data`, as the kernel takes it; a file with a longer one is refused."""
MAX_REFUSALS = 100
"""RefusedError files that are listed; behind them one entry says how many more there are."""

#: The inode limit bounds the entries already; this is what a folder may grow while it is being read.
_SPARE_ENTRIES = 1_000
_CHUNK_BYTES = MIB
_NAME_SHOWN = 1_024
_LAST_SECOND = 253_402_300_799  # of the year 9999


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was under `/mnt/data` at one moment, by path."""

    files: dict[bytes, FileState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What came out: the files, and what was not taken, in the order of their names."""

    artifacts: tuple[Artifact, ...]
    refused: tuple[RefusedFile, ...]
    after: Snapshot
    """What there was then, for the next capture: what changes between two executions is the later one's."""


def capture(dirfd: int, before: Snapshot, limits: Limits, spool_folder: Path) -> Capture:
    """The regular files behind `dirfd` that are new or changed since `before`, with their bytes as they are now.

    Hidden files count; folders called `__pycache__` are passed over.  The files of a folder are taken before those
    in its subfolders, so that the many frames of an animation do not displace the report beside them.  Size and
    sha256 are of the bytes that were copied, also when the guest writes meanwhile.  What is not taken is in
    `refused` with its reason: no regular file, not readable, nested too deep, above `artifact_bytes`, above
    `artifacts` in number, or together above `disk_bytes` (which sparse files and hard links could pass).

    Raises:
        StorageError: the folder itself cannot be read, or `spool_folder` cannot be written; nothing is kept.
    """
    collector = _Collector(limits, Spool(spool_folder))
    refusals = _Refusals()
    artifacts: list[Artifact] = []
    after: dict[bytes, FileState] = {}
    walk = Walk(limits.inodes + _SPARE_ENTRIES)
    with closing(walk.entries(dirfd)) as entries:
        for entry in entries:
            if entry.state is not UNSEEN:
                after[entry.path] = entry.state
            if before.files.get(entry.path) == entry.state:
                continue
            try:
                artifacts.append(collector.take(entry))
            except RefusedError as exc:
                refusals.add(entry.path, str(exc))
            except FileNotFoundError:
                continue
            except OSError as exc:
                _check_that_we_could(exc)
                refusals.add(entry.path, in_words(exc))
    if walk.stopped_at is not None:
        reason = f"more than {walk.budget:,} files and folders: the rest was not looked at"
        refusals.add(walk.stopped_at, reason, always=True)
    artifacts.sort(key=lambda artifact: artifact.name)
    return Capture(artifacts=tuple(artifacts), refused=refusals.listed(), after=Snapshot(after))


def listing(dirfd: int, limits: Limits) -> tuple[SessionFile, ...]:
    """The regular files behind `dirfd`, in the order of their names.

    Raises:
        StorageError: the folder itself cannot be read.
    """
    with closing(Walk(limits.inodes + _SPARE_ENTRIES).entries(dirfd)) as entries:
        files = [
            SessionFile(
                name=display_name(entry.path),
                size_bytes=entry.state.size_bytes,
                modified_at=_moment(entry.state.modified_ns),
            )
            for entry in entries
            if not entry.reason
        ]
    return tuple(sorted(files, key=lambda file: file.name))


def _moment(nanoseconds: int) -> datetime:
    """A file's time, which its owner may have set to anything, as a moment of the years that there are."""
    return datetime.fromtimestamp(min(max(nanoseconds // 10**9, 0), _LAST_SECOND), UTC)


def capture_one(dirfd: int, name: str, limits: Limits, spool_folder: Path) -> Artifact:
    """The regular file behind `dirfd` that `listing` calls `name`, with its bytes as they are now.

    The name is compared, never followed: there is none that leads anywhere else.

    Raises:
        NotFoundError: there is no such file.
        LimitError: it cannot be taken: above `artifact_bytes`, or unreadable.
        StorageError: the folder cannot be read, or `spool_folder` cannot be written.
    """
    with closing(Walk(limits.inodes + _SPARE_ENTRIES).entries(dirfd)) as entries:
        for entry in entries:
            if display_name(entry.path) != name or entry.reason:
                continue
            try:
                return _Collector(limits, Spool(spool_folder)).take(entry)
            except FileNotFoundError:
                break
            except RefusedError as error:
                raise LimitError(f"the file '{printable(name)}' is not given out: {error}", stage="files") from error
            except OSError as error:
                _check_that_we_could(error)
                raise LimitError(f"the file '{printable(name)}' {in_words(error)}", stage="files") from error
    raise NotFoundError(
        f"there is no file '{printable(name)}' in the session's /mnt/data",
        stage="files",
        remedy="session.files() lists those that there are.",
    )


def remove_one(dirfd: int, name: str, limits: Limits) -> None:
    """Remove the regular file that `listing` calls `name`; the name is compared, never followed.  None of it is no error.

    Raises:
        LimitError: the code has locked its folder.
        StorageError: the folder cannot be read.
    """
    with closing(Walk(limits.inodes + _SPARE_ENTRIES).entries(dirfd)) as entries:
        for entry in entries:
            if display_name(entry.path) == name and not entry.reason:
                try:
                    os.unlink(entry.name, dir_fd=entry.folder)
                except FileNotFoundError:
                    return
                except OSError as error:
                    _check_that_we_could(error)
                    raise LimitError(
                        f"the file '{printable(name)}' cannot be removed: {in_words(error)}", stage="files"
                    ) from error
                return


def _check_that_we_could(error: OSError) -> None:
    """What this process has no descriptor for is not the file's fault, and comes out the next time."""
    if error.errno in OUT_OF_DESCRIPTORS:
        raise StorageError(
            f"files cannot be captured: {in_words(error)}", stage="capture", remedy="Raise ulimit -n."
        ) from error


class _Collector:
    """Copies files into the spool while the limits last."""

    def __init__(self, limits: Limits, spool: Spool) -> None:
        self._limits = limits
        self._spool = spool
        self._taken = 0
        self._bytes_left = limits.disk_bytes

    def take(self, entry: Entry) -> Artifact:
        """The file, copied."""
        if entry.reason:
            raise RefusedError(entry.reason)
        if len(entry.path) >= MAX_PATH_BYTES:
            raise RefusedError(f"its path has {len(entry.path):,} bytes, the limit is {MAX_PATH_BYTES - 1:,}")
        if self._taken >= self._limits.artifacts:
            raise RefusedError(f"more than {self._limits.artifacts:,} files (artifacts)")
        self._check_size(entry.state.size_bytes)
        with pinned(entry.folder, entry.name, stat.S_IFREG) as pin, readable(pin) as descriptor:
            self._check_size(os.fstat(descriptor).st_size)
            artifact = self._copied(descriptor, display_name(entry.path))
        self._taken += 1
        return artifact

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.artifact_bytes:
            limit = format_size(self._limits.artifact_bytes)
            raise RefusedError(f"{format_size(size_bytes)} is above the limit of {limit} for one file (artifact_bytes)")
        if size_bytes > self._bytes_left:
            raise RefusedError(
                f"the files together pass the limit of {format_size(self._limits.disk_bytes)} (disk_bytes)"
            )

    def _copied(self, descriptor: int, name: str) -> Artifact:
        offset = self._spool.size_bytes
        digest = hashlib.sha256()
        head, size = b"", 0
        try:
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                size += len(chunk)
                self._check_size(size)
                digest.update(chunk)
                head = head or chunk[:HEAD_BYTES]
                self._spool.append(chunk)
        except BaseException:
            self._spool.cut(offset)
            raise
        finally:
            # Also for a file that grew past its limit: reading it again and again must come to an end.
            self._bytes_left = max(0, self._bytes_left - size)
        return Artifact(
            name=name,
            mime_type=sniff(name, head, is_complete=size <= len(head)),
            size_bytes=size,
            sha256=digest.hexdigest(),
            content=self._spool.content(offset, size),
        )


class _Refusals:
    """What was refused: the first `MAX_REFUSALS`, and the number of the others."""

    def __init__(self) -> None:
        self._listed: list[RefusedFile] = []
        self._more = 0

    def add(self, path: bytes, reason: str, *, always: bool = False) -> None:
        if len(self._listed) >= MAX_REFUSALS and not always:
            self._more += 1
            return
        name = display_name(path)
        if len(name) > _NAME_SHOWN:
            name = name[:_NAME_SHOWN] + "…"
        self._listed.append(RefusedFile(name=name, reason=reason))

    def listed(self) -> tuple[RefusedFile, ...]:
        listed = sorted(self._listed, key=lambda refused: refused.name)
        if self._more:
            listed.append(RefusedFile(name="…", reason=f"{self._more:,} more were refused"))
        return tuple(listed)
