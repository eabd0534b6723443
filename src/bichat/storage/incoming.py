"""A file on its way into a storage: its bytes are counted, hashed and bounded as they pass."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from datetime import UTC, datetime

from bichat.domain import StoredFile
from bichat.errors import LimitError
from bichat.sizes import format_size


class Incoming:
    """Wraps the bytes that come; afterwards it knows what they were."""

    def __init__(self, chunks: AsyncIterable[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    async def chunks(self, piece_bytes: int) -> AsyncGenerator[bytes]:
        """The same bytes in pieces of exactly `piece_bytes`, but for the last; no piece for an empty file.

        Raises:
            LimitError: more than `max_bytes` came.
        """
        waiting = bytearray()
        async for chunk in self._chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > self._max_bytes:
                raise too_large(self._max_bytes)
            self._digest.update(chunk)
            waiting += chunk
            while len(waiting) >= piece_bytes:
                with memoryview(waiting) as view:
                    piece = bytes(view[:piece_bytes])
                yield piece
                del waiting[:piece_bytes]
        if waiting:
            yield bytes(waiting)

    def stored(self, key: str, name: str, mime_type: str) -> StoredFile:
        """What has come, once it has come to its end."""
        return StoredFile(
            key=key,
            name=name,
            mime_type=mime_type,
            size_bytes=self.size_bytes,
            sha256=self._digest.hexdigest(),
            created_at=datetime.now(UTC),
        )


def too_large(max_bytes: int) -> LimitError:
    """What who brings more than `max_bytes` is told."""
    return LimitError(
        f"the file is larger than {format_size(max_bytes)}",
        stage="storage",
        remedy="Keep a smaller file, or have the operator raise the limit.",
    )
