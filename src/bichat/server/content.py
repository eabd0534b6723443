"""The bytes of files on their way in and out."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bichat.names import MAX_NAME_BYTES, printable, safe_file_name
from bichat.storage import FileStorage

_CHUNK_BYTES: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


class _Kept(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def mime_type(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


async def chunks_of(upload: UploadFile) -> AsyncGenerator[bytes]:
    """What was uploaded, in pieces."""
    while chunk := await upload.read(_CHUNK_BYTES):
        yield chunk


async def download(request: Request, storage: FileStorage, kept: _Kept, key: str) -> Response:
    """The bytes under `key`, whole or the range that was asked for: to be saved, never to be shown as a page of ours.

    Raises:
        StorageError: they cannot be read.
    """
    start, end = _wanted(request.headers.get("range", ""), kept.size_bytes)
    headers = {
        "content-disposition": disposition(kept.name),
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
    }
    if start is None:
        headers["content-range"] = f"bytes */{kept.size_bytes}"
        return Response(status_code=416, headers=headers)
    headers["content-length"] = str(end - start)
    if is_part := (start, end) != (0, kept.size_bytes):
        headers["content-range"] = f"bytes {start}-{end - 1}/{kept.size_bytes}"
    return StreamingResponse(
        _pieces(storage, key, start, end),
        status_code=206 if is_part else 200,
        media_type=_media_type(kept.mime_type),
        headers=headers,
    )


async def _pieces(storage: FileStorage, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
    async with aclosing(storage.open(key, start=start, end=end)) as pieces:
        async for piece in pieces:
            yield piece


def disposition(name: str) -> str:
    """`Content-Disposition` for a name that anybody chose: in ASCII for old programs, in UTF-8 for others."""
    safe = safe_file_name(name).name
    plain = re.sub(r'[^\x20-\x7e]|["\\%;]', "_", safe)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def file_name(upload: UploadFile) -> str:
    """What an uploaded file is called: the last part of what its sender says, however that is written."""
    given = (upload.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return printable(given) if given.strip(".") else "file"


def name_below(prefix: str, name: str) -> str:
    """`prefix-name`, shortened where no folder could have it."""
    whole = f"{prefix}-{name}"
    return whole if len(whole.encode()) <= MAX_NAME_BYTES else safe_file_name(whole).name


def _media_type(mime_type: str) -> str:
    return mime_type if re.fullmatch(r"[\w.+-]+/[\w.+-]+", mime_type, re.ASCII) else "application/octet-stream"


def _wanted(header: str, size: int) -> tuple[Any, int]:
    """First byte and the one behind the last; None for a range that lies outside.  What is no single range is all."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        count = min(int(last), size)
        return (size - count, size) if count else (None, 0)
    start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end) if start < min(end, size) else (None, 0)
