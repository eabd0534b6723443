"""`/v1/containers`: sessions and the files in them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bichat.domain import Limits
from bichat.errors import NotFoundError
from bichat.live_sessions import FileOfSession
from bichat.repository.ids import new_id
from bichat.repository.records import SessionRecord
from bichat.server import checks, naming
from bichat.server.content import chunks_of, download, file_name, name_below
from bichat.server.document import operation
from bichat.server.door import caller_of, services_of
from bichat.server.files import find as find_file
from bichat.server.forms import announced_file_bytes, file_of, form_of, is_form, json_body
from bichat.server.lists import as_list, asked, pages_of, parameters, part
from bichat.server.network import NoNetwork
from bichat.server.problems import ANOTHER_CONTAINER, FieldError, MissingError
from bichat.server.schemas import (
    COUNT,
    Array,
    Choice,
    Id,
    Integer,
    Object,
    Refused,
    Text,
    Upload,
    answer,
    constant,
    deleted,
    list_of,
)
from bichat.server.services import Caller, Services
from bichat.sizes import GIB, format_size

#: Sizes that the wire knows; one below all of them is told as the smallest.
MEMORY: Final = {"1g": GIB, "4g": 4 * GIB, "16g": 16 * GIB, "64g": 64 * GIB}
_MOST_FILES: Final = 50
#: No operator's bound is above a year.
MOST_MINUTES: Final = 366 * 24 * 60
BODY: Final = Object(
    name="ContainerRequest",
    fields={
        "name": Text(most=256),
        "expires_after": Object(
            # How many at most is the operator's bound.
            fields={"anchor": Choice(("last_active_at",)), "minutes": Integer(least=1, most=MOST_MINUTES)},
            required=("minutes",),
            is_open=True,
        ),
        "file_ids": Array(Id((naming.FILE,)), _MOST_FILES),
        "memory_limit": Choice(tuple(MEMORY)),
        "network_policy": NoNetwork(),
        "skills": Refused("skills are not served here", or_empty=True),
    },
    required=("name",),
)
FILE_BODY: Final = Object(name="ContainerFileRequest", fields={"file_id": Id((naming.FILE,))}, required=("file_id",))
FORM: Final = Object(name="ContainerFileUpload", fields={"file": Upload()}, required=("file",), is_open=True)
_ID: Final = Id((naming.CONTAINER,))
CONTAINER: Final = answer(
    "Container",
    {
        "id": _ID,
        "object": constant("container"),
        "created_at": COUNT,
        "status": Choice(("running", "expired")),
        "expires_after": answer("", {"anchor": constant("last_active_at"), "minutes": COUNT}),
        "last_active_at": COUNT,
        "memory_limit": Choice(tuple(MEMORY)),
        "name": Text(),
        "network_policy": answer("", {"type": constant("disabled")}),
    },
)
CONTAINERS: Final = list_of(CONTAINER, "ContainerList")
CONTAINER_DELETED: Final = deleted("container", naming.CONTAINER)
FILE: Final = answer(
    "ContainerFile",
    {
        "id": Id((naming.CONTAINER_FILE,)),
        "object": constant("container.file"),
        "created_at": COUNT,
        "bytes": COUNT,
        "container_id": _ID,
        "path": Text(),
        "source": Choice(("user", "assistant")),
    },
)
FILES: Final = list_of(FILE, "ContainerFileList")
FILE_DELETED: Final = deleted("container.file", naming.CONTAINER_FILE)
_LISTED: Final = {**parameters(naming.CONTAINER), "name": Text()}

router = APIRouter(tags=["containers"])
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


@router.post("/containers", openapi_extra=operation(body=BODY, gives=CONTAINER))
async def create(request: Request, caller: Who, services: What) -> dict[str, Any]:
    """A container: a fresh session."""
    body = await json_body(request)
    BODY.check(body, "")
    minutes = _minutes(body.get("expires_after"), services.settings.bounds)
    check_memory(body.get("memory_limit"), services.settings.bounds, "memory_limit")
    files = [await find_file(services, caller, each) for each in body.get("file_ids") or ()]
    record = await services.sessions.open(
        caller.tenant,
        user=caller.user,
        idle_s=None if minutes is None else minutes * 60.0,
        memory=body.get("memory_limit"),
        files=files,
        details={"name": body["name"]},
    )
    return container_object(record)


@router.get("/containers", openapi_extra=operation(query=_LISTED, gives=CONTAINERS))
async def page(request: Request, caller: Who, services: What) -> dict[str, Any]:
    """All of them, expired ones too, newest first."""
    name = request.query_params.get("name")
    found = await part(
        partial(services.repository.sessions.page, caller.tenant),
        asked(request.query_params, naming.CONTAINER),
        partial(services.repository.sessions.get, caller.tenant),
        is_listed=lambda record: name in (None, container_object(record)["name"]),
    )
    return as_list([container_object(session) for session in found.rows], has_more=found.has_more)


@router.get("/containers/{container_id}", openapi_extra=operation(gives=CONTAINER))
async def retrieve(container_id: str, caller: Who, services: What) -> dict[str, Any]:
    """One of them; looking at it counts as use."""
    return container_object(
        await services.sessions.touched(caller.tenant, (await find(services, caller, container_id)).id)
    )


@router.delete("/containers/{container_id}", openapi_extra=operation(gives=CONTAINER_DELETED))
async def delete(container_id: str, caller: Who, services: What) -> dict[str, Any]:
    """End it, and delete all that it left."""
    record = await find(services, caller, container_id)
    await services.sessions.delete(caller.tenant, record.id)
    return {"id": naming.on_wire(naming.CONTAINER, record.id), "object": "container.deleted", "deleted": True}


@router.post("/containers/{container_id}/files", openapi_extra=operation(body=FILE_BODY, form=FORM, gives=FILE))
async def put(container_id: str, request: Request, caller: Who, services: What) -> dict[str, Any]:
    """Put a file into it: one that is uploaded with the request, or one of `/v1/files`."""
    record = await _live(services, caller, container_id)
    if is_form(request.headers):
        await services.archive.check_room(caller.tenant, announced_file_bytes(request))
        async with form_of(request) as form:
            upload = file_of(form)
            name = name_below(new_id().replace("-", ""), file_name(upload))
            return file_object(record, await services.sessions.put(caller.tenant, record.id, name, chunks_of(upload)))
    body = await json_body(request)
    if body.get("file_id") is None:
        raise FieldError("Either a multipart 'file' or a 'file_id' is required.", param="file_id", wire_code=None)
    FILE_BODY.check(body, "")
    file = await find_file(services, caller, body["file_id"])
    await services.sessions.mount(caller.tenant, record.id, [file])
    path = services.sessions.path_of(file)
    for there in await services.sessions.files(caller.tenant, record.id):
        if there.path == path:
            return file_object(record, there)
    raise MissingError("The file was removed from the container meanwhile.", param="file_id")


@router.get(
    "/containers/{container_id}/files", openapi_extra=operation(query=parameters(naming.CONTAINER_FILE), gives=FILES)
)
async def files(container_id: str, request: Request, caller: Who, services: What) -> dict[str, Any]:
    """What lies in it, newest first."""
    record = await find(services, caller, container_id)
    there = await services.sessions.files(caller.tenant, record.id)
    found = await part(
        pages_of(there),
        asked(request.query_params, naming.CONTAINER_FILE),
        partial(services.sessions.file, caller.tenant, record.id),
    )
    return as_list([file_object(record, file) for file in found.rows], has_more=found.has_more)


@router.get("/containers/{container_id}/files/{file_id}", openapi_extra=operation(gives=FILE))
async def file(container_id: str, file_id: str, caller: Who, services: What) -> dict[str, Any]:
    """One of its files; of one that code wrote over or deleted since, what it was."""
    record = await find(services, caller, container_id)
    return file_object(record, await _file(services, caller, record, file_id))


@router.get("/containers/{container_id}/files/{file_id}/content", openapi_extra=operation(is_file=True))
async def content(container_id: str, file_id: str, request: Request, caller: Who, services: What) -> Response:
    """Its bytes."""
    record = await find(services, caller, container_id)
    found = await _file(services, caller, record, file_id)
    return await download(request, services.storage, found.record, found.record.storage_key)


@router.delete("/containers/{container_id}/files/{file_id}", openapi_extra=operation(gives=FILE_DELETED))
async def remove(container_id: str, file_id: str, caller: Who, services: What) -> dict[str, Any]:
    """Remove it from the container; what code has put in its place stays."""
    record = await find(services, caller, container_id)
    found = await _file(services, caller, record, file_id)
    await services.sessions.remove(caller.tenant, record.id, found.id)
    return {
        "id": naming.on_wire(naming.CONTAINER_FILE, found.id),
        "object": "container.file.deleted",
        "deleted": True,
    }


async def find(services: Services, caller: Caller, container_id: str) -> SessionRecord:
    """The session of an id on the wire.

    Raises:
        MissingError: there is none.
    """
    try:
        return await services.sessions.record(caller.tenant, naming.row_id(container_id, naming.CONTAINER))
    except NotFoundError as error:
        raise MissingError(f"Container with id '{container_id[:100]}' not found.", param="container_id") from error


async def _live(services: Services, caller: Caller, container_id: str) -> SessionRecord:
    record = await find(services, caller, container_id)
    if record.end_reason:
        raise FieldError(
            f"Container with id '{container_id}' has expired ({record.end_reason}). {ANOTHER_CONTAINER}",
            param="container_id",
            wire_code="container_expired",
        )
    return record


async def _file(services: Services, caller: Caller, record: SessionRecord, file_id: str) -> FileOfSession:
    row_id = naming.row_id(file_id, naming.CONTAINER_FILE)
    try:
        return await services.sessions.file(caller.tenant, record.id, row_id)
    except NotFoundError as error:
        raise MissingError(f"Container file with id '{file_id[:100]}' not found.", param="file_id") from error


def check_memory(size: str | None, bounds: Limits, param: str) -> None:
    """Nothing, where a container may have so much memory.

    Raises:
        FieldError: it is above the operator's bound.
    """
    if size is not None and MEMORY[size] > bounds.memory_bytes:
        raise FieldError(
            f"Invalid '{param}': {size} is above this installation's bound of {format_size(bounds.memory_bytes)}. Ask "
            "for less, or have the operator raise BICHAT_MAX_MEMORY_BYTES.",
            param=param,
        )


def _minutes(given: Any, bounds: Limits) -> int | None:
    if given is None:
        return None
    most = max(1, int(bounds.idle_s // 60))
    return checks.integer(given["minutes"], "expires_after.minutes", least=1, most=most)


def container_object(record: SessionRecord) -> dict[str, Any]:
    """As the wire has it."""
    limits = record.options["limits"]
    return {
        "id": naming.on_wire(naming.CONTAINER, record.id),
        "object": "container",
        "created_at": int(record.created_at.timestamp()),
        "status": "expired" if record.end_reason else "running",
        "expires_after": {"anchor": "last_active_at", "minutes": max(1, round(limits["idle_s"] / 60))},
        "last_active_at": int(record.last_used_at.timestamp()),
        "memory_limit": _memory(limits["memory_bytes"]),
        "name": record.options.get("details", {}).get("name", ""),
        "network_policy": {"type": "disabled"},
    }


def _memory(size: int) -> str:
    return next((name for name, most in reversed(MEMORY.items()) if size >= most), "1g")


def file_object(record: SessionRecord, file: FileOfSession) -> dict[str, Any]:
    """A container file as the wire has it."""
    return {
        "id": naming.on_wire(naming.CONTAINER_FILE, file.id),
        "object": "container.file",
        "created_at": int(file.created_at.timestamp()),
        "bytes": file.size_bytes,
        "container_id": naming.on_wire(naming.CONTAINER, record.id),
        "path": file.path,
        "source": file.source,
    }
