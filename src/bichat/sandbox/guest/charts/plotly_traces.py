"""plotly's traces, each read into a series; those that plotly computes in the page are computed here.

Quartiles are those of plotly's own method; histograms have its bins where they are of numbers, and are bars where they
are of names.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.plotly_values import at, color_text, column, words

#: Points that are looked at one by one: for sums, quartiles and bins.
MAX_COMPUTED: Final = 50_000
#: Fewer points are marked on lines unless a trace says otherwise.
_MARKED: Final = 20
_STEPS: Final = {"hv": "post", "vh": "pre", "hvh": "mid", "vhv": "mid"}


def read_trace(trace: Any, color: str | None) -> Series:
    """The series that a trace is; `color` is what it has if it names none."""
    kind = str(at(trace, "type") or "scatter")
    read = _READERS.get(kind)
    series = read(trace) if read is not None else Series(type="unknown", extra={"kind": shape.text(kind)})
    series.name = words(at(trace, "name"))
    if series.color is None and series.type not in _MANY_COLORED:
        series.color = _color(trace) or (None if "colors" in series.columns or "values" in series.columns else color)
    return series


def _color(trace: Any) -> str | None:
    for path in (("line", "color"), ("marker", "color"), ("fillcolor",)):
        found = color_text(at(trace, *path))
        if found is not None:
            return found
    return None


def columns_of(trace: Any, *names: str) -> dict[str, Any]:
    """Those of the attributes that are set."""
    found = {name: column(at(trace, name)) for name in names}
    return {name: values for name, values in found.items() if values is not None}


def points(trace: Any) -> dict[str, Any]:
    """X and y, of equal length; what is not given counts."""
    columns = columns_of(trace, "x", "y")
    columns = {name: _levels(values) for name, values in columns.items()}
    lengths = [len(values) for values in columns.values()]
    length = min(lengths, default=0)
    for name in ("x", "y"):
        if name not in columns:
            start, step = at(trace, f"{name}0") or 0, at(trace, f"d{name}") or 1
            columns[name] = [start + step * place for place in range(length)]
        elif len(columns[name]) > length:
            columns[name] = columns[name][:length]
    return {"x": columns["x"], "y": columns["y"]}


def _levels(values: Any) -> Any:
    """Two levels of names as one name each."""
    first: Any = values[0] if len(values) else None
    is_nested = isinstance(first, (list, tuple)) or (shape.is_array(first) and first.ndim == 1)
    if not is_nested or len(values) != 2:
        return values
    return [" / ".join(str(level) for level in pair) for pair in zip(*values, strict=False)]


def lies(trace: Any) -> bool:
    """Whether what it draws is horizontal; without a word, where its values are given as x alone, or counted along y."""
    orientation = at(trace, "orientation")
    along, across = ("y", "x") if at(trace, "type") == "histogram" else ("x", "y")
    return orientation == "h" or (orientation is None and at(trace, along) is not None and at(trace, across) is None)


# --------------------------------------------------------------------------------------------------- points and bars


def _scatter(trace: Any) -> Series:
    columns = points(trace)
    mode = str(at(trace, "mode") or ("lines+markers" if len(columns["x"]) < _MARKED else "lines"))
    extra: dict[str, Any] = {}
    kind = "line" if "lines" in mode else "scatter"
    fill, group = at(trace, "fill"), at(trace, "stackgroup")
    if group or fill in ("tozeroy", "tozerox", "tonexty"):
        kind, extra = "area", {"orientation": "horizontal" if fill == "tozerox" else "vertical"}
    step = _STEPS.get(str(at(trace, "line", "shape")))
    if step is not None:
        kind, extra["step"] = ("step" if kind == "line" else kind), step
    _add_errors(trace, columns)
    _add_marker(trace, columns, extra)
    return Series(type=kind, columns=columns, extra=extra)


def _polar(trace: Any) -> Series:
    found = columns_of(trace, "theta", "r")
    kind = "bar" if at(trace, "type") == "barpolar" else "scatter" if at(trace, "mode") == "markers" else "line"
    return Series(type=kind, columns={"x": found.get("theta", []), "y": found.get("r", [])})


def _bar(trace: Any) -> Series:
    columns, extra = points(trace), {}
    if not lies(trace):
        kind, across = "bar", "y"
    else:
        kind, across = "barh", "x"
        columns = {"y": columns["y"], "x": columns["x"]}
    base = column(at(trace, "base"))
    if base is not None:
        columns["base"] = base if len(base) == len(columns["x"]) else [base[0]] * len(columns["x"])
    if at(trace, f"error_{across}", "visible") is not False:
        _add_errors(trace, columns)
    _add_marker(trace, columns, extra)
    return Series(type=kind, columns=columns, extra=extra)


def _add_errors(trace: Any, columns: dict[str, Any]) -> None:
    """The ends of error bars, as plotly draws them: from an array, a share of the value, or a constant."""
    for axis in ("x", "y"):
        error = at(trace, f"error_{axis}")
        values = columns[axis]
        upper = column(at(error, "array"))
        kind, amount = at(error, "type"), at(error, "value")
        if upper is None and amount is not None and kind in ("percent", "constant"):
            upper = [
                abs((aggregates.number(value) or 0) * amount / 100) if kind == "percent" else amount for value in values
            ]
        if at(error, "visible") is False or upper is None or len(upper) != len(values):
            continue
        lower = column(at(error, "arrayminus"))
        lower = upper if lower is None or len(lower) != len(values) else lower
        for side, sign, lengths in (("low", -1, lower), ("high", 1, upper)):
            columns[f"{axis}_{side}"] = [
                _moved(value, sign, length) for value, length in zip(values, lengths, strict=True)
            ]


def _moved(value: Any, sign: int, length: Any) -> float | None:
    start, distance = aggregates.number(value), aggregates.number(length)
    return None if start is None or distance is None else shape.tidy(start + sign * distance)


def _add_marker(trace: Any, columns: dict[str, Any], extra: dict[str, Any]) -> None:
    """Colours and sizes that differ from point to point."""
    count = len(columns["x"])
    colors = column(at(trace, "marker", "color"))
    if colors is not None and len(colors) == count and not isinstance(at(trace, "marker", "color"), str):
        if count and isinstance(colors[0], str):
            columns["colors"] = [color_text(color) for color in colors] if count <= MAX_COMPUTED else colors
        else:
            columns["values"] = colors
            label = words(at(trace, "marker", "colorbar", "title", "text"))
            extra["color_scale"] = {"label": label} if label else {}
    sizes = column(at(trace, "marker", "size"))
    if sizes is not None and len(sizes) == count > 1:
        columns["size"] = sizes


# --------------------------------------------------------------------------------------------- parts of a whole, boxes


def _pie(trace: Any) -> Series:
    found = columns_of(trace, "labels", "values")
    labels = found.get("labels", range(len(found.get("values", ()))))
    values = found.get("values", [1] * len(labels))
    if len(labels) > MAX_COMPUTED:
        raise ValueError("too many slices to sum up")
    sums: dict[Any, float] = {}
    for label, value in zip(labels, values, strict=False):
        name = shape.plain(label)
        sums[name] = sums.get(name, 0.0) + (aggregates.number(value) or 0.0)
    columns: dict[str, Any] = {"labels": list(sums), "values": shape.tidy_values(sums.values())}
    colors = column(at(trace, "marker", "colors"))
    if colors is not None and len(colors) >= len(sums):
        columns["colors"] = [color_text(color) for color in colors[: len(sums)]]
    hole = at(trace, "hole")
    return Series(type="pie", columns=columns, extra={"shares": False} | ({"hole": hole} if hole else {}))


def _box(trace: Any) -> Series:
    is_lying = lies(trace)
    along, across = ("y", "x") if is_lying else ("x", "y")
    kind = "violin" if at(trace, "type") == "violin" else "box"
    extra = {"orientation": "horizontal" if is_lying else "vertical"}
    if at(trace, "q1") is not None:
        return _computed_box(trace, kind, along, extra)
    values, places = column(at(trace, across)), column(at(trace, along))
    if values is None or len(values) > MAX_COMPUTED:
        raise ValueError("no values, or too many for quartiles")
    if places is None:
        # plotly puts a box without a place at its trace's name, where several of them would else be one.
        places = [at(trace, f"{along}0") or words(at(trace, "name"))] * len(values)
    groups = aggregates.grouped(map(shape.plain, places), values)
    columns = aggregates.boxes(groups, along, is_midpoint=True)
    return Series(type=kind, columns=columns, extra=extra)


def _computed_box(trace: Any, kind: str, along: str, extra: dict[str, Any]) -> Series:
    """A box whose numbers the code has given."""
    found = columns_of(trace, along, "q1", "median", "q3", "lowerfence", "upperfence", "mean")
    columns = {name: found[name] for name in (along, "q1", "median", "q3") if name in found}
    columns["low"] = found.get("lowerfence", found["q1"])
    columns["high"] = found.get("upperfence", found["q3"])
    if "mean" in found:
        columns["mean"] = found["mean"]
    return Series(type=kind, columns=columns, extra=extra)


def _hierarchy(trace: Any) -> Series:
    columns = columns_of(trace, "labels", "parents", "values")
    return Series(type="hierarchy", columns=columns, extra={"kind": shape.text(at(trace, "type"))})


# ------------------------------------------------------------------------------------------------------------- fields


def _grid(trace: Any) -> Series:
    rows = column(at(trace, "z"))
    if rows is None or not len(rows):
        return Series(type="heatmap", columns={"x": [], "y": []}, grid=[])
    across = len(rows[0])
    x, y = (column(at(trace, name)) for name in ("x", "y"))
    columns = {
        "x": range(across) if x is None or len(x) < across else _centers(x, across),
        "y": range(len(rows)) if y is None or len(y) < len(rows) else _centers(y, len(rows)),
    }
    kind = str(at(trace, "type"))
    label = words(at(trace, "colorbar", "title", "text"))
    extra: dict[str, Any] = {"shape": [len(rows), across], "color_scale": {"label": label} if label else {}}
    return Series(
        type=kind if kind in ("contour", "surface") else "heatmap", columns=columns, grid=list(rows), extra=extra
    )


def _centers(values: Any, count: int) -> Any:
    """The middle of each cell, where the edges were given."""
    if len(values) != count + 1:
        return values
    return shape.tidy_values((float(low) + float(high)) / 2 for low, high in pairwise(values))


def _image(trace: Any) -> Series:
    rows = at(trace, "z")
    lengths = [len(rows), len(rows[0])] if rows is not None and len(rows) else []
    return Series(type="image", extra={"shape": lengths})


# --------------------------------------------------------------------------------------------------------------- rest


def _columns(kind: str, *names: str) -> Callable[[Any], Series]:
    def read(trace: Any) -> Series:
        return Series(type=kind, columns=columns_of(trace, *names))

    return read


def _map(trace: Any) -> Series:
    columns = columns_of(trace, "locations", "lat", "lon")
    values = column(at(trace, "z"))
    if values is None:
        values = column(at(trace, "marker", "color"))
    if values is not None and not isinstance(at(trace, "marker", "color"), str):
        columns["values"] = values
    return Series(type="map", columns=columns, extra={"kind": shape.text(at(trace, "type"))})


def _indicator(trace: Any) -> Series:
    series = Series(type="indicator", columns={"values": [at(trace, "value")]})
    reference = at(trace, "delta", "reference")
    if reference is not None:
        series.extra["reference"] = shape.plain(reference)
    title = words(at(trace, "title", "text"))
    if title:
        series.extra["title"] = shape.text(title)
    return series


def _table(trace: Any) -> Series:
    header = [words(column(name)[0]) for name in column(at(trace, "header", "values")) or ()]
    columns = [column(values) for values in column(at(trace, "cells", "values")) or ()]
    length = max(map(len, columns), default=0)
    shown = min(length, shape.MAX_POINTS)
    rows = [[shape.plain(values[row]) if row < len(values) else None for values in columns] for row in range(shown)]
    return Series(type="table", columns={"rows": [header, *rows] if header else rows}, count=length + bool(header))


def _histogram(trace: Any) -> Series:
    """What is to be counted; the bins are those of all histograms on the same axes."""
    along = "y" if lies(trace) else "x"
    return Series(type="histogram", columns=columns_of(trace, along))


_MANY_COLORED: Final = frozenset({"pie", "heatmap", "contour", "surface", "image", "table", "hierarchy"})
_READERS: Final[dict[str, Callable[[Any], Series]]] = {
    "scatter": _scatter,
    "scattergl": _scatter,
    "scatterpolar": _polar,
    "scatterpolargl": _polar,
    "barpolar": _polar,
    "bar": _bar,
    "histogram": _histogram,
    "pie": _pie,
    "box": _box,
    "violin": _box,
    "heatmap": _grid,
    "heatmapgl": _grid,
    "contour": _grid,
    "surface": _grid,
    "image": _image,
    "sunburst": _hierarchy,
    "treemap": _hierarchy,
    "icicle": _hierarchy,
    "scatter3d": _columns("scatter", "x", "y", "z"),
    "candlestick": _columns("candlestick", "x", "open", "high", "low", "close"),
    "ohlc": _columns("candlestick", "x", "open", "high", "low", "close"),
    "funnel": _columns("funnel", "y", "x"),
    "waterfall": _columns("waterfall", "x", "y", "measure"),
    "choropleth": _map,
    "choroplethmap": _map,
    "choroplethmapbox": _map,
    "scattergeo": _map,
    "scattermap": _map,
    "scattermapbox": _map,
    "indicator": _indicator,
    "table": _table,
}
