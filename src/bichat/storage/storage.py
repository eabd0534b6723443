"""The port that storages implement, and what all of them promise; `bichat.testing.StorageConformance` checks it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Protocol

from bichat.domain import StoredFile


class FileStorage(Protocol):
    """Keeps files under keys (`bichat.storage.new_key`), whole or not at all.

    Any number of tasks may use one at a time.  Every method raises `UserInputError` for what is no key, and
    `StorageError` where the storage does not answer, is full or may not be written: nothing half-written is left then.
    """

    @property
    def keeps(self) -> bool:
        """Whether what is saved can be opened again; False for the storage that keeps nothing."""
        ...

    async def save(
        self, key: str, chunks: AsyncIterable[bytes], *, name: str, mime_type: str, max_bytes: int
    ) -> StoredFile:
        """Keep the bytes of `chunks` under `key`; they are there for everybody when this returns, and not before.

        Size and sha256 are of the bytes that came, whoever said what before.  Bytes are streamed: some 16 MiB of a
        file are in memory at most.

        Args:
            key: one under which nothing was ever kept.
            chunks: taken to their end, in order; each of any size.
            name: what its owner calls it; kept as it is, part of no path.
            mime_type: kept as it is.
            max_bytes: a longer file is refused.

        Raises:
            LimitError: more than `max_bytes` came.
            StorageError: as above, or something is kept under `key` already.
            Whatever `chunks` raises; nothing is kept.
        """
        ...

    def open(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to `end` (excluded; None: to the last), in pieces of 8 MiB at most.

        What lies behind the last byte is not there: an `end` beyond it is the same as None, a `start` beyond it gives
        nothing.  Close the generator (`contextlib.aclosing`) where it is left before its end.

        Raises:
            NotFoundError: nothing is kept under `key`; at the first piece.
            UserInputError: `start` is below 0 or above `end`.
        """
        ...

    async def stat(self, key: str) -> StoredFile:
        """What is kept under `key`.

        Raises:
            NotFoundError: nothing.
        """
        ...

    async def delete(self, key: str) -> None:
        """Keep it no longer.  What is not there is no error: deletions are repeated until they are known to be done."""
        ...

    async def url(self, key: str, *, expires_in_s: float) -> str:
        """An address from which anybody may load the file for so many seconds, 7 days at most.

        Browsers are told to save it, not to show it: what guests make is never a page of ours.

        Raises:
            NotFoundError: nothing is kept under `key`.
            UserInputError: no such time can be.
        """
        ...
