"""Files that come out of another server: loaded once each, checked, and kept aside until they are stored."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import tempfile
from collections.abc import AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import anyio
import anyio.to_thread

from bichat.clients.options import ClientOptions
from bichat.clients.wire import Server
from bichat.domain import Artifact, RefusedFile
from bichat.errors import BichatError, LimitError, RemoteServiceError, StorageError
from bichat.names import with_suffix
from bichat.sandbox import mime
from bichat.sandbox.spool import Spool
from bichat.sizes import format_size

_FOLDER: Final = "/mnt/data/"
_TOO_MANY: Final = "one file too many: {most:,} are loaded"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One that a server has for us."""

    id: str
    content: str
    """Where its bytes are: a path of the server's."""
    about: str = ""
    """Where name and size are told; empty where they are known."""
    name: str = ""
    size_bytes: int | None = None
    """As the server announced it: what came is what counts."""
    source: str = "file"
    """As `Artifact.source`."""


@dataclass(slots=True)
class Loaded:
    """What came of loading."""

    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    refused: list[RefusedFile] = field(default_factory=list[RefusedFile])
    """What did not come, with the reason."""
    failures: list[BichatError] = field(default_factory=list[BichatError])
    """The same as errors."""
    notes: list[str] = field(default_factory=list[str])


class Loader:
    """Loads what one execution left behind."""

    def __init__(self, server: Server, options: ClientOptions) -> None:
        """Nothing is opened yet."""
        self._server = server
        self._options = options
        self._spool = Spool(options.spool_folder or Path(tempfile.gettempdir()))
        self.loaded = Loaded()

    async def load(self, files: Sequence[RemoteFile]) -> None:
        """Load each; one that cannot be had keeps no other from coming."""
        for number, file in enumerate(files):
            known = file
            try:
                self._check_number(number)
                known = await self._described(file)
                await self._load(known)
            except (RemoteServiceError, LimitError, StorageError) as error:
                self._refuse(known.name or known.id, error)

    def keep_image(self, url: str) -> None:
        """An image that came inside of an answer, unless its bytes came as a file already."""
        head, comma, data = url.partition(",")
        if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
            return
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:
            self.loaded.notes.append("An image in the answer could not be read.")
            return
        digest = hashlib.sha256(content).hexdigest()
        if any(artifact.sha256 == digest for artifact in self.loaded.artifacts):
            return
        extension = re.match(r"data:image/([a-z0-9]*)", head)
        offset = self._spool.size_bytes
        self._spool.append(content)
        self._add(
            f"figure.{extension[1] if extension else 'bin'}", "display", offset, digest, content[: mime.HEAD_BYTES]
        )

    def _check_number(self, number: int) -> None:
        if number >= self._options.max_files:
            raise LimitError(_TOO_MANY.format(most=self._options.max_files), stage="download")

    async def _described(self, file: RemoteFile) -> RemoteFile:
        if not file.about:
            return file
        about = (await self._server.get(file.about, stage="download")).body
        name, size = about.get("filename"), about.get("bytes")
        return RemoteFile(
            id=file.id,
            content=file.content,
            name=_best_name(file.name, plain_name(name)) or file.id,
            size_bytes=size if isinstance(size, int) else None,
            source=file.source,
        )

    async def _load(self, file: RemoteFile) -> None:
        offset, digest, head = await self._received(file)
        size = self._spool.size_bytes - offset
        if file.size_bytes not in (None, size):
            # Cut on its way in spite of a sound answer, or announced wrongly: the second time tells which.
            self._spool.cut(offset)
            offset, again, head = await self._received(file)
            size = self._spool.size_bytes - offset
            if size != file.size_bytes and again != digest:
                self._spool.cut(offset)
                raise RemoteServiceError(
                    f"the server gives other bytes each time, and announced {file.size_bytes:,} of them",
                    stage="download",
                    is_retryable=True,
                    ran=True,
                )
            if size != file.size_bytes:
                self.loaded.notes.append(
                    f"The server announced {file.size_bytes:,} bytes for {file.name}, and gave {size:,} twice: "
                    "those are kept."
                )
            digest = again
        self._add(file.name, file.source, offset, digest, head)

    async def _received(self, file: RemoteFile) -> tuple[int, str, bytes]:
        """Where in the spool it begins, its hash and its first bytes; tried again where it breaks off."""
        attempt = 0
        while True:
            offset = self._spool.size_bytes
            try:
                async with self._server.content(file.content) as pieces, aclosing(pieces):
                    return offset, *await self._spooled(pieces)
            except RemoteServiceError as error:
                self._spool.cut(offset)
                if not error.is_retryable or attempt >= self._options.retries:
                    raise
                logger.info("a download broke off and is tried again: %s", error)
            except BaseException:
                self._spool.cut(offset)
                raise
            attempt += 1
            await anyio.sleep(self._server.wait_s(attempt))

    async def _spooled(self, pieces: AsyncIterable[bytes]) -> tuple[str, bytes]:
        hasher, head, size = hashlib.sha256(), b"", 0
        most = self._options.max_file_bytes
        async for piece in pieces:
            size += len(piece)
            if size > most:
                raise LimitError(
                    f"larger than {format_size(most)}", stage="download", remedy="Raise the option max_file_bytes."
                )
            hasher.update(piece)
            head += piece[: mime.HEAD_BYTES - len(head)]
            await anyio.to_thread.run_sync(self._spool.append, piece)
        return hasher.hexdigest(), head

    def _add(self, name: str, source: str, offset: int, digest: str, head: bytes) -> None:
        size = self._spool.size_bytes - offset
        taken = {artifact.name for artifact in self.loaded.artifacts}
        number, free = 2, name
        while free in taken:
            free, number = with_suffix(name, f" ({number})"), number + 1
        self.loaded.artifacts.append(
            Artifact(
                name=free,
                mime_type=mime.sniff(free, head, is_complete=size <= mime.HEAD_BYTES),
                size_bytes=size,
                sha256=digest,
                source=source,
                content=self._spool.content(offset, size),
            )
        )

    def _refuse(self, name: str, error: BichatError) -> None:
        logger.warning("a file could not be loaded: %s", error)
        self.loaded.refused.append(RefusedFile(name=name, reason=error.message))
        self.loaded.failures.append(error)


def plain_name(name: Any) -> str:
    """A name below `/mnt/data`, of what servers write in its place: a path, a link; empty where there is none."""
    if not isinstance(name, str):
        return ""
    whole = name.encode("utf-8", "backslashreplace").decode()
    return whole.removeprefix("sandbox:").removeprefix(_FOLDER).strip("/")


def _best_name(cited: str, told: str) -> str:
    """Of what an answer calls a file and what the server does: the one with its folders, as it is without escapes."""
    for name in (cited, unquote(cited)):
        if name and (not told or name == told or name.endswith(f"/{told}")):
            return name
    return told
