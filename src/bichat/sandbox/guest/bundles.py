"""MIME bundles as frames: JSON, and no larger than a frame may be.

What is too long is cut where that leaves something to read, and left out where it does not; either way the text says so.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bichat.sandbox import wire
from bichat.sandbox.guest.reports import shortened

_TEXT: Final = "text/plain"
#: Characters of a value's plain text.
_MAX_TEXT: Final = 256 * 1024
#: Bytes of JSON in a frame, beside the few that hold it together.
_MAX_BYTES: Final = wire.MAX_DISPLAY_BYTES - 64 * 1024
_MAX_ELEMENTS: Final = wire.MAX_DISPLAY_ELEMENTS - 1000
_MAX_DEPTH: Final = 50
_BINARY: Final = re.compile(r"(image|audio|video)/(?!svg\+xml$)|application/(pdf|octet-stream)$")
_JSON: Final = re.compile(r"application/(json|.*[+.]json)$")


class EncodedJson(str):
    """A JSON document that is text already: large ones are not taken apart for being put together again."""

    __slots__ = ()


class _Part(NamedTuple):
    kind: str
    encoded: str

    @property
    def is_too_much(self) -> bool:
        return len(self.encoded) > _MAX_BYTES or _elements(self.encoded) > _MAX_ELEMENTS


def display_frame(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    display_id: str | None,
    update: bool,
    number: int,
    saved_as: list[str],
    printed: list[int],
) -> bytes:
    """The frame that shows one value."""
    rest = {
        "metadata": metadata,
        "id": display_id,
        "update": update,
        "number": number,
        "saved_as": saved_as,
        "printed": printed,
    }
    bundle = ", ".join(f"{json.dumps(part.kind)}: {part.encoded}" for part in _fitting(data))
    payload = f'{{"display": {{"data": {{{bundle}}}, {_json(rest)[1:-1]}}}}}'.encode("ascii")
    return len(payload).to_bytes(4, "big") + payload


def _fitting(data: Mapping[str, Any]) -> list[_Part]:
    """The parts of a bundle that go into one frame together; the largest are left out first."""
    parts: list[_Part] = []
    omitted: list[str] = []
    for kind, value in data.items():
        part = _part(str(kind), value)
        if part is None or part.is_too_much:
            omitted += [str(kind)] if part is not None else []
        else:
            parts.append(part)
    while sum(len(part.encoded) for part in parts) > _MAX_BYTES or sum(map(_elements, parts)) > _MAX_ELEMENTS:
        largest = max(parts, key=lambda part: len(part.encoded))
        parts.remove(largest)
        omitted.append(largest.kind)
    if omitted:
        note = f"[{', '.join(omitted)} left out: too large to be displayed; save it to a file instead]"
        text = next((json.loads(part.encoded) for part in parts if part.kind == _TEXT), "")
        parts = [part for part in parts if part.kind != _TEXT]
        parts.append(_Part(_TEXT, json.dumps(f"{text}\n{note}" if text else note)))
    return parts


def _part(kind: str, value: Any) -> _Part | None:
    if isinstance(value, EncodedJson):
        return _Part(kind, value)
    if _BINARY.match(kind):
        return _Part(kind, _base64(value))
    if _JSON.match(kind):
        # Altair 6 writes `.json` where every other type has the suffix `+json` that says what it is.
        return _Part(re.sub(r"\.json$", "+json", kind), _json(value))
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):  # pyright: ignore[reportUnknownVariableType]
        value = "".join(value)  # as notebook files keep text
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "replace")
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    return _Part(kind, json.dumps(shortened(text, _MAX_TEXT) if kind == _TEXT else text))


def _base64(value: Any) -> str:
    text = value if isinstance(value, str) else base64.b64encode(value).decode("ascii")
    return json.dumps(text)


def _elements(part: _Part | str) -> int:
    """What the supervisor counts before it decodes."""
    text = part if isinstance(part, str) else part.encoded
    return sum(map(text.count, ",:[{"))


def _json(value: Any) -> str:
    """`value` as strict JSON, whatever it holds."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(json_ready(value), allow_nan=False)


def json_ready(value: Any, depth: int = 0) -> Any:
    """What JSON has for a value, or its text."""
    if depth >= _MAX_DEPTH:
        return "..."
    match value:
        case None | bool() | str():
            return value
        case int():
            ready: Any = int(value)
        case float():
            ready = float(value) if math.isfinite(value) else None
        case Mapping():
            ready = {str(key): json_ready(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case list() | tuple() | set() | frozenset():
            ready = [json_ready(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case dt.date() | dt.time():
            ready = value.isoformat()
        case _ if hasattr(value, "tolist"):  # numpy's arrays and scalars
            ready = json_ready(value.tolist(), depth + 1)
        case _:
            ready = str(value)
    return ready
