"""altair's charts, and the Vega-Lite that they stand for: layers, facets, repeats and charts side by side.

Vega-Lite computes in the page.  Here are computed: aggregates, bins, units of time, stacks, box plots, and the
transforms `fold`, `aggregate` and `filter` of one field.  A view that needs more, or whose data are elsewhere, is
described by its fields, with the reason under `unresolved`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bichat.sandbox.guest.charts import shape, vega_marks
from bichat.sandbox.guest.charts.chart import Axes, Chart
from bichat.sandbox.guest.charts.vega_data import MAX_ROWS, Channel, Row, Unresolved, rows_of, transformed
from bichat.sandbox.guest.charts.vega_views import View

#: Charts within charts.
_MAX_DEPTH: Final = 10
#: Rows by which altair tells the types of fields.
_TYPE_SAMPLE: Final = 100
_SCALES: Final = {"log": "log", "symlog": "symlog", "sqrt": "sqrt", "pow": "pow"}
_CONCATENATIONS: Final = ("hconcat", "vconcat", "concat")


def describe_chart(chart: Any) -> dict[str, Any] | None:
    """The description of an altair chart.  Data that are too many are not even asked for."""
    rows: Any = getattr(chart, "data", None)
    if not (hasattr(rows, "head") and hasattr(rows, "__len__") and len(rows) > MAX_ROWS):
        return describe(chart.to_dict(validate=False, context={"pre_transform": False}))
    chart = chart.copy(deep=False)
    chart.data = rows.head(_TYPE_SAMPLE)
    return describe({**chart.to_dict(validate=False, context={"pre_transform": False}), "data": {"rows": len(rows)}})


def describe(specification: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a Vega-Lite specification."""
    datasets = specification.get("datasets")
    walk = _Walk(datasets if isinstance(datasets, Mapping) else {})
    walk.visit(specification, _Context(), depth=0)
    chart = Chart(library="vega-lite", title=_title(specification), axes=walk.axes)
    if len(walk.axes) == 1:
        walk.axes[0].place = {key: value for key, value in walk.axes[0].place.items() if key not in ("row", "column")}
    return chart.document()


def _title(specification: Mapping[str, Any]) -> str:
    title = specification.get("title")
    title = title.get("text") if isinstance(title, Mapping) else title
    return " ".join(map(str, title)) if isinstance(title, list) else str(title or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What a chart has from those around it."""

    data: Any = None
    transforms: tuple[Mapping[str, Any], ...] = ()
    encoding: Mapping[str, Any] | None = None
    repeated: Mapping[str, str] | None = None
    facets: tuple[tuple[str, Any], ...] = ()
    row: int = 0
    column: int = 0
    title: str = ""
    size: tuple[Any, Any] = (None, None)


class _Walk:
    """Goes through a specification and collects the axes."""

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self._datasets = datasets
        self.axes: list[Axes] = []

    def visit(self, specification: Mapping[str, Any], context: _Context, *, depth: int) -> None:
        """Add what a chart, or one of several that it holds, shows."""
        if depth > _MAX_DEPTH or len(self.axes) > shape.MAX_AXES:
            self.axes.append(Axes())
            return
        context = _entered(specification, context)
        side_by_side = next((name for name in _CONCATENATIONS if name in specification), None)
        if side_by_side is not None:
            self._several(specification, side_by_side, context, depth)
        elif "repeat" in specification:
            self._repeat(specification, context, depth)
        elif "facet" in specification and "spec" in specification:
            facet = specification["facet"]
            columns = {"columns": specification["columns"]} if "columns" in specification else {}
            channels = facet if {"row", "column"} & facet.keys() else {"facet": {**facet, **columns}}
            encoding = {**(context.encoding or {}), **channels}
            self.visit(specification["spec"], replace(context, encoding=encoding), depth=depth + 1)
        else:
            self._plots(specification, context)

    def _several(self, specification: Mapping[str, Any], name: str, context: _Context, depth: int) -> None:
        every = 1 if name == "vconcat" else specification.get("columns") if name == "concat" else None
        for number, child in enumerate(specification[name][: shape.MAX_AXES + 1]):
            down, across = divmod(number, int(every)) if every else (0, number)
            place = replace(context, row=context.row + down, column=context.column + across, title="")
            self.visit(child, place, depth=depth + 1)

    def _repeat(self, specification: Mapping[str, Any], context: _Context, depth: int) -> None:
        repeat = specification["repeat"]
        if isinstance(repeat, list):
            columns = int(specification.get("columns") or len(repeat) or 1)
            for number, field in enumerate(repeat):
                place = replace(context, row=number // columns, column=number % columns)
                self.visit(specification["spec"], replace(place, repeated={"repeat": field}), depth=depth + 1)
            return
        if "layer" in repeat:
            layers = [_substituted(specification["spec"], {"layer": field}) for field in repeat["layer"]]
            self.visit({"layer": layers}, context, depth=depth + 1)
            return
        for down, row in enumerate(repeat.get("row") or [None]):
            for across, column in enumerate(repeat.get("column") or [None]):
                repeated = {name: field for name, field in (("row", row), ("column", column)) if field is not None}
                place = replace(context, row=down, column=across, repeated=repeated)
                self.visit(specification["spec"], place, depth=depth + 1)

    # ------------------------------------------------------------------------------------------------------ plots

    def _plots(self, specification: Mapping[str, Any], context: _Context) -> None:
        """One plot, or one for each value of the fields that it is divided by."""
        views = list(_layers(specification, context, depth=0))
        for facets, down, across, heading in self._facets(views):
            place = replace(context, row=context.row + down, column=context.column + across, facets=facets)
            self._plot(specification, views, replace(place, title=heading or context.title))

    def _facets(self, views: list[tuple[Any, _Context]]) -> list[tuple[tuple[tuple[str, Any], ...], int, int, str]]:
        encoding = next((context.encoding or {} for _, context in views), {})
        channels = {name: Channel(name, encoding[name]) for name in ("row", "column", "facet") if name in encoding}
        if not channels:
            return [((), 0, 0, "")]
        try:
            rows = self._rows(views[0][1])
            view = View("point", encoding, rows, (None, None))
            found = {
                name: view.ordered(channel, [shape.plain(channel.value(row)) for row in rows])
                for name, channel in channels.items()
            }
        except Unresolved:
            return [((), 0, 0, "")]
        if "facet" in found:
            columns = int(encoding["facet"].get("columns") or len(found["facet"]) or 1)
            return [
                (((channels["facet"].field or "", value),), number // columns, number % columns, str(value))
                for number, value in enumerate(found["facet"])
            ]
        plots: list[tuple[tuple[tuple[str, Any], ...], int, int, str]] = []
        for down, row in enumerate(found.get("row", [None])):
            for across, column in enumerate(found.get("column", [None])):
                pairs = [(name, value) for name, value in (("row", row), ("column", column)) if name in channels]
                facets = tuple((channels[name].field or "", value) for name, value in pairs)
                plots.append((facets, down, across, " / ".join(str(value) for _, value in pairs)))
        return plots

    def _plot(self, specification: Mapping[str, Any], views: list[tuple[Any, _Context]], place: _Context) -> None:
        independent = _independent(specification)
        axes = Axes(title=place.title, place={"row": place.row, "column": place.column})
        first = len(self.axes)
        self.axes.append(axes)
        framed: list[View] = []
        for number, (mark, context) in enumerate(views):
            view = self._view(mark, replace(context, facets=place.facets))
            if independent and number and len(self.axes) - first <= number:
                _frame(axes, framed)
                shared = "x" if independent == "y" else "y"
                axes = Axes(place={"twin_of": first, "shares": shared})
                self.axes.append(axes)
                framed = []
            framed.append(view)
            axes.series += view.series
            axes.references += view.references
            axes.texts += view.texts
        _frame(axes, framed)

    def _view(self, mark: Any, context: _Context) -> View:
        rows: Sequence[Row] = []
        reason = ""
        try:
            rows = self._rows(context)
        except Unresolved as unresolved:
            reason = str(unresolved)
        view = View(mark, context.encoding or {}, rows, context.size)
        try:
            if not reason:
                vega_marks.read(view)
        except Unresolved as unresolved:
            reason = str(unresolved)
        if reason:
            view.series = [view.unresolved(reason, self._row_count(context))]
        return view

    def _row_count(self, context: _Context) -> int:
        """How many rows there are before any transform, as far as is known."""
        if isinstance(context.data, Mapping) and "rows" in context.data:
            return int(context.data["rows"])
        try:
            return len(rows_of(context.data, self._datasets))
        except Unresolved:
            return 0

    def _rows(self, context: _Context) -> Sequence[Row]:
        rows = transformed(rows_of(context.data, self._datasets), context.transforms)
        for field, value in context.facets:
            channel = Channel("facet", {"field": field})
            rows = [row for row in rows if shape.plain(channel.value(row)) == value]
        return rows


def _entered(specification: Mapping[str, Any], context: _Context) -> _Context:
    """The context within a chart."""
    encoding = specification.get("encoding")
    return replace(
        context,
        data=specification.get("data", context.data),
        transforms=(*context.transforms, *specification.get("transform", ())),
        encoding={**(context.encoding or {}), **encoding} if isinstance(encoding, Mapping) else context.encoding,
        title=context.title or _title(specification),
        size=(specification.get("width", context.size[0]), specification.get("height", context.size[1])),
    )


def _layers(specification: Mapping[str, Any], context: _Context, *, depth: int) -> list[tuple[Any, _Context]]:
    """The marks of a plot, each with what holds for it."""
    if "layer" not in specification:
        encoding = _substituted(context.encoding or {}, context.repeated or {})
        return [(specification.get("mark"), replace(context, encoding=encoding))]
    found: list[tuple[Any, _Context]] = []
    for child in specification["layer"] if depth <= _MAX_DEPTH else ():
        found += _layers(child, _entered(child, context), depth=depth + 1)
    return found


def _substituted(value: Any, repeated: Mapping[str, str]) -> Any:
    """The same with the fields in the place of what repeats."""
    if isinstance(value, Mapping):
        name = value.get("repeat")
        if isinstance(name, str) and name in repeated:
            return repeated[name]
        return {
            key: _substituted(item, repeated) if isinstance(item, (Mapping, list)) else item
            for key, item in value.items()
        }
    return [_substituted(item, repeated) for item in value] if isinstance(value, list) else value


def _independent(specification: Mapping[str, Any]) -> str:
    """The axis that each layer has for itself."""
    resolve = specification.get("resolve")
    scale = resolve.get("scale") if isinstance(resolve, Mapping) else None
    if not isinstance(scale, Mapping) or "layer" not in specification:
        return ""
    return next((axis for axis in ("y", "x") if scale.get(axis) == "independent"), "")


def _frame(axes: Axes, views: list[View]) -> None:
    """Describe the axes and the legend of views that share them."""
    if not views or all(series.type == "pie" for series in axes.series):
        axes.legend = _legend(views)
        return
    axes.x, axes.y = _axis(views, "x"), _axis(views, "y")
    axes.legend = _legend(views)
    arrangement = next((view.arrangement for view in views if view.arrangement), "")
    if arrangement:
        axes.place["arrangement"] = arrangement


def _axis(views: list[View], name: str) -> dict[str, Any] | None:
    channels = [(view, view.channels[name]) for view in views if name in view.channels]
    if not channels:
        return None
    channel = channels[0][1]
    found = channel.definition.get("scale")
    options = found if isinstance(found, Mapping) else {}
    scale = _SCALES.get(str(options.get("type")), "linear")
    if channel.type == "temporal" or (channel.is_discrete and not channel.is_binned):
        scale = "date" if channel.type == "temporal" else "category"
    domain = options.get("domain")
    limits = domain if isinstance(domain, list) and len(domain) == 2 and scale != "category" else None
    titles = dict.fromkeys(title for _, other in channels if (title := other.title))
    return shape.axis_document(
        ", ".join(titles),
        scale,
        limits=None if limits is None else shape.plain_values(limits),
        categories=_categories(channels, name) if scale == "category" else None,
        inverted=bool(options.get("reverse"))
        or (scale != "category" and channel.definition.get("sort") == "descending"),
        # The brackets of a title that Vega-Lite makes hold no unit.
        unit="%" if "%" in _format(channel) else "" if channel.is_binned or channel.unit else None,
    )


def _categories(channels: list[tuple[View, Channel]], name: str) -> list[Any]:
    """The names of all views, those of the first in its order."""
    found: dict[Any, None] = {}
    for view, _ in channels:
        try:
            found |= dict.fromkeys(view.categories(name) or ())
        except Unresolved:
            continue
    return list(found)


def _format(channel: Channel) -> str:
    axis = channel.definition.get("axis")
    return str(axis.get("format", "")) if isinstance(axis, Mapping) else ""


def _legend(views: list[View]) -> dict[str, Any] | None:
    for view in views:
        channel = view.color_channel()
        if channel is None or ("legend" in channel.definition and channel.definition["legend"] is None):
            continue
        try:
            entries = [(str(name), color) for name, color in view.colors().items()]
        except Unresolved:
            continue
        if entries:
            return shape.legend(channel.title, entries)
    return None
