"""`/v1/vector_stores`: so that programs which make one go on.  Nothing is searched in them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from bichat.errors import BichatError, NotFoundError
from bichat.repository.records import Definition
from bichat.server import naming
from bichat.server.answers import JsonAnswer
from bichat.server.assistants import answers
from bichat.server.assistants.objects import seconds
from bichat.server.assistants.requests import checked
from bichat.server.assistants.threads import VECTOR_STORE
from bichat.server.assistants.tools import FILE, STORE_FILES, read_file_ids
from bichat.server.assistants.tools import file_id as read_file_id
from bichat.server.document import operation
from bichat.server.door import caller_of, services_of
from bichat.server.files import find as find_file
from bichat.server.forms import json_body
from bichat.server.lists import as_list, asked, pages_of, parameters, part
from bichat.server.problems import FieldError, MissingError
from bichat.server.schemas import Array, Choice, Ignored, Integer, Metadata, Object, Text
from bichat.server.services import Caller, Services

Json = Mapping[str, Any]

#: Taken, and of them `name`, `metadata`, `file_ids` and `expires_after` are told again.
BODY: Final = Object(
    name="VectorStoreRequest",
    fields={
        "chunking_strategy": Ignored(),
        "description": Ignored(),
        "expires_after": Object(
            fields={"anchor": Choice(("last_active_at",)), "days": Integer(least=1, most=365)},
            required=("anchor", "days"),
            is_open=True,
        ),
        "file_ids": STORE_FILES,
        "metadata": Metadata(),
        "name": Text(most=256),
        "include": Ignored(),
    },
)
_IGNORED: Final = dict.fromkeys(("attributes", "chunking_strategy", "include"), Ignored())
FILE_BODY: Final = Object(name="VectorStoreFileRequest", fields={"file_id": FILE, **_IGNORED}, required=("file_id",))
BATCH_BODY: Final = Object(
    name="VectorStoreBatchRequest",
    fields={
        "file_ids": STORE_FILES,
        "files": Array(Object(fields={"file_id": FILE}, required=("file_id",), is_open=True), 10_000),
        **_IGNORED,
    },
)

router = APIRouter(prefix="/vector_stores", tags=["vector stores"])
Who = Annotated[Caller, Depends(caller_of)]
What = Annotated[Services, Depends(services_of)]


async def _find(services: Services, caller: Caller, store_id: str) -> Definition:
    try:
        return await services.repository.definitions.get(
            caller.tenant, naming.row_id(store_id, naming.VECTOR_STORE), kind=VECTOR_STORE
        )
    except NotFoundError as error:
        raise MissingError(f"Vector store with id '{store_id[:100]}' not found.", param="vector_store_id") from error


async def _object(services: Services, caller: Caller, store: Definition) -> dict[str, Any]:
    total, size = 0, 0
    for file_id in store.content["file_ids"]:
        with suppress(BichatError):
            size += (await find_file(services, caller, file_id)).size_bytes
        total += 1
    created = seconds(store.created_at)
    return {
        "id": naming.on_wire(naming.VECTOR_STORE, store.id),
        "object": "vector_store",
        "created_at": created,
        "name": store.content["name"],
        "usage_bytes": size,
        "file_counts": _counts(total),
        "status": "completed",
        "expires_after": store.content.get("expires_after"),
        "expires_at": None,
        "last_active_at": created,
        "metadata": store.content["metadata"],
    }


def _counts(total: int) -> dict[str, int]:
    return {"in_progress": 0, "completed": total, "failed": 0, "cancelled": 0, "total": total}


def _fields(body: Json) -> dict[str, Any]:
    given = checked(body, BODY)
    found: dict[str, Any] = {}
    if given.get("name") is not None:
        found["name"] = given["name"]
    if "metadata" in given:
        found["metadata"] = given["metadata"] or {}
    if given.get("expires_after") is not None:
        found["expires_after"] = {name: given["expires_after"][name] for name in ("anchor", "days")}
    if given.get("file_ids") is not None:
        found["file_ids"] = list(read_file_ids(given["file_ids"], "file_ids"))
    return found


async def _check_files(services: Services, caller: Caller, file_ids: list[str]) -> None:
    for file_id in file_ids:
        await find_file(services, caller, file_id)


@router.post("", openapi_extra=operation(body=BODY, may_be_empty=True, gives=answers.VECTOR_STORE))
async def create(request: Request, caller: Who, services: What) -> Response:
    """A vector store, which is a list of files here."""
    fields = _fields(await json_body(request, may_be_empty=True))
    content: dict[str, Any] = {"name": "", "metadata": {}, "file_ids": [], "expires_after": None, **fields}
    await _check_files(services, caller, content["file_ids"])
    made = Definition(tenant=caller.tenant, user=caller.user, kind=VECTOR_STORE, content=content)
    made = await services.repository.definitions.add(caller.tenant, made)
    return JsonAnswer(await _object(services, caller, made))


@router.get("", openapi_extra=operation(query=parameters(naming.VECTOR_STORE), gives=answers.VECTOR_STORES))
async def page(request: Request, caller: Who, services: What) -> Response:
    """All of the tenant's."""
    definitions = services.repository.definitions
    found = await part(
        partial(definitions.page, caller.tenant, kind=VECTOR_STORE),
        asked(request.query_params, naming.VECTOR_STORE),
        partial(definitions.get, caller.tenant, kind=VECTOR_STORE),
    )
    return JsonAnswer(
        as_list([await _object(services, caller, store) for store in found.rows], has_more=found.has_more)
    )


@router.get("/{vector_store_id}", openapi_extra=operation(gives=answers.VECTOR_STORE))
async def retrieve(vector_store_id: str, caller: Who, services: What) -> Response:
    """One of them."""
    return JsonAnswer(await _object(services, caller, await _find(services, caller, vector_store_id)))


@router.post("/{vector_store_id}", openapi_extra=operation(body=BODY, gives=answers.VECTOR_STORE))
async def change(vector_store_id: str, request: Request, caller: Who, services: What) -> Response:
    """It, with what is given in the place of what there was."""
    store = await _find(services, caller, vector_store_id)
    fields = _fields(await json_body(request))
    fields.pop("file_ids", None)
    return JsonAnswer(await _object(services, caller, await _changed(services, caller, store, **fields)))


async def _changed(services: Services, caller: Caller, store: Definition, **fields: Any) -> Definition:
    content = {**store.content, **fields}
    return await services.repository.definitions.change(caller.tenant, store.id, kind=VECTOR_STORE, content=content)


@router.delete("/{vector_store_id}", openapi_extra=operation(gives=answers.VECTOR_STORE_DELETED))
async def delete(vector_store_id: str, caller: Who, services: What) -> Response:
    """Delete it; its files stay."""
    store = await _find(services, caller, vector_store_id)
    await services.repository.definitions.delete(caller.tenant, store.id, kind=VECTOR_STORE)
    return JsonAnswer({"id": vector_store_id, "object": "vector_store.deleted", "deleted": True})


@router.post("/{vector_store_id}/search", openapi_extra=operation())
async def search(vector_store_id: str, caller: Who, services: What) -> Response:
    """Refused: nothing is searched here."""
    await _find(services, caller, vector_store_id)
    raise FieldError("Searching in vector stores is not served here.", wire_code="unsupported_parameter")


# --------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file in a list, in the order in which they came."""

    id: str
    created_at: datetime
    file_id: str
    """On the wire."""


def _file_object(store: Definition, file_id: str) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "vector_store.file",
        "created_at": seconds(store.created_at),
        "vector_store_id": naming.on_wire(naming.VECTOR_STORE, store.id),
        "status": "completed",
        "usage_bytes": 0,
        "last_error": None,
        "chunking_strategy": {"type": "other"},
        "attributes": {},
    }


async def _added(services: Services, caller: Caller, store: Definition, file_ids: list[str]) -> Definition:
    await _check_files(services, caller, file_ids)
    together = list(dict.fromkeys((*store.content["file_ids"], *file_ids)))
    return await _changed(services, caller, store, file_ids=together)


@router.post("/{vector_store_id}/files", openapi_extra=operation(body=FILE_BODY, gives=answers.VECTOR_STORE_FILE))
async def add_file(vector_store_id: str, request: Request, caller: Who, services: What) -> Response:
    """Put a file on its list."""
    store = await _find(services, caller, vector_store_id)
    body = checked(await json_body(request), FILE_BODY)
    given = read_file_id(body["file_id"], "file_id")
    return JsonAnswer(_file_object(await _added(services, caller, store, [given]), given))


@router.get(
    "/{vector_store_id}/files", openapi_extra=operation(query=parameters(naming.FILE), gives=answers.VECTOR_STORE_FILES)
)
async def files(vector_store_id: str, request: Request, caller: Who, services: What) -> Response:
    """Its files."""
    store = await _find(services, caller, vector_store_id)
    rows = {
        naming.row_id(file_id, naming.FILE): _Listed(
            naming.row_id(file_id, naming.FILE), store.created_at + timedelta(microseconds=number), file_id
        )
        for number, file_id in enumerate(store.content["file_ids"])
    }

    async def find(row_id: str) -> _Listed:
        if row_id not in rows:
            raise NotFoundError("there is no such file")
        return rows[row_id]

    found = await part(pages_of(rows.values()), asked(request.query_params, naming.FILE), find)
    return JsonAnswer(as_list([_file_object(store, row.file_id) for row in found.rows], has_more=found.has_more))


@router.get("/{vector_store_id}/files/{file_id}", openapi_extra=operation(gives=answers.VECTOR_STORE_FILE))
async def file(vector_store_id: str, file_id: str, caller: Who, services: What) -> Response:
    """One of its files."""
    store = await _find(services, caller, vector_store_id)
    return JsonAnswer(_file_object(store, _listed_file(store, file_id)))


@router.delete("/{vector_store_id}/files/{file_id}", openapi_extra=operation(gives=answers.VECTOR_STORE_FILE_DELETED))
async def remove_file(vector_store_id: str, file_id: str, caller: Who, services: What) -> Response:
    """Take a file from its list."""
    store = await _find(services, caller, vector_store_id)
    gone = _listed_file(store, file_id)
    rest = [each for each in store.content["file_ids"] if each != gone]
    await _changed(services, caller, store, file_ids=rest)
    return JsonAnswer({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


def _listed_file(store: Definition, file_id: str) -> str:
    if file_id not in store.content["file_ids"]:
        raise MissingError(f"No file found with id '{file_id[:100]}' in the vector store.", param="file_id")
    return file_id


@router.post("/{vector_store_id}/file_batches", openapi_extra=operation(body=BATCH_BODY, gives=answers.FILE_BATCH))
async def add_files(vector_store_id: str, request: Request, caller: Who, services: What) -> Response:
    """Put files on its list."""
    store = await _find(services, caller, vector_store_id)
    body = checked(await json_body(request), BATCH_BODY)
    found = list(read_file_ids(body.get("file_ids") or (), "file_ids"))
    found += [read_file_id(each["file_id"], f"files[{n}].file_id") for n, each in enumerate(body.get("files") or ())]
    return JsonAnswer(_batch(await _added(services, caller, store, found)))


@router.get("/{vector_store_id}/file_batches/{batch_id}", openapi_extra=operation(gives=answers.FILE_BATCH))
async def batch(vector_store_id: str, batch_id: str, caller: Who, services: What) -> Response:
    """What became of that: it is done."""
    store = await _find(services, caller, vector_store_id)
    told = _batch(store)
    if told["id"] != batch_id:
        raise MissingError(f"No file batch found with id '{batch_id[:100]}'.", param="batch_id")
    return JsonAnswer(told)


def _batch(store: Definition) -> dict[str, Any]:
    return {
        "id": naming.on_wire(naming.FILE_BATCH, store.id),
        "object": "vector_store.files_batch",
        "created_at": seconds(store.created_at),
        "vector_store_id": naming.on_wire(naming.VECTOR_STORE, store.id),
        "status": "completed",
        "file_counts": _counts(len(store.content["file_ids"])),
    }
