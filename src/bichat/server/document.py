"""The OpenAPI document, made of the tables that requests are read by: `/openapi.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from fastapi import FastAPI

from bichat.server import naming
from bichat.server.schemas import Id, Nullable, Object, Schema, Text, answer

Json = Mapping[str, Any]

_NOTE: Final = "x-operation"
_ABOUT: Final = (
    "OpenAI's wire over bichat's code interpreter. The same paths are served under /openai/v1 and /openai. "
    "Where an object has a field that is not required, null is as good as nothing."
)
ERROR: Final = answer(
    "ErrorAnswer",
    {
        "error": answer(
            "Error", {"message": Text(), "type": Text(), "param": Nullable(Text()), "code": Nullable(Text())}
        )
    },
)
_STATUSES: Final = {
    400: "Something in the request cannot be; asking again does not help.",
    401: "No key, or a wrong one.",
    403: "From a page of another site, or under a name that is not this machine's.",
    404: "What is named is not there, or is another tenant's.",
    413: "The body is too large.",
    422: "The answer failed once code was started.",
    429: "Too many requests, or too much at a time; retry-after says when to come back. No code has run.",
    500: "The server or the model's provider could not do its part. No code has run.",
    503: "As 500; what is missing may be there again soon.",
}
#: Any request may be answered with these.
_ALWAYS: Final = (400, 401, 403, 429, 500, 503)
#: Whose ids stand in a path behind these words.
_IDS: Final = {
    "assistants": (naming.ASSISTANT,),
    "containers": (naming.CONTAINER,),
    "conversations": (naming.CONVERSATION,),
    "file_batches": (naming.FILE_BATCH,),
    "files": (naming.FILE,),
    "items": naming.ITEMS,
    "messages": (naming.MESSAGE,),
    "responses": (naming.RESPONSE,),
    "runs": (naming.RUN,),
    "steps": (naming.STEP,),
    "threads": (naming.THREAD,),
    "vector_stores": (naming.VECTOR_STORE,),
}
#: Of parameters that are lists; their values are repeated.
_LISTED: Final = "array"


def operation(
    *,
    query: Mapping[str, Schema] | None = None,
    body: Object | None = None,
    form: Object | None = None,
    may_be_empty: bool = False,
    gives: Schema | None = None,
    streams: bool = False,
    is_file: bool = False,
    may_fail: bool = False,
    is_open: bool = False,
    may_be_unready: bool = False,
) -> dict[str, Any]:
    """What a route says of itself, as `openapi_extra`.

    Args:
        query: the parameters behind the path.
        body: of the request, as JSON.
        form: of the request, as a form; with `body` either.
        may_be_empty: whether the request need not have a body.
        gives: the answer.
        streams: whether it may be server-sent events, too.
        is_file: whether it is the bytes of a file.
        may_fail: whether it can say that code was started in vain.
        is_open: whether no key is needed, and nothing but this answer is given.
        may_be_unready: whether that has status 503, too.
    """
    said: dict[str, Any] = {"parameters": [_parameter(name, schema) for name, schema in (query or {}).items()]}
    bodies = {"application/json": body, "multipart/form-data": form}
    content = {kind: {"schema": each.told()} for kind, each in bodies.items() if each is not None}
    if content:
        said["requestBody"] = {"required": not may_be_empty, "content": content}
    given: dict[str, Any] = {} if gives is None else {"application/json": {"schema": gives.told()}}
    if streams:
        given["text/event-stream"] = {}
    if is_file:
        given["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    answers: dict[str, Any] = {"200": {"description": "It is done.", "content": given}} if given else {}
    if is_file:
        answers["206"] = {"description": "The range that was asked for.", "content": given}
        answers["416"] = {"description": "The range lies outside of the file."}
    if may_be_unready:
        answers["503"] = {"description": "Not yet, or not any more.", "content": given}
    if is_open:
        return {_NOTE: {**said, "security": [], "responses": answers}}
    statuses = (*_ALWAYS, *((413,) if content else ()), *((422,) if may_fail else ()))
    problems = {str(each): {"$ref": f"#/components/responses/{each}"} for each in sorted((*statuses, 404))}
    return {_NOTE: {**said, "responses": answers | problems}}


def _parameter(name: str, schema: Schema) -> dict[str, Any]:
    said = schema.told()
    style = {"style": "form", "explode": True} if said.get("type") == _LISTED else {}
    return {"name": name, "in": "query", "required": False, "schema": said, **style}


def describe(app: FastAPI) -> None:
    """Have an application give the whole document."""
    drawn = app.openapi

    def told() -> dict[str, Any]:
        if app.openapi_schema is None or "securitySchemes" not in app.openapi_schema.get("components", {}):
            app.openapi_schema = _document(drawn())
        return app.openapi_schema

    app.openapi = told


def _document(drawn: Json) -> dict[str, Any]:
    """Of what FastAPI knows of its routes: paths, summaries, descriptions."""
    names: dict[str, Any] = {}
    paths = {
        path: {method: _named(_operation(path, said), names) for method, said in operations.items()}
        for path, operations in drawn["paths"].items()
    }
    told = {"application/json": {"schema": ERROR.told()}}
    problems = {str(status): _named({"description": why, "content": told}, names) for status, why in _STATUSES.items()}
    schemes = {
        "key": {"type": "http", "scheme": "bearer", "description": "`bichat key new` makes one."},
        "azure": {
            "type": "apiKey",
            "in": "header",
            "name": "api-key",
            "description": "The same, as Azure's clients send it.",
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {**drawn["info"], "description": _ABOUT},
        # A server that only this machine reaches and that never had a key needs none.
        "security": [{"key": []}, {"azure": []}, {}],
        "paths": paths,
        "components": {"schemas": dict(sorted(names.items())), "responses": problems, "securitySchemes": schemes},
    }


def _operation(path: str, drawn: Json) -> dict[str, Any]:
    own: Json = drawn.get(_NOTE, {})
    about = drawn["description"]
    kept = {"summary": re.split(r"[.:;]", about)[0], "description": about, "operationId": drawn["operationId"]}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": _in_path(before, path)}
        for before, name in re.findall(r"/(\w+)/\{(\w+)\}", path)
    ]
    return {
        "tags": drawn.get("tags") or [path.removeprefix("/v1/").partition("/")[0]],
        **kept,
        **own,
        "parameters": in_path + own.get("parameters", []),
    }


def _in_path(before: str, path: str) -> dict[str, Any]:
    if before == "files" and "/containers/" in path:
        return Id((naming.CONTAINER_FILE,)).told()
    return Id(_IDS[before]).told() if before in _IDS else Text().told()


def _named(said: Any, names: dict[str, Any]) -> Any:
    """The same, with what has a title once under its name."""
    if isinstance(said, list):
        return [_named(each, names) for each in cast("list[Any]", said)]
    if not isinstance(said, dict):
        return said
    found = {name: _named(each, names) for name, each in cast("dict[str, Any]", said).items()}
    title = found.get("title")
    if not isinstance(title, str):
        return found
    if names.setdefault(title, found) != found:
        raise ValueError(f"two schemas have the name {title!r}")
    return {"$ref": f"#/components/schemas/{title}"}
