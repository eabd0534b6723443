"""Vega-Lite's marks, each read from its view into series, references or texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.vega_data import Table, Unresolved, natural_order
from bichat.sandbox.guest.charts.vega_views import SPLITTING, Part, View, is_amount

_USUAL_SIZE: Final = 300
_STEPS: Final = {"step-after": "post", "step-before": "pre"}


def read(view: View) -> None:
    """Fill in what the view shows.

    Raises:
        Unresolved: Its values cannot be computed here.
    """
    reader = _READERS.get(view.mark)
    if reader is None:
        raise Unresolved(f"mark {view.mark}")
    view.order_records()
    reader(view)
    for series in view.series:
        series.extra["fields"] = view.fields()


def _directions(view: View) -> tuple[str, str]:
    """Along which axis bars or areas stand, and along which they are measured."""
    return ("y", "x") if view.lies() else ("x", "y")


def _orientation(along: str) -> str:
    return "horizontal" if along == "y" else "vertical"


def _add(view: View, kind: str, parts: Sequence[Part]) -> None:
    """A series of each part, with its positions, and amounts shown as colours or sizes."""
    color = view.color_channel()
    for part in parts:
        columns = {axis: [record.get(axis) for record in part.records] for axis in ("x", "y") if axis in view.channels}
        series = Series(type=kind, name=part.name, color=part.color, columns=columns)
        if color is not None and not color.is_discrete:
            series.columns["values"] = [record[color.name] for record in part.records]
            series.color = None
            series.extra["color_scale"] = {"label": shape.text(color.title)} if color.title else {}
        if "size" in view.channels and view.channels["size"].has_values:
            series.columns["size"] = [record["size"] for record in part.records]
        view.series.append(series)


# ------------------------------------------------------------------------------------------------------ bars and areas


def _bar(view: View) -> None:
    if {"x2", "y2"} & view.channels.keys():
        _range(view)
        return
    along, across = _directions(view)
    parts = view.parts()
    _add(view, "barh" if along == "y" else "bar", parts)
    stacking = _stack(view, parts, along, across)
    if along in view.table.bins:
        for series in view.series:
            _make_histogram(view, series, along, across)
    if len(view.series) > 1:
        is_beside = f"{along}Offset" in view.channels
        view.arrangement = "grouped" if is_beside else "stacked" if stacking else "overlaid"


def _area(view: View) -> None:
    if {"x2", "y2"} & view.channels.keys():
        _band(view)
        return
    along, across = _directions(view)
    parts = view.parts()
    _add(view, "area", parts)
    if len(parts) > 1:
        _stack(view, parts, along, across)
    for series in view.series:
        series.extra["orientation"] = _orientation(along)


def _stack(view: View, parts: Sequence[Part], along: str, across: str) -> bool:
    """Give each series its bases, if they are stacked: the last name in the legend is at the bottom."""
    stacking = view.stacking(across)
    if not stacking:
        return False
    if stacking == "center":
        raise Unresolved("stack center")
    offset = f"{along}Offset"
    places = [[(shape.plain(row.get(along)), shape.plain(row.get(offset))) for row in part.records] for part in parts]
    if stacking == "normalize":
        _normalize(view.series, places, across)
    stack = aggregates.Stack()
    for series, own in reversed(list(zip(view.series, places, strict=True))):
        bases = stack.bases(own, series.columns[across])
        if any(bases):
            series.columns["base"] = bases
    return True


def _normalize(every: Sequence[Series], places: list[list[Any]], across: str) -> None:
    """Make lengths shares of the whole at each place."""
    totals: dict[Any, float] = {}
    for series, own in zip(every, places, strict=True):
        for place, value in zip(own, series.columns[across], strict=True):
            totals[place] = totals.get(place, 0.0) + (aggregates.number(value) or 0.0)
    for series, own in zip(every, places, strict=True):
        series.columns[across] = [
            shape.tidy((aggregates.number(value) or 0.0) / totals[place]) if totals[place] else None
            for place, value in zip(own, series.columns[across], strict=True)
        ]


def _make_histogram(view: View, series: Series, along: str, across: str) -> None:
    """Bars of bins as edges and counts; bins that nothing fell into count nothing."""
    bins = view.table.bins[along]
    middles = [shape.tidy((low + high) / 2) for low, high in pairwise(bins.edges)]
    counts = dict(zip(series.columns[along], series.columns[across], strict=True))
    bases = dict(zip(series.columns[along], series.columns.get("base", ()), strict=False))
    series.type, series.edges, series.count = "histogram", bins.edges, bins.number
    series.columns = {"counts": [counts.get(middle, 0.0) for middle in middles]}
    if bases:
        series.columns["base"] = [bases.get(middle, 0.0) for middle in middles]
    series.extra["orientation"] = _orientation(along)
    if view.channels[across].operation == "count":
        series.extra["norm"] = "count"


# ----------------------------------------------------------------------------------------------------- lines and points


def _line(view: View) -> None:
    interpolation = str(view.options.get("interpolate"))
    is_step = interpolation.startswith("step")
    _add(view, "step" if is_step else "line", view.parts())
    for series in view.series:
        series.extra |= {"step": _STEPS.get(interpolation, "mid")} if is_step else {}


def _scatter(view: View) -> None:
    _add(view, "scatter", view.parts())


def _text(view: View) -> None:
    view.texts = [shape.text(value) for value in view.table.column("text") if value is not None]


def _rule(view: View) -> None:
    """Lines across the plot, or from one field to another."""
    if {"x2", "y2"} & view.channels.keys():
        _range(view)
        return
    if len({"x", "y"} & view.channels.keys()) != 1:
        raise Unresolved("mark rule")
    axis = "x" if "x" in view.channels else "y"
    channel = view.channels[axis]
    name = channel.title if "title" in channel.definition else ""
    color = view.plain_color()
    for record in view.table.first(shape.MAX_LABELS) or [{axis: channel.definition.get("datum")}]:
        reference = {"axis": axis, "value": shape.plain(record.get(axis)), "name": shape.text(name)}
        reference |= {"color": shape.text(color)} if color else {}
        if reference not in view.references:
            view.references.append(reference)


def _range(view: View, kind: str = "range") -> None:
    """What goes from one field to another."""
    across = "y" if "y2" in view.channels else "x"
    along = "x" if across == "y" else "y"
    if f"{across}2" not in view.channels:
        raise Unresolved(f"mark {view.mark}")
    for part in view.parts():
        columns: dict[str, Any] = {}
        if along in view.channels:
            columns[along] = [record.get(along) for record in part.records]
        ends = [[shape.plain(record.get(name)) for name in (across, f"{across}2")] for record in part.records]
        ends = [sorted(pair) if None not in pair else [None, None] for pair in ends]
        columns |= {f"{across}_low": [low for low, _ in ends], f"{across}_high": [high for _, high in ends]}
        extra = {"orientation": _orientation(along)}
        view.series.append(Series(type=kind, name=part.name, color=part.color, columns=columns, extra=extra))


def _band(view: View) -> None:
    _range(view, "band")


# ------------------------------------------------------------------------------------------------------- pies and cells


def _pie(view: View) -> None:
    theta, channel = view.channels.get("theta"), view.color_channel()
    if theta is None:
        raise Unresolved("mark arc")
    values = view.table.column("theta")
    columns: dict[str, Any] = {"labels": [""] * len(values), "values": values}
    if channel is not None:
        labels = [shape.plain(value) for value in view.table.column(channel.name)]
        known = dict(zip(labels, values, strict=True))
        order, colors = view.ordered(channel, labels), view.colors()
        columns = {"labels": order, "values": [known.get(label) for label in order]}
        if any(colors.values()):
            columns["colors"] = [colors.get(label) for label in order]
    extra: dict[str, Any] = {"shares": False}
    inner, outer = view.options.get("innerRadius"), view.options.get("outerRadius") or _radius(view)
    if isinstance(inner, (int, float)) and isinstance(outer, (int, float)) and inner > 0:
        extra["hole"] = shape.tidy(inner / outer)
    view.series.append(Series(type="pie", columns=columns, extra=extra))


def _radius(view: View) -> float:
    return min(size if isinstance(size, (int, float)) else _USUAL_SIZE for size in view.size) / 2


def _heatmap(view: View) -> None:
    """Cells in rows and columns; a cell without a row has no value."""
    color = view.color_channel()
    cells = [view.channels.get(name) for name in ("x", "y")]
    if (
        color is None
        or color.is_discrete
        or None in cells
        or any(is_amount(cell) for cell in cells if cell is not None)
    ):
        _range(view)
        return
    places: dict[str, list[Any]] = {}
    for name in ("x", "y"):
        found = [shape.plain(value) for value in view.table.column(name)]
        places[name] = view.categories(name) or natural_order(value for value in found if value is not None)
    values = {(shape.plain(row["y"]), shape.plain(row["x"])): row[color.name] for row in view.table.records}
    grid = [[values.get((row, place)) for place in places["x"]] for row in places["y"]]
    extra: dict[str, Any] = {
        "shape": [len(places["y"]), len(places["x"])],
        "color_scale": {"label": shape.text(color.title)} if color.title else {},
    }
    view.series.append(Series(type="heatmap", columns=places, grid=grid, extra=extra))


def _box(view: View) -> None:
    x, y = view.channels.get("x"), view.channels.get("y")
    is_lying = y is None or (x is not None and is_amount(x) and not is_amount(y))
    along, across = ("y", "x") if is_lying else ("x", "y")
    view.regroup(Table(view.rows, [view.channels[name] for name in ("x", "y", *SPLITTING) if name in view.channels]))
    for part in view.parts():
        order = view.categories(along)
        places = [shape.plain(record.get(along)) for record in part.records]
        groups = aggregates.grouped(places, [record[across] for record in part.records])
        groups = {place: groups[place] for place in order if place in groups} if order else groups
        columns = aggregates.boxes(groups, along if along in view.channels else "", is_midpoint=False)
        if view.options.get("extent") == "min-max":
            ranges = [aggregates.numbers(values) for values in groups.values()]
            columns["low"] = [min(values, default=None) for values in ranges]
            columns["high"] = [max(values, default=None) for values in ranges]
            columns["outliers"] = [[] for _ in ranges]
        extra = {"orientation": _orientation(along)}
        view.series.append(Series(type="box", name=part.name, color=part.color, columns=columns, extra=extra))


_READERS: Final[dict[str, Callable[[View], None]]] = {
    "bar": _bar,
    "area": _area,
    "line": _line,
    "trail": _line,
    "point": _scatter,
    "circle": _scatter,
    "square": _scatter,
    "tick": _scatter,
    "text": _text,
    "rule": _rule,
    "arc": _pie,
    "rect": _heatmap,
    "boxplot": _box,
    "errorbar": _range,
    "errorband": _band,
}
