"""Files that come within a request, as data: each is kept like an uploaded one, and goes with the item that it came in."""

from __future__ import annotations

import base64
import logging
import mimetypes
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

import anyio

from bichat.archive import Archive
from bichat.conversation import parts
from bichat.conversation.request import Said
from bichat.errors import BichatError, NotFoundError
from bichat.names import safe_file_name
from bichat.repository.records import FileRecord, Part
from bichat.sandbox.mime import HEAD_BYTES, sniff
from bichat.server.problems import FieldError
from bichat.server.services import Caller

Json = Mapping[str, Any]

#: Files and images in one request, as data.
MOST_ENCLOSED: Final = 50
#: What they are kept for, as `FileRecord.purpose`.
PURPOSE: Final = "user_data"
#: In the content of a part: its file came with it, and goes with it.
_IS_OWN: Final = "is_own"
_IMAGE: Final = re.compile(r"image/[\w.+-]{1,60}", re.ASCII)

logger = logging.getLogger(__name__)


class Enclosures:
    """Of one process."""

    def __init__(self, archive: Archive) -> None:
        """`archive` keeps them."""
        self._archive = archive

    async def kept(self, caller: Caller, said: Sequence[Said], *, expires_at: datetime | None = None) -> list[Said]:
        """The same, with each piece of data kept as a file that code finds; the same one twice is one file.

        Where one cannot be kept, none is.

        Args:
            caller: whose they are.
            said: what was said, with data in it or without.
            expires_at: when they are deleted if nobody has dropped them by then; never, by default.

        Raises:
            FieldError: they are more than `MOST_ENCLOSED`; none is kept.
            LimitError: they are above the tenant's quota.
        """
        if not any(map(_data, (part for each in said for part in each.parts))):
            return list(said)
        check_number(said)
        made: dict[tuple[str, str], FileRecord] = {}
        try:
            return [
                replace(each, parts=tuple([await self._part(caller, part, made, expires_at) for part in each.parts]))
                for each in said
            ]
        except BaseException:
            await self.drop(caller.tenant, [file.id for file in made.values()])
            raise

    async def _part(
        self, caller: Caller, part: Part, made: dict[tuple[str, str], FileRecord], expires_at: datetime | None
    ) -> Part:
        encoded = _data(part)
        if not encoded:
            return part
        name = _name(part)
        file = made.get((name, encoded))
        if file is None:
            file = made[name, encoded] = await self._file(caller, name, part, base64.b64decode(encoded), expires_at)
        rest = {key: value for key, value in part.content.items() if key not in ("url", "data", "name")}
        return Part(kind=part.kind, content={**rest, "file_id": file.id, "name": file.name, _IS_OWN: True})

    async def _file(
        self, caller: Caller, name: str, part: Part, data: bytes, expires_at: datetime | None
    ) -> FileRecord:
        async def chunks() -> AsyncGenerator[bytes]:
            yield data

        kind = sniff(name, data[:HEAD_BYTES], is_complete=len(data) < HEAD_BYTES)
        return await self._archive.upload(
            caller.tenant,
            chunks(),
            name=name,
            # What it is called an image of is all that a model may be told that it is.
            mime_type=_image_type(part) if part.kind == parts.IMAGE and not kind.startswith("image/") else kind,
            purpose=PURPOSE,
            max_bytes=len(data),
            expected_bytes=len(data),
            user=caller.user,
            expires_at=expires_at,
        )

    async def drop(self, tenant: str, file_ids: Iterable[str]) -> None:
        """Delete them; not to be cancelled, and nothing is raised."""
        with anyio.CancelScope(shield=True):
            for file_id in file_ids:
                try:
                    await self._archive.repository.files.delete(tenant, file_id)
                except NotFoundError:
                    pass
                except BichatError as error:
                    logger.warning("a file that came with a request could not be deleted: %s", error)


def check_number(said: Sequence[Said]) -> None:
    """Nothing, where no more than `MOST_ENCLOSED` files and images are enclosed.

    Raises:
        FieldError: they are more; names the first that is too many.
    """
    count = 0
    for number, each in enumerate(said):
        for place, part in enumerate(each.parts):
            count += bool(_data(part))
            if count > MOST_ENCLOSED:
                raise FieldError(
                    f"Invalid 'input': at most {MOST_ENCLOSED} files and images are taken as data in one request. "
                    "Upload them with POST /files, and give their file_id.",
                    param=f"input[{number}].content[{place}]",
                    wire_code="array_above_max_length",
                )


def own_files(pieces: Iterable[Part]) -> list[str]:
    """Ids of the files that go with these parts."""
    return [part.content["file_id"] for part in pieces if part.content.get(_IS_OWN)]


def repeated(pieces: Iterable[Part]) -> tuple[Part, ...]:
    """The same parts in another item, with which no file goes."""
    return tuple(
        Part(kind=part.kind, content={key: value for key, value in part.content.items() if key != _IS_OWN})
        for part in pieces
    )


def _data(part: Part) -> str:
    """The base64 of a file or an image that is enclosed; empty for all else."""
    given: Any = part.content.get({parts.FILE: "data", parts.IMAGE: "url"}.get(part.kind, ""))
    if not given or (part.kind == parts.IMAGE and not given.startswith("data:")):
        return ""
    return given.rpartition(",")[2]


def _image_type(part: Part) -> str:
    declared = part.content["url"][:100].removeprefix("data:").partition(";")[0].lower()
    return declared if _IMAGE.fullmatch(declared) else "image/png"


def _name(part: Part) -> str:
    if part.kind == parts.IMAGE:
        return f"image{mimetypes.guess_extension(_image_type(part)) or ''}"
    return str(safe_file_name(PurePosixPath(part.content["name"]).name or "file"))
