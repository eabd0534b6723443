"""plotly's figures as their JSON, and looking things up in it."""

from __future__ import annotations

import array
import base64
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import shape

#: Array types as plotly names them, and as Python does.
_ARRAY_TYPES: Final = {
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f4": "f",
    "f8": "d",
}
#: Attributes of traces that may hold a value for each point.
_LONG: Final = ("x", "y", "z", "text", "hovertext", "customdata", "labels", "values", "lat", "lon", "locations", "base")
#: The others that are read.
_SHORT: Final = (
    *(
        "type",
        "name",
        "visible",
        "showlegend",
        "orientation",
        "mode",
        "fill",
        "fillcolor",
        "stackgroup",
        "line",
        "marker",
    ),
    *(
        "xaxis",
        "yaxis",
        "subplot",
        "scene",
        "domain",
        "coloraxis",
        "colorbar",
        "error_x",
        "error_y",
        "x0",
        "dx",
        "y0",
        "dy",
    ),
    *(
        "histfunc",
        "histnorm",
        "nbinsx",
        "nbinsy",
        "xbins",
        "ybins",
        "cumulative",
        "hole",
        "sort",
        "theta",
        "r",
        "parents",
    ),
    *("q1", "median", "q3", "lowerfence", "upperfence", "mean", "open", "high", "low", "close", "measure"),
    *("value", "delta", "title", "header", "cells"),
)
#: With more values, a trace is not copied.
_MAX_COPIED: Final = 20_000
_TAG: Final = re.compile(r"</?(?:b|i|em|strong|br|sub|sup|span|a)\b[^>]*>", re.IGNORECASE)
_RGB: Final = re.compile(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)$")


def traces_of(figure: Any, limit: int) -> list[Any]:
    """The JSON of its traces, but with arrays as they are; no more than so many."""
    if isinstance(figure, Mapping):
        return list(islice(figure["data"], limit))  # pyright: ignore[reportUnknownArgumentType]
    return [_trace_json(trace) for trace in islice(figure.data, limit)]


def _trace_json(trace: Any) -> dict[str, Any]:
    lengths = [len(values) for name in _LONG if name in trace and hasattr(values := trace[name], "__len__")]
    if sum(lengths) <= _MAX_COPIED:
        return trace.to_plotly_json()
    found = {name: trace[name] for name in (*_SHORT, *_LONG) if name in trace}
    return {
        name: value.to_plotly_json() if hasattr(value, "to_plotly_json") else value for name, value in found.items()
    }


def layout_of(figure: Any) -> Any:
    """The JSON of its layout."""
    return figure["layout"] if isinstance(figure, Mapping) else figure.layout.to_plotly_json()  # pyright: ignore[reportUnknownVariableType]


def at(node: Any, *path: str) -> Any:
    """What stands below `node` at that path; None where nothing does."""
    for key in path:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)  # pyright: ignore[reportUnknownVariableType]
    return node  # pyright: ignore[reportUnknownVariableType]


def column(value: Any) -> Any:
    """The values of a trace's attribute, in order; None where it is not set."""
    if value is None or shape.is_array(value):
        return value
    if isinstance(value, Mapping):
        return _decoded(value) if "bdata" in value else None
    if isinstance(value, (list, tuple)):
        return value  # pyright: ignore[reportUnknownVariableType]
    if hasattr(value, "to_numpy"):
        return value.to_numpy()
    return [value]


def _decoded(value: Mapping[str, Any]) -> Any:
    """An array that plotly has written as base64."""
    decoded = array.array(_ARRAY_TYPES[str(value["dtype"]).lstrip("<|")], base64.b64decode(value["bdata"]))
    if sys.byteorder == "big":
        decoded.byteswap()
    lengths = [int(length) for length in re.findall(r"\d+", str(value.get("shape", "")))]
    if len(lengths) != 2:
        return decoded
    return [decoded[row * lengths[1] : (row + 1) * lengths[1]] for row in range(lengths[0])]


def items(value: Any) -> Sequence[Any]:
    """Several objects, such as annotations."""
    return value if isinstance(value, (list, tuple)) else ()  # pyright: ignore[reportUnknownVariableType]


def words(value: Any) -> str:
    """A text without the tags that plotly lets in."""
    return " ".join(_TAG.sub(" ", str(value)).split()) if value is not None else ""


def title_of(node: Any) -> str:
    """The title of a figure or an axis, which stands below it in one of two ways."""
    title = at(node, "title")
    return words(title if isinstance(title, str) else at(title, "text"))


def color_text(color: Any) -> str | None:
    """A single colour, in hexadecimal digits where plotly has written its red, green and blue."""
    if not isinstance(color, str):
        return None
    match = _RGB.match(color.strip())
    if match is None:
        return color
    parts = [min(255, round(float(part))) for part in match.groups()[:3]]
    alpha = min(255, round(float(match[4]) * 255)) if match[4] is not None else 255
    return "#" + "".join(f"{part:02x}" for part in parts) + (f"{alpha:02x}" if alpha < 255 else "")
