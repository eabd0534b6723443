"""Bytes on their way between threads, sandboxes and storages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Final

import anyio.to_thread

from bichat.domain import Content

_END: Final = object()


async def chunks_of(content: Content) -> AsyncGenerator[bytes]:
    """The bytes of an artifact, each piece read in a worker thread.

    Raises:
        StorageError: the disk does not give them back.
    """
    pieces: Iterator[bytes] = content.chunks()
    while (piece := await anyio.to_thread.run_sync(next, pieces, _END)) is not _END:
        yield piece  # pyright: ignore[reportReturnType]  # the end is none
