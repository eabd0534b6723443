"""Files in the memory of this process, for trials and tests: gone with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final

from bichat.domain import StoredFile
from bichat.errors import NotFoundError, StorageError
from bichat.sizes import MIB
from bichat.storage.incoming import Incoming
from bichat.storage.keys import split_key
from bichat.storage.links import DownloadLinks
from bichat.storage.ranges import clipped

_PIECE_BYTES: Final = MIB


class MemoryStorage:
    """Implements `FileStorage` for one process."""

    keeps = True

    def __init__(self, links: DownloadLinks) -> None:
        self._links = links
        self._files: dict[str, tuple[StoredFile, bytes]] = {}

    async def save(
        self, key: str, chunks: AsyncIterable[bytes], *, name: str, mime_type: str, max_bytes: int
    ) -> StoredFile:
        """See `FileStorage.save`."""
        split_key(key)
        incoming = Incoming(chunks, max_bytes)
        content = b"".join([piece async for piece in incoming.chunks(_PIECE_BYTES)])
        if key in self._files:
            raise StorageError(f"something is kept under {key} already", stage="storage", remedy="Make a new key.")
        file = incoming.stored(key, name, mime_type)
        self._files[key] = (file, content)
        return file

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """See `FileStorage.open`."""
        clipped(start, end, 0)
        _, content = self._found(key)
        position, last = clipped(start, end, len(content))
        for offset in range(position, last, _PIECE_BYTES):
            yield content[offset : min(offset + _PIECE_BYTES, last)]

    async def stat(self, key: str) -> StoredFile:
        """See `FileStorage.stat`."""
        return self._found(key)[0]

    async def delete(self, key: str) -> None:
        """See `FileStorage.delete`."""
        split_key(key)
        self._files.pop(key, None)

    async def url(self, key: str, *, expires_in_s: float) -> str:
        """See `FileStorage.url`; answered by `bichat serve`."""
        self._found(key)
        return self._links.url(key, expires_in_s)

    def _found(self, key: str) -> tuple[StoredFile, bytes]:
        split_key(key)
        try:
            return self._files[key]
        except KeyError:
            raise NotFoundError("nothing is kept under this key", stage="storage") from None
