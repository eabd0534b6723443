"""Where captured bytes lie while somebody holds the result: one file without a name per capture."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bichat.errors import StorageError
from bichat.sizes import MIB

_CHUNK_BYTES = MIB
_MEMORY_BYTES = MIB


class Spool:
    """The bytes of one capture's files, one file behind the other, in an anonymous file below `folder`.

    Up to `memory_bytes` lie in memory, so that a program may keep thousands of results with a chart each and not run
    out of descriptors; what is larger opens the file.  The file has no name, so a crash leaves nothing
    behind; it is closed, and its room given back, when the spool and the last `SpooledContent` of it are dropped.
    Written by one thread; read by any number.
    """

    def __init__(self, folder: Path, *, memory_bytes: int = _MEMORY_BYTES) -> None:
        """Nothing is opened yet; `memory_bytes` of 0 keeps everything in the file."""
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self.size_bytes = 0
        """Bytes kept so far, which is where the next append goes."""

    def append(self, chunk: bytes) -> None:
        """Keep `chunk` behind what is there.

        Raises:
            StorageError: the folder is missing, read-only or full.
        """
        if self._file is None and self.size_bytes + len(chunk) <= self._memory_bytes:
            self._memory += chunk
            self.size_bytes += len(chunk)
            return
        with _in_words(self._folder):
            if self._file is None:
                # All of it moves over, so that reading never has to look in two places.
                kept, self._memory, self.size_bytes = bytes(self._memory), bytearray(), 0
                self._write(kept)
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        descriptor = self._descriptor()
        view = memoryview(chunk)
        while view:
            written = os.pwrite(descriptor, view, self.size_bytes)
            self.size_bytes += written
            view = view[written:]

    def cut(self, size_bytes: int) -> None:
        """Forget everything behind the first `size_bytes`."""
        if self._file is not None and size_bytes < self.size_bytes:
            with _in_words(self._folder):
                os.ftruncate(self._file.fileno(), size_bytes)
        del self._memory[size_bytes:]
        self.size_bytes = size_bytes

    def content(self, offset: int, size_bytes: int) -> SpooledContent:
        """The `size_bytes` that start at `offset`; keeps the spool alive."""
        return SpooledContent(spool=self, offset=offset, size_bytes=size_bytes)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` from `offset`, independent of every other reader.

        Raises:
            StorageError: the disk does not give them back.
        """
        if self._file is None:
            return bytes(self._memory[offset : offset + size_bytes])
        with _in_words(self._folder):
            chunk = os.pread(self._descriptor(), size_bytes, offset)
        if not chunk:
            raise StorageError(f"captured bytes are missing from {self._folder}", stage="capture")
        return chunk

    def _descriptor(self) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - lives as long as the spool
            weakref.finalize(self, self._file.close)
        return self._file.fileno()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledContent:
    """The bytes of one captured file; implements `bichat.domain.Content`."""

    spool: Spool
    offset: int
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start, in pieces of at most 1 MiB.

        Raises:
            StorageError: the disk does not give them back.
        """
        position, end = self.offset, self.offset + self.size_bytes
        while position < end:
            chunk = self.spool.read(position, min(_CHUNK_BYTES, end - position))
            position += len(chunk)
            yield chunk


@contextmanager
def _in_words(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        out_of_descriptors = exc.errno in (errno.EMFILE, errno.ENFILE)
        raise StorageError(
            f"cannot keep captured files in {folder}: {os.strerror(exc.errno or 0)}",
            stage="capture",
            remedy="Drop results that are no longer needed, or raise ulimit -n: each that holds more than 1 MiB keeps a "
            "file open."
            if out_of_descriptors
            else "Make room there or make it writable; BICHAT_DATA_DIR chooses another place.",
        ) from exc
