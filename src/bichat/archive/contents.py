"""Bytes on their way between threads, sandboxes and storages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Final

import anyio.to_thread

from bichat.domain import Artifact, Content, StoredFile
from bichat.errors import StorageError
from bichat.storage import FileStorage

_END: Final = object()


async def chunks_of(content: Content) -> AsyncGenerator[bytes]:
    """The bytes of an artifact, each piece read in a worker thread.

    Raises:
        StorageError: the disk does not give them back.
    """
    pieces: Iterator[bytes] = content.chunks()
    while (piece := await anyio.to_thread.run_sync(next, pieces, _END)) is not _END:
        yield piece  # pyright: ignore[reportReturnType]  # the end is none


async def saved(storage: FileStorage, key: str, artifact: Artifact) -> StoredFile:
    """An artifact's bytes under `key`, the same that came out of the sandbox; where this raises they are not there.

    Raises:
        StorageError: the storage does not take them, or has got others.
    """
    stored = await storage.save(
        key,
        chunks_of(artifact.content),
        name=artifact.name,
        mime_type=artifact.mime_type,
        max_bytes=artifact.size_bytes,
    )
    if stored.sha256 != artifact.sha256:
        await storage.delete(key)
        raise StorageError(
            f"'{artifact.name}' was changed on its way into the storage",
            stage="storage",
            remedy="Look at the disk of the data directory.",
        )
    return stored
