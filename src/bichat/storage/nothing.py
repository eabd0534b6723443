"""The storage that keeps nothing: outputs are for the caller's eyes only, and gone with the result."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final, NoReturn

from bichat.domain import StoredFile
from bichat.errors import NotFoundError
from bichat.sizes import MIB
from bichat.storage.incoming import Incoming
from bichat.storage.keys import split_key

_PIECE_BYTES: Final = MIB


class NoStorage:
    """Implements `FileStorage`: takes everything, counts and hashes it, and forgets it."""

    keeps = False

    async def save(
        self, key: str, chunks: AsyncIterable[bytes], *, name: str, mime_type: str, max_bytes: int
    ) -> StoredFile:
        """What the bytes were; they are not kept."""
        split_key(key)
        incoming = Incoming(chunks, max_bytes)
        async for _ in incoming.chunks(_PIECE_BYTES):
            pass
        return incoming.stored(key, name, mime_type)

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Nothing is ever there.

        Raises:
            NotFoundError: always; says why.
        """
        del start, end
        _refuse(key)
        yield b""

    async def stat(self, key: str) -> StoredFile:
        """Nothing is ever there.

        Raises:
            NotFoundError: always; says why.
        """
        _refuse(key)

    async def delete(self, key: str) -> None:
        """Nothing is to be done."""
        split_key(key)

    async def url(self, key: str, *, expires_in_s: float) -> str:
        """Nothing is ever there.

        Raises:
            NotFoundError: always; says why.
        """
        del expires_in_s
        _refuse(key)


def _refuse(key: str) -> NoReturn:
    split_key(key)
    raise NotFoundError(
        "this installation keeps no files",
        stage="storage",
        remedy="Set BICHAT_STORAGE_URL to a place, such as file:///srv/bichat/files, for files that are to be kept.",
    )
