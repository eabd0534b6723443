"""Files in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.

    <prefix>/<key>/content      the bytes, in parts of 8 MiB where there are more
    <prefix>/<key>/card.json    name, MIME type, size, sha256, time: written last, deleted first

A file is there when its card is, so that one that is only half there is never seen.  `obstore` (a binding of Rust's
`object_store`) speaks to the store; it retries what may be retried, and nothing here runs anybody's code twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from bichat.domain import StoredFile
from bichat.errors import NotFoundError, StorageError
from bichat.names import printable, safe_file_name
from bichat.sizes import MIB
from bichat.storage import card
from bichat.storage.incoming import Incoming
from bichat.storage.keys import split_key
from bichat.storage.links import check_expiry
from bichat.storage.ranges import clipped

if TYPE_CHECKING:
    from obstore.store import ObjectStore

#: Of one part of a large file, and of a small file that is sent at once; S3 takes 10,000 parts.
_PART_BYTES: Final = 8 * MIB
_PARTS_AT_ONCE: Final = 2
_PIECE_BYTES: Final = MIB
_REASON_CHARS: Final = 200
_MIME_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)

_CREDENTIALS: Final = (
    "See that the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or those of your cloud) may "
    "read, write and delete there."
)
_REACH: Final = "See that the store of BICHAT_STORAGE_URL is up, and reachable from here."
_BUCKET: Final = "Make the bucket that BICHAT_STORAGE_URL names, or correct the name."


class ObjectStorage:
    """Implements `FileStorage` in one bucket, which any number of hosts may share."""

    keeps = True

    def __init__(self, store: ObjectStore, *, place: str) -> None:
        """`place` is what errors call the store: its address, without credentials."""
        self._store: Any = store
        self._place = place

    async def save(
        self, key: str, chunks: AsyncIterable[bytes], *, name: str, mime_type: str, max_bytes: int
    ) -> StoredFile:
        """See `FileStorage.save`."""
        import obstore

        split_key(key)
        with suppress(NotFoundError):
            await self.stat(key)
            raise StorageError(f"something is kept under {key} already", stage="storage", remedy="Make a new key.")
        incoming = Incoming(chunks, max_bytes)
        try:
            await self._put(f"{key}/{card.CONTENT}", incoming, _headers(name, mime_type))
            file = incoming.stored(key, name, mime_type)
            with self._in_words():
                await obstore.put_async(self._store, f"{key}/{card.CARD}", card.written(file))
        except BaseException:
            # Whoever wanted it saved deletes the key again: here the store itself may be what fails.
            with anyio.CancelScope(shield=True), suppress(StorageError):
                await self.delete(key)
            raise
        return file

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """See `FileStorage.open`."""
        clipped(start, end, 0)
        file = await self.stat(key)
        position, last = clipped(start, end, file.size_bytes)
        with self._in_words():
            async for piece in self._read(f"{key}/{card.CONTENT}", position, last, file.size_bytes):
                yield piece

    async def stat(self, key: str) -> StoredFile:
        """See `FileStorage.stat`."""
        import obstore

        split_key(key)
        with self._in_words():
            found = await obstore.get_async(self._store, f"{key}/{card.CARD}")
            if found.meta["size"] > card.MAX_CARD_BYTES:
                raise StorageError(f"what the storage says of {key} is spoilt", stage="storage", remedy="Delete it.")
            return card.read(bytes(await found.bytes_async()), key)

    async def delete(self, key: str) -> None:
        """See `FileStorage.delete`."""
        import obstore

        split_key(key)
        for part in (card.CARD, card.CONTENT):
            with suppress(NotFoundError), self._in_words():
                await obstore.delete_async(self._store, f"{key}/{part}")

    async def url(self, key: str, *, expires_in_s: float) -> str:
        """See `FileStorage.url`; the store's own, which it answers itself."""
        import obstore

        expiry = timedelta(seconds=check_expiry(expires_in_s))
        await self.stat(key)
        with self._in_words():
            return await obstore.sign_async(self._store, "GET", f"{key}/{card.CONTENT}", expiry)

    async def _put(self, path: str, incoming: Incoming, headers: dict[str, str]) -> None:
        """All that comes in, at once where it is little, else in parts.

        An upload of many parts that is given up must be ended, or its parts stay in the bucket, unseen and paid for.
        The store ends it when its source fails, but not when it is cancelled: so it never is, and its source fails.
        """
        pieces = incoming.chunks(_PIECE_BYTES)
        first: list[bytes] = []
        while len(first) * _PIECE_BYTES < _PART_BYTES and (piece := await anext(pieces, b"")):
            first.append(piece)
        if incoming.size_bytes < _PART_BYTES:
            await self._upload(path, b"".join(first), headers)
            return
        send, receive = anyio.create_memory_object_stream[bytes | None](0)
        upload = asyncio.create_task(self._upload(path, _until_given_up(receive), headers))
        # One that fails asks for no more, and does not say so to who stands there with the next piece.
        upload.add_done_callback(lambda _: receive.close())
        try:
            with (
                send,
                suppress(anyio.BrokenResourceError),
            ):  # it has ended before its source: what it raised comes below
                while first:
                    await send.send(first.pop(0))
                async for piece in pieces:
                    await send.send(piece)
            await asyncio.shield(upload)
        except BaseException:
            with anyio.CancelScope(shield=True):
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await send.send(None)
                await asyncio.wait([upload])
            upload.exception()
            raise

    async def _upload(self, path: str, content: bytes | AsyncIterator[bytes], headers: dict[str, str]) -> None:
        import obstore

        try:
            with self._in_words():
                await obstore.put_async(
                    self._store,
                    path,
                    content,
                    attributes=headers,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                    use_multipart=not isinstance(content, bytes),
                )
        except NotFoundError as error:
            raise self._failed("there is no such bucket", _BUCKET) from error

    async def _read(self, path: str, start: int, end: int, size_bytes: int) -> AsyncGenerator[bytes]:
        import obstore

        if start == end:
            return
        skip = 0
        if (start, end) == (0, size_bytes):
            found = await obstore.get_async(self._store, path)
        else:
            try:
                found = await obstore.get_async(self._store, path, options={"range": (start, end)})
            except obstore.exceptions.GenericError as error:
                if "non-partial response" not in str(error):
                    raise
                # The store knows no ranges: the way to the first byte leads over all before it.
                found, skip = await obstore.get_async(self._store, path), start
        left = end - start
        async for chunk in found.stream(min_chunk_size=_PIECE_BYTES):
            piece = bytes(chunk)[skip : skip + left]
            skip -= min(skip, len(chunk))
            left -= len(piece)
            for offset in range(0, len(piece), _PART_BYTES):
                yield piece[offset : offset + _PART_BYTES]
            if not left:
                return
        raise StorageError(f"{path} is shorter than it was", stage="storage", remedy="Restore it from a backup.")

    @contextmanager
    def _in_words(self) -> Generator[None]:
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._failed("there is no such bucket", _BUCKET) from error
            raise NotFoundError("nothing is kept under this key", stage="storage") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise self._failed("it refuses us", _CREDENTIALS) from error
        except exceptions.BaseError as error:
            raise self._failed(_reason(error), _REACH) from error

    def _failed(self, reason: str, remedy: str) -> StorageError:
        return StorageError(f"the object store {self._place}: {reason}", stage="storage", remedy=remedy)


class _GivenUpError(Exception):
    """The source of an upload will not come to its end."""


async def _until_given_up(pieces: MemoryObjectReceiveStream[bytes | None]) -> AsyncGenerator[bytes]:
    with pieces:
        async for piece in pieces:
            if piece is None:
                raise _GivenUpError
            yield piece


def _headers(name: str, mime_type: str) -> dict[str, str]:
    """What browsers that load the file from the store are told: its kind, and to save it under its name."""
    file_name = quote(safe_file_name(name).name, safe="")
    return {
        "Content-Type": mime_type if _MIME_TYPE.fullmatch(mime_type) else "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{file_name}",
    }


def _reason(error: Exception) -> str:
    """The first line, without the address that was asked: a signed one is a secret."""
    line = str(error).partition("\n")[0]
    return printable(re.sub(r"\S+://\S+", "…", line))[:_REASON_CHARS]
