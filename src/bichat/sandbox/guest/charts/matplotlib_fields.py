"""Points and cells in matplotlib that have values of their own, shown as colours: scatter, hexbin, mesh, image."""

from __future__ import annotations

import math
import sys
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_axis import EXACT, NEAR
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, filled, hex_color, label_of

#: Points whose own colours are looked at; of more points they are not told.
_MAX_COLORS: Final = 20_000


def color_scale(mappable: Any) -> dict[str, Any]:
    """What the colours mean: the label of the colour bar, and the values at its ends."""
    low, high = mappable.get_clim()
    scale: dict[str, Any] = {"limits": [shape.plain(low), shape.plain(high)]}
    bar = getattr(mappable, "colorbar", None)
    if bar is not None:
        scale["label"] = shape.text(bar.ax.get_ylabel() or bar.ax.get_xlabel())
    return scale


def read_colored(collection: Any, kind: str) -> Mark:
    """The points of a collection, with their values, or the colours and sizes they were given."""
    numpy = sys.modules["numpy"]
    offsets = filled(collection.get_offsets())
    columns: dict[str, Any] = {"x": offsets[:, 0], "y": offsets[:, 1]}
    extra: dict[str, Any] = {}
    values, colors, color = collection.get_array(), collection.get_facecolor(), None
    if values is not None:
        columns["values"] = filled(values)
        extra["color_scale"] = color_scale(collection)
    else:
        if not len(colors):
            colors = collection.get_edgecolor()
        distinct, numbers = numpy.unique(colors[:_MAX_COLORS], axis=0, return_inverse=True)
        named = [hex_color(one) for one in distinct]
        if len(named) == 1:
            color = named[0]
        elif len(colors) == len(offsets) <= _MAX_COLORS:
            columns["colors"] = [named[number] for number in numbers.ravel()]
    sizes = collection.get_sizes() if kind == "scatter" else ()
    if len(sizes) == len(offsets) and len(numpy.unique(sizes)) > 1:
        columns["size"] = filled(sizes)
    series = Series(type=kind, name=label_of(collection), color=color, columns=columns, extra=extra)
    return Mark(series=series, axis_of={"x": "x", "y": "y"}, places={"x": EXACT, "y": EXACT})


def read_mesh(mesh: Any) -> Mark:
    """The cells of a mesh; where they are not in straight rows and columns, only that they are there."""
    numpy = sys.modules["numpy"]
    corners, values = filled(mesh.get_coordinates()), mesh.get_array()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    values = values.reshape(len(y) - 1, len(x) - 1) if values.ndim == 1 else values
    if not (numpy.array_equal(corners[:, :, 0], numpy.broadcast_to(x, corners.shape[:2])) and values.ndim == 2):
        raise ValueError("the cells are not in straight rows and columns")
    return _grid(
        mesh, values, *(_centers(edges, length) for edges, length in zip((x, y), values.shape[::-1], strict=True))
    )


def _centers(edges: Any, count: int) -> Any:
    """The middle of each cell; with one edge for each cell, that."""
    return (edges[:-1] + edges[1:]) / 2 if len(edges) == count + 1 else edges


def read_image(image: Any) -> Mark:
    """The cells of an image that has one value for each, or the size of a picture."""
    numpy = sys.modules["numpy"]
    values = image.get_array()
    if values is None or values.ndim != 2:
        shown = [] if values is None else [int(length) for length in values.shape[:2]]
        return Mark(series=Series(type="image", extra={"shape": shown}))
    rows, columns = values.shape
    left, right, bottom, top = image.get_extent()
    if image.origin == "upper":
        bottom, top = top, bottom
    x = left + (numpy.arange(columns) + 0.5) * ((right - left) / columns)
    y = bottom + (numpy.arange(rows) + 0.5) * ((top - bottom) / rows)
    return _grid(image, values, x, y)


def _grid(mappable: Any, values: Any, x: Any, y: Any) -> Mark:
    # Thinned before it is copied: an image may have millions of cells.
    step = [max(1, math.ceil(length / shape.MAX_POINTS)) for length in values.shape]
    kept = filled(values[:: step[0], :: step[1]])
    columns = {
        "x": sys.modules["numpy"].array(shape.tidy_values(x[:: step[1]])),
        "y": sys.modules["numpy"].array(shape.tidy_values(y[:: step[0]])),
    }
    extra: dict[str, Any] = {"shape": [int(length) for length in values.shape], "color_scale": color_scale(mappable)}
    series = Series(type="heatmap", columns=columns, grid=kept, extra=extra, count=int(values.size))
    return Mark(series=series, axis_of={"x": "x", "y": "y"}, places={"x": NEAR, "y": NEAR})
