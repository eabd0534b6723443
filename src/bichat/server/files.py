"""`/v1/files`: what people upload."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bichat.errors import NotFoundError
from bichat.repository.records import CodeInterpreterOutput, FileRecord
from bichat.sandbox.mime import HEAD_BYTES, sniff
from bichat.server import naming
from bichat.server.content import chunks_of, download, file_name
from bichat.server.document import operation
from bichat.server.door import caller_of, services_of
from bichat.server.forms import announced_file_bytes, file_of, form_of, text_of
from bichat.server.lists import as_list, asked, pages_of, parameters, part
from bichat.server.problems import FieldError, MissingError
from bichat.server.schemas import (
    COUNT,
    Choice,
    Flag,
    Id,
    Integer,
    Nullable,
    Object,
    Text,
    Upload,
    answer,
    constant,
    list_of,
)
from bichat.server.services import Caller, Services
from bichat.sizes import MIB

#: Largest file, as on OpenAI's service.
MOST_BYTES: Final = 512 * MIB
_PURPOSE: Final = Choice(("fine-tune", "assistants", "batch", "user_data", "vision", "evals"))
#: Purpose of files that code made.
MADE: Final = "assistants_output"
_MOST_LISTED: Final = 10_000
_EXPIRY_S: Final = Integer(least=3600, most=30 * 24 * 3600)
_ANCHOR: Final = Choice(("created_at",))
FORM: Final = Object(
    name="FileUpload",
    fields={
        "file": Upload(),
        "purpose": _PURPOSE,
        "expires_after[anchor]": _ANCHOR,
        "expires_after[seconds]": _EXPIRY_S,
    },
    required=("file", "purpose"),
    is_open=True,
)

FILE: Final = answer(
    "File",
    {
        "id": Id((naming.FILE,)),
        "object": constant("file"),
        "bytes": COUNT,
        "created_at": COUNT,
        "expires_at": Nullable(COUNT),
        "filename": Text(),
        "purpose": Choice((*_PURPOSE.words, MADE)),
        "status": constant("processed"),
        "status_details": Nullable(Text()),
    },
)
FILES: Final = list_of(FILE, "FileList")
FILE_DELETED: Final = answer("", {"id": Id((naming.FILE,)), "object": constant("file"), "deleted": Flag()})
_LISTED: Final = {**parameters(naming.FILE, most=_MOST_LISTED, usual=_MOST_LISTED), "purpose": Text()}

router = APIRouter(tags=["files"])
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


@router.post("/files", openapi_extra=operation(form=FORM, gives=FILE))
async def upload(request: Request, caller: Who, services: What) -> dict[str, Any]:
    """Upload a file; `purpose` says what for."""
    await services.archive.check_room(caller.tenant, announced_file_bytes(request))
    async with form_of(request) as form:
        purpose = text_of(form, "purpose")
        if purpose is None:
            raise FieldError("'purpose' is a required property", param="purpose", wire_code=None)
        if purpose not in _PURPOSE.words:
            allowed = ", ".join(map(repr, _PURPOSE.words))
            raise FieldError(
                f"'{purpose[:100]}' is not one of [{allowed}] - 'purpose'", param="purpose", wire_code=None
            )
        expires_at = _expiry(text_of(form, "expires_after[anchor]"), text_of(form, "expires_after[seconds]"))
        file = file_of(form)
        name = file_name(file)
        head = await file.read(HEAD_BYTES)
        await file.seek(0)
        kept = await services.archive.upload(
            caller.tenant,
            chunks_of(file),
            name=name,
            mime_type=sniff(name, head, is_complete=len(head) < HEAD_BYTES),
            purpose=purpose,
            max_bytes=MOST_BYTES,
            expected_bytes=file.size or 0,
            user=caller.user,
            expires_at=expires_at,
        )
    return file_object(kept)


@router.get("/files", openapi_extra=operation(query=_LISTED, gives=FILES))
async def page(request: Request, caller: Who, services: What) -> dict[str, Any]:
    """Those that were uploaded, newest first; with the purpose `assistants_output` those that code made."""
    purpose = request.query_params.get("purpose")
    wanted = asked(request.query_params, naming.FILE, most=_MOST_LISTED, usual=_MOST_LISTED)
    if purpose == MADE:
        outputs = services.repository.outputs
        made = await part(pages_of(await _all_outputs(services, caller)), wanted, partial(outputs.get, caller.tenant))
        return as_list(list(map(file_object, made.rows)), has_more=made.has_more)
    found = await part(
        partial(services.repository.files.page, caller.tenant, purpose=purpose, in_session=False),
        wanted,
        partial(services.repository.files.get, caller.tenant),
        is_listed=_is_upload,
    )
    return as_list([file_object(file) for file in found.rows], has_more=found.has_more)


async def _all_outputs(services: Services, caller: Caller) -> list[CodeInterpreterOutput]:
    found: list[CodeInterpreterOutput] = []
    cursor = ""
    while len(found) < _MOST_LISTED:
        page = await services.repository.outputs.page(caller.tenant, limit=100, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if not cursor:
            break
    return found


@router.get("/files/{file_id}", openapi_extra=operation(gives=FILE))
async def retrieve(file_id: str, caller: Who, services: What) -> dict[str, Any]:
    """One of them."""
    return file_object(await _find_any(services, caller, file_id))


@router.get("/files/{file_id}/content", openapi_extra=operation(is_file=True))
async def content(file_id: str, request: Request, caller: Who, services: What) -> Response:
    """Its bytes."""
    file = await _find_any(services, caller, file_id)
    return await download(request, services.storage, file, file.storage_key)


@router.delete("/files/{file_id}", openapi_extra=operation(gives=FILE_DELETED))
async def delete(file_id: str, caller: Who, services: What) -> dict[str, Any]:
    """Delete it; containers that have a copy keep that."""
    file = await _find_any(services, caller, file_id)
    repository = services.repository
    await (repository.files if isinstance(file, FileRecord) else repository.outputs).delete(caller.tenant, file.id)
    return {"id": naming.on_wire(naming.FILE, file.id), "object": "file", "deleted": True}


async def find(services: Services, caller: Caller, file_id: str) -> FileRecord:
    """The file with this id on the wire.

    Raises:
        MissingError: there is none.
    """
    try:
        file = await services.repository.files.get(caller.tenant, naming.row_id(file_id, naming.FILE))
    except NotFoundError as error:
        raise _missing(file_id) from error
    if not _is_upload(file):
        raise _missing(file_id)
    return file


async def _find_any(services: Services, caller: Caller, file_id: str) -> FileRecord | CodeInterpreterOutput:
    """As `find`, or what code made: threads know that by ids of the same form."""
    try:
        return await find(services, caller, file_id)
    except MissingError:
        try:
            return await services.repository.outputs.get(caller.tenant, naming.row_id(file_id, naming.FILE))
        except NotFoundError as error:
            raise _missing(file_id) from error


def _missing(file_id: str) -> MissingError:
    return MissingError(f"No such File object: {file_id[:100]}", param="id")


def file_object(file: FileRecord | CodeInterpreterOutput) -> dict[str, Any]:
    """As the wire has it."""
    is_upload = isinstance(file, FileRecord)
    return {
        "id": naming.on_wire(naming.FILE, file.id),
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()) if is_upload and file.expires_at is not None else None,
        "filename": file.name,
        "purpose": file.purpose if is_upload else MADE,
        "status": "processed",
        "status_details": None,
    }


def _is_upload(file: FileRecord) -> bool:
    """And not what belongs to a session."""
    if file.expires_at is not None and file.expires_at <= datetime.now(UTC):
        return False
    return file.session_id is None


def _expiry(anchor: str | None, seconds: str | None) -> datetime | None:
    if anchor is None and seconds is None:
        return None
    _ANCHOR.check(anchor, "expires_after.anchor")
    if seconds is None or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 12):
        raise FieldError(
            "Invalid type for 'expires_after.seconds': expected an integer.",
            param="expires_after.seconds",
            wire_code="invalid_type",
        )
    _EXPIRY_S.check(int(seconds), "expires_after.seconds")
    return datetime.now(UTC) + timedelta(seconds=int(seconds))
