"""Requests whose body is JSON or a form with files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from bichat.server.problems import FieldError, RefusedError
from bichat.sizes import format_size

Json = Mapping[str, Any]

#: Longest JSON body, by default.
MOST_JSON_BYTES: Final = 32 << 20
#: Deepest nesting of JSON.
MOST_DEPTH: Final = 200
#: Most values in it, members of objects and entries of arrays: 10,000 items with twenty each.
MOST_VALUES: Final = 200_000
#: Of one field of a form that is no file; forms have ten at most.
_MOST_FIELD_BYTES: Final = 64 << 10
#: What a form with one file has around it, at most.
_AROUND_BYTES: Final = 11 * _MOST_FIELD_BYTES
#: A text without an end takes all that is left, so that no place is looked at twice.
_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
#: Halves of characters can stand in JSON as escapes alone.
_HALVES: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_OPENING: Final = frozenset(b"[{")


async def json_body(request: Request, *, may_be_empty: bool = False) -> Json:
    """The object that a request's body is; its SHA-256 is in `request.state.digest` then.

    Raises:
        FieldError: it is no JSON object, nested more deeply than `MOST_DEPTH`, or has more than `MOST_VALUES` values.
        RefusedError: it is larger than `MOST_JSON_BYTES`, whatever it calls itself.
    """
    body = await _body(request)
    request.state.digest = hashlib.sha256(body).hexdigest()
    if not body.strip() and may_be_empty:
        return {}
    try:
        _check_shape(body)
        value: Any = json.loads(body.decode("utf-8-sig"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise FieldError(
            "We could not parse the JSON body of your request: it must be a JSON object.", wire_code=None
        ) from error
    if not isinstance(value, dict):
        raise FieldError("The body of the request must be a JSON object.", wire_code=None)
    return cast("Json", _whole(value) if _HALVES.search(body) else value)


def _whole(value: Any) -> Any:
    """Without halves of characters, which no provider takes: programs cut texts in the middle of an emoji."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in cast("dict[str, Any]", value).items()}
    return value


async def _body(request: Request) -> bytes:
    """All of it: a form may be larger, and one that only says that it is a form is read no further."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_JSON_BYTES:
            raise RefusedError(
                413,
                f"The body of the request is larger than {format_size(MOST_JSON_BYTES)}.",
                wire_code="request_too_large",
            )
    return bytes(body)


def is_form(headers: Headers) -> bool:
    """Whether a request's body says that it is a form with files."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


def _finite(text: str) -> float:
    """A number that JSON can hold: `NaN` and `1e999` are read by Python, and could not be told again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no number of JSON")
    return number


def _check_shape(body: bytes) -> None:
    """Nothing, where neither depth nor number of values costs more than its bytes: each is made, copied and kept.

    Raises:
        ValueError: it is nested more deeply than `MOST_DEPTH`.
        FieldError: it has more than `MOST_VALUES` values.
    """
    # Each text begins with a quote that no backslash is before; names are texts too.
    if body.count(b'"') - body.count(b'\\"') > 4 * MOST_VALUES:
        raise _too_many()
    if body.count(b"[") + body.count(b"{") + body.count(b",") <= MOST_DEPTH:
        return
    bare = _TEXTS.sub(b"", body)  # what is between quotes is none of it
    if bare.count(b"[") + bare.count(b"{") + bare.count(b",") > MOST_VALUES:
        raise _too_many()
    depth = 0
    for bracket in bare.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > MOST_DEPTH:
            raise ValueError("nested too deeply")


def _too_many() -> FieldError:
    return FieldError(f"The body of the request has more than {MOST_VALUES:,} values.", wire_code="request_too_large")


@asynccontextmanager
async def form_of(request: Request) -> AsyncGenerator[FormData]:
    """The fields of a form; its files lie on the disk and are gone with the block.

    Raises:
        FieldError: it is no such form.
    """
    if not is_form(request.headers):
        raise FieldError("The body of the request must be multipart/form-data.", wire_code=None)
    try:
        async with request.form(max_files=2, max_fields=10, max_part_size=_MOST_FIELD_BYTES) as form:
            yield form
    except HTTPException as error:
        if error.status_code == 400:
            raise FieldError(f"We could not parse the form: {error.detail}", wire_code=None) from error
        raise


def announced_file_bytes(request: Request) -> int:
    """About how large the file in a form is, by what the request says of its length; never more than it is."""
    announced = request.headers.get("content-length", "")
    return max(0, int(announced[:20]) - _AROUND_BYTES) if announced.isdigit() else 0


def file_of(form: FormData, name: str = "file") -> UploadFile:
    """A file of a form.

    Raises:
        FieldError: there is none of this name.
    """
    given = form.get(name)
    if not isinstance(given, UploadFile):
        raise FieldError(f"'{name}' is a required property, and must be a file.", param=name, wire_code=None)
    return given


def text_of(form: FormData, name: str) -> str | None:
    """A field of a form that is text; None where it is not there.

    Raises:
        FieldError: it is a file.
    """
    given = form.get(name)
    if isinstance(given, UploadFile):
        raise FieldError(f"'{name}' must be text.", param=name, wire_code=None)
    return given
