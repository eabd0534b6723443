"""What a guest says that its code displayed, checked and bounded, and the names of its images.

The guest may send anything: what is no sound MIME bundle is left out, and nothing here is larger than the limits.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bichat.domain import CHART_TYPE, TABLE_TYPE, Artifact, Result
from bichat.sandbox.mime import sniff
from bichat.sizes import MIB

#: Results of one execution that are kept.
MAX_RESULTS: Final = 200
#: Bytes of the results of one execution, as they travel.
MAX_RESULTS_BYTES: Final = 64 * MIB
#: Forms of one value.
_MAX_TYPES: Final = 20
_TYPE: Final = re.compile(r"[a-z]+/[a-zA-Z0-9][a-zA-Z0-9.+-]{0,100}")
#: Values inside one another: who writes a result down, or copies it, must be able to.
_MAX_DEPTH: Final = 100
_WHITESPACE: Final = b" \t\n\r\f\v"
_BINARY: Final = re.compile(r"(image|audio|video)/(?!svg\+xml$)|application/(pdf|octet-stream)$")
#: By which an image is shown, the best first, with the ending of its file name.
_IMAGES: Final[Mapping[str, str]] = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
}


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Bytes that are in memory anyway; implements `bichat.domain.Content`."""

    content: bytes

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces of at most 1 MiB."""
        for start in range(0, len(self.content), MIB):
            yield self.content[start : start + MIB]


@dataclass(frozen=True, slots=True)
class Shown:
    """One result, its size on its way here, and the files that the guest says hold the same figure."""

    result: Result
    size_bytes: int
    saved_as: tuple[str, ...] = ()
    number: int = -1
    """By which the guest speaks of it."""


class Results:
    """One execution's, as they come."""

    def __init__(self) -> None:
        self.omitted = 0
        self._shown: list[Shown] = []
        self._clear_first = False

    def add(self, display: Mapping[str, Any], size_bytes: int) -> Result | None:
        """Take one display frame of `size_bytes`; None where it shows nothing, or is beyond the limits."""
        shown = _checked(display, size_bytes)
        if shown is None:
            return None
        if self._clear_first:
            self.clear()
        # IPython's `update_display`: it takes the places of those with its id.
        places = self._places(shown.result.display_id) if display.get("update") is True else []
        kept = self._shown if not places else [one for at, one in enumerate(self._shown) if at not in places]
        size = sum(one.size_bytes for one in kept) + size_bytes * max(1, len(places))
        if size > MAX_RESULTS_BYTES or (not places and len(kept) >= MAX_RESULTS):
            self.omitted += 1
            return None
        for place in places:
            self._shown[place] = shown
        if not places:
            self._shown.append(shown)
        return shown.result

    def name(self, number: int, name: str) -> None:
        """Those that the guest calls `number` have been saved as the file `name`, too."""
        for at, one in enumerate(self._shown):
            if one.number == number and len(one.saved_as) < _MAX_TYPES:
                self._shown[at] = replace(one, saved_as=(*one.saved_as, name))

    def clear(self, *, wait: bool = False) -> None:
        """Forget what was displayed: now, or when the next is (IPython's `clear_output`)."""
        self._clear_first = wait
        if not wait:
            self._shown.clear()

    def listed(self) -> tuple[Shown, ...]:
        """In the order of display."""
        return tuple(self._shown)

    def _places(self, display_id: str) -> list[int]:
        return [at for at, one in enumerate(self._shown) if display_id and one.result.display_id == display_id]


def name_images(
    shown: tuple[Shown, ...], captured: tuple[Artifact, ...], taken: frozenset[str], first_number: int
) -> tuple[tuple[Result, ...], tuple[Artifact, ...], int]:
    """The results with the names of their images, those images that are not among the files that were captured, and
    the number of the next.

    An image gets `figure-<number>.<ending>`, counted from `first_number` and not one of `taken`; a figure that the
    code also saved as an image under a name goes by that name, and is no second artifact.
    """
    saved = {artifact.name for artifact in captured if artifact.mime_type.startswith("image/")}
    results: list[Result] = []
    images: list[Artifact] = []
    for one in shown:
        kind = next((kind for kind in _IMAGES if kind in one.result.data), None)
        if kind is None:
            results.append(one.result)
            continue
        name = next((name for name in one.saved_as if name in saved), "")
        if not name:
            while (name := f"figure-{first_number}.{_IMAGES[kind]}") in taken:
                first_number += 1
            first_number += 1
            images.append(_image(name, kind, one.result.data[kind]))
        results.append(replace(one.result, artifact=name))
    return tuple(results), tuple(images), first_number


def _image(name: str, kind: str, content: bytes | str) -> Artifact:
    content = content.encode() if isinstance(content, str) else content
    return Artifact(
        name=name,
        mime_type=kind,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        source="display",
        content=BytesContent(content),
    )


def _checked(display: Mapping[str, Any], size_bytes: int) -> Shown | None:
    offered = display.get("data")
    if not isinstance(offered, dict):
        return None
    data: dict[str, Any] = {}
    for kind, value in offered.items():  # pyright: ignore[reportUnknownVariableType]  # JSON
        checked = _value(str(kind), value)  # pyright: ignore[reportUnknownArgumentType]
        if checked is not None and len(data) < _MAX_TYPES:
            data[str(kind)] = checked  # pyright: ignore[reportUnknownArgumentType]
    if not data:
        return None
    metadata, display_id, saved_as = display.get("metadata"), display.get("id"), display.get("saved_as")
    metadata = _writable(metadata)  # pyright: ignore[reportUnknownArgumentType]
    result = Result(
        data=data,
        metadata=metadata if isinstance(metadata, dict) else {},  # pyright: ignore[reportUnknownArgumentType]
        display_id=_text(display_id) if isinstance(display_id, str) else "",
    )
    names = saved_as[:_MAX_TYPES] if isinstance(saved_as, list) else []  # pyright: ignore[reportUnknownVariableType]
    saved = tuple(name for name in names if isinstance(name, str))  # pyright: ignore[reportUnknownVariableType]
    number = display.get("number")
    return Shown(result, size_bytes, saved, number if isinstance(number, int) else -1)


def _value(kind: str, value: object) -> object:
    """What a value of this type stands for; None where it is none."""
    if not _TYPE.fullmatch(kind):
        return None
    if _BINARY.match(kind):
        return _decoded(kind, value)
    if kind in (TABLE_TYPE, CHART_TYPE) and not isinstance(value, dict):
        return None  # `Result.table` and `Result.chart` promise an object
    if kind == "application/json" or kind.endswith("+json"):
        return _writable(value)  # pyright: ignore[reportUnknownArgumentType]  # JSON
    return _text(value) if isinstance(value, str) else None


def _writable(value: object) -> object:
    """A value that came as JSON, so that it can be written down as JSON again; None where it is nested too deep.

    Python reads more than there is: halves of surrogate pairs, NaN and infinities.
    """
    if _is_deep(value):
        return None
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return _mended(value)
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()  # pyright: ignore[reportUnknownVariableType]  # JSON
        case list():
            return value  # pyright: ignore[reportUnknownVariableType]
        case _:
            return ()


def _mended(value: object) -> object:
    match value:
        case str():
            return _text(value)
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_mended(one) for one in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON
        case dict():
            return {_text(str(name)): _mended(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            return value


def _text(text: str) -> str:
    """Valid Unicode: JSON may carry halves of surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode()


def _decoded(kind: str, value: object) -> bytes | None:
    """Bytes of an image that is what it says it is: a page that shows it must not be given something else."""
    if not isinstance(value, str):
        return None
    try:
        content = base64.b64decode(value.encode("ascii").translate(None, _WHITESPACE), validate=True)
    except (binascii.Error, ValueError):
        return None
    if kind.startswith("image/") and sniff("", content[:4096], is_complete=False) != kind:
        return None
    return content
