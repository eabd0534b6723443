"""What a server says, read as JSON that may be anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard, cast
from urllib.parse import quote

from bichat.errors import RemoteServiceError

Json = Mapping[str, Any]

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)


def path(*parts: str) -> str:
    """`/threads/thread_1` of its parts, each a word of ours or an id (`is_id`): nothing in them leads elsewhere."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def is_id(value: object) -> TypeGuard[str]:
    """Whether it can be the id of something: a word that is no step up or down in a path."""
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and bool(value.strip("."))


def objects_in(value: Any) -> list[Json]:
    """The objects in a list of JSON's; none where it is no list."""
    return _objects(cast("list[Any]", value)) if isinstance(value, list) else []


def mapping_in(value: Any) -> Json:
    """An object of JSON's; an empty one where it is none."""
    return cast("Json", value) if isinstance(value, dict) else {}


def id_of(made: Json, stage: str) -> str:
    """The id of what was made.

    Raises:
        RemoteServiceError: it has none.
    """
    found = made.get("id")
    if not is_id(found):
        raise senseless("what was made has no id", stage)
    return found


def senseless(what: str, stage: str) -> RemoteServiceError:
    """The server's answer is not as the wire has it."""
    return RemoteServiceError(
        f"the server's answer makes no sense: {what}"[:300],
        stage=stage,
        remedy="Check that the address is one of a server that speaks OpenAI's API.",
        is_retryable=True,
        status_code=200,
    )


def _objects(values: Sequence[Any]) -> list[Json]:
    return [cast("Json", each) for each in values if isinstance(each, dict)]
