"""One view of Vega-Lite, a mark with its encodings, read into series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.vega_data import Channel, Row, Table, Unresolved, natural_order

#: Vega-Lite's colours for names, and for marks without a colour channel.
_COLORS: Final = ("#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#ff9da6", "#9d755d", "#bab0ac")
_USUAL_SCHEME: Final = "tableau10"
_RULE_COLOR: Final = "#000000"
#: Channels by which one mark is several series, the first that is there.
_SPLITTING: Final = ("color", "fill", "stroke", "strokeDash", "shape", "detail", "opacity")
_COLORING: Final = ("color", "fill", "stroke")
_SCATTERED: Final = frozenset({"point", "circle", "square", "tick"})
_USUAL_SIZE: Final = 300


class View:
    """A mark and its encodings, on one axes."""

    def __init__(self, mark: Any, encoding: Mapping[str, Any], rows: Sequence[Row], size: tuple[Any, Any]) -> None:
        """`size` is the width and the height."""
        self._options: Mapping[str, Any] = mark if isinstance(mark, Mapping) else {"type": mark}
        self.mark = str(self._options.get("type"))
        self.channels = {
            name: Channel(name, definition) for name, definition in encoding.items() if isinstance(definition, Mapping)
        }
        details = encoding.get("detail")
        if isinstance(details, list) and details:
            self.channels["detail"] = Channel("detail", details[0])
        self._rows = rows
        self._size = size
        self.series: list[shape.Series] = []
        self.references: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.arrangement = ""
        self._table: Table | None = None

    def read(self) -> None:
        """Fill in what the view shows.

        Raises:
            Unresolved: Its values cannot be computed here.
        """
        shown = [channel for name, channel in self.channels.items() if name not in ("row", "column", "facet", "href", "url")]
        if self.mark != "boxplot":
            self._table = Table(self._rows, shown)
        self._order_records()
        if self.mark == "bar":
            self._bars()
        elif self.mark in ("line", "trail"):
            self._lines("step" if "step" in str(self._options.get("interpolate")) else "line")
        elif self.mark == "area" and not ({"x2", "y2"} & self.channels.keys()):
            self._areas()
        elif self.mark in _SCATTERED:
            self._points()
        elif self.mark == "arc":
            self._pie()
        elif self.mark == "rect" and self._is_field():
            self._heatmap()
        elif self.mark == "boxplot":
            self._boxes()
        elif self.mark == "text":
            self.texts = [shape.text(value) for value in self.table.column("text") if value is not None]
        elif self.mark == "rule" and self._is_reference():
            self._refer()
        elif {"x2", "y2"} & self.channels.keys():
            self._ranges("band" if self.mark in ("area", "errorband") else "range")
        else:
            raise Unresolved(f"mark {self.mark}")
        for series in self.series:
            series.extra["fields"] = self.fields()

    @property
    def table(self) -> Table:
        """Its rows, once they are grouped."""
        if self._table is None:
            raise Unresolved("data")
        return self._table

    def unresolved(self, reason: str) -> shape.Series:
        """A series that says what is shown, without values."""
        extra = {"kind": shape.text(self.mark), "fields": self.fields(), "unresolved": shape.text(reason)}
        kinds = {"bar": "barh" if self._lies() else "bar", "line": "line", "area": "area", "arc": "pie", "boxplot": "box"}
        kind = "scatter" if self.mark in _SCATTERED else kinds.get(self.mark, "unknown")
        return shape.Series(type=kind, extra=extra, count=len(self._rows))

    def fields(self) -> dict[str, str]:
        """What each channel shows: `{"x": "region", "y": "sum(amount)"}`."""
        shown = {shape.text(name): shape.text(channel.words) for name, channel in self.channels.items()}
        return {name: words for name, words in shown.items() if words}

    # -------------------------------------------------------------------------------------------------------- axes

    def categories(self, name: str) -> list[Any] | None:
        """The names on an axis in their order; None of an axis of amounts."""
        channel = self.channels.get(name)
        if channel is None or not (channel.is_discrete and not channel.is_binned) or self._table is None:
            return None
        return self.ordered(channel, [shape.plain(value) for value in self.table.column(name)])

    def ordered(self, channel: Channel, values: Sequence[Any]) -> list[Any]:
        """The distinct values in the order that the channel asks for."""
        given = channel.definition.get("scale")
        domain = given.get("domain") if isinstance(given, Mapping) else None
        if isinstance(domain, list):
            return [shape.plain(value) for value in domain]
        sort = channel.definition.get("sort", "ascending")
        if sort is None:
            return list(dict.fromkeys(values))
        if isinstance(sort, list):
            first = [shape.plain(value) for value in sort]
            known = set(values)
            return [value for value in first if value in known] + natural_order(value for value in values if value not in first)
        if isinstance(sort, str) and sort.lstrip("-") in self.channels and sort not in ("ascending", "descending"):
            return self._by_total(channel.name, values, sort.lstrip("-"), sort.startswith("-"))
        if isinstance(sort, Mapping) and sort.get("encoding") in self.channels:
            return self._by_total(channel.name, values, str(sort["encoding"]), sort.get("order") == "descending")
        if isinstance(sort, Mapping):
            return self._by_field(channel, sort)
        order = natural_order(value for value in values if value is not None)
        return order[::-1] if sort == "descending" else order

    def _by_total(self, name: str, values: Sequence[Any], by: str, is_descending: bool) -> list[Any]:
        totals: dict[Any, float] = {}
        for place, record in zip(values, self.table.records, strict=False):
            totals[place] = totals.get(place, 0.0) + (aggregates.number(record.get(by)) or 0.0)
        return sorted(natural_order(totals), key=totals.__getitem__, reverse=is_descending)

    def _by_field(self, channel: Channel, sort: Mapping[str, Any]) -> list[Any]:
        by = Channel("sort", {"field": sort.get("field"), "aggregate": sort.get("op", "mean")})
        table = Table(self._rows, [Channel("at", {**channel.definition, "aggregate": None}), by])
        totals = {shape.plain(record["at"]): record["sort"] or 0.0 for record in table.records}
        return sorted(natural_order(totals), key=totals.__getitem__, reverse=sort.get("order") == "descending")

    def _order_records(self) -> None:
        """Put the rows into the order of what they are drawn along."""
        if self._table is None or self.mark not in ("bar", "line", "trail", "area", "rect"):
            return
        along = "y" if self._lies() else "x"
        names = self.categories(along)
        if names is not None:
            places = {name: number for number, name in enumerate(names)}
            self.table.records.sort(key=lambda record: places.get(shape.plain(record.get(along)), len(places)))
        elif along in self.channels:
            self.table.records.sort(key=lambda record: _sortable(record.get(along)))

    def _lies(self) -> bool:
        """Whether bars lie, or a line goes along y."""
        x, y = self.channels.get("x"), self.channels.get("y")
        if self._options.get("orient") in ("horizontal", "vertical"):
            return self._options["orient"] == "horizontal"
        if x is None or y is None:
            return x is not None and _is_amount(x)
        if _is_amount(x) and not _is_amount(y):
            return True
        return _is_amount(x) and bool(x.operation) and not y.operation

    # ------------------------------------------------------------------------------------------------------ colours

    def color_channel(self) -> Channel | None:
        """The one whose values are shown as colours."""
        return next((self.channels[name] for name in _COLORING if name in self.channels and self.channels[name].has_values), None)

    def colors(self) -> dict[Any, str | None]:
        """The colour of each name in the legend; None where it is of a scheme that is not known here."""
        channel = self.color_channel()
        if channel is None or not channel.is_discrete or self._table is None:
            return {}
        names = self.ordered(channel, [shape.plain(value) for value in self.table.column(channel.name)])
        scale = channel.definition.get("scale")
        scale = scale if isinstance(scale, Mapping) else {}
        palette = scale.get("range") or (_COLORS if scale.get("scheme", _USUAL_SCHEME) == _USUAL_SCHEME else None)
        if not isinstance(palette, (list, tuple)) or not palette or (channel.type == "ordinal" and "range" not in scale):
            return dict.fromkeys(names)
        return {name: str(palette[number % len(palette)]) for number, name in enumerate(names)}

    def _plain_color(self) -> str | None:
        for name in _COLORING:
            value = self.channels[name].definition.get("value") if name in self.channels else None
            if isinstance(value, str):
                return value
        for name in _COLORING:
            if isinstance(self._options.get(name), str):
                return str(self._options[name])
        return _RULE_COLOR if self.mark in ("rule", "text") else _COLORS[0]

    def _parts(self) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
        """The rows of each series, with its name and colour."""
        channels = [self.channels[name] for name in _SPLITTING if name in self.channels and self.channels[name].has_values]
        channel = next((channel for channel in channels if channel.is_discrete), None)
        if channel is None:
            return [("", self._plain_color(), self.table.records)]
        keys = [shape.plain(record[channel.name]) for record in self.table.records]
        groups = aggregates.grouped(keys, self.table.records)
        colors = self.colors()
        order = [key for key in self.ordered(channel, keys) if key in groups]
        plain = None if colors else self._plain_color()
        return [(str(key), colors.get(key, plain), groups[key]) for key in order]

    def _color_values(self, records: list[dict[str, Any]], series: shape.Series) -> None:
        """Amounts shown as colours or sizes, point by point."""
        channel = self.color_channel()
        if channel is not None and not channel.is_discrete:
            series.columns["values"] = [record[channel.name] for record in records]
            series.color = None
            series.extra["color_scale"] = {"label": shape.text(channel.title)} if channel.title else {}
        if "size" in self.channels and self.channels["size"].has_values:
            series.columns["size"] = [record["size"] for record in records]

    # -------------------------------------------------------------------------------------------------------- marks

    def _bars(self) -> None:
        along, across = ("y", "x") if self._lies() else ("x", "y")
        if {f"{along}2", f"{across}2"} & self.channels.keys():
            self._ranges("range")
            return
        parts = self._parts()
        self._stack(self._series("barh" if along == "y" else "bar", parts), parts, along, across)
        if along in self.table.bins:
            for series in self.series:
                self._make_histogram(series, along, across)
        if len(self.series) > 1:
            is_beside = f"{along}Offset" in self.channels
            self.arrangement = "grouped" if is_beside else "stacked" if self._stacking(across) else "overlaid"

    def _series(self, kind: str, parts: list[tuple[str, str | None, list[dict[str, Any]]]]) -> list[shape.Series]:
        for name, color, records in parts:
            columns = {axis: [record.get(axis) for record in records] for axis in ("x", "y") if axis in self.channels}
            series = shape.Series(type=kind, name=name, color=color, columns=columns)
            self._color_values(records, series)
            self.series.append(series)
        return self.series

    def _stacking(self, across: str) -> str:
        """How bars and areas of several colours stand upon each other: `zero`, `normalize`, `center`, or not at all."""
        channel = self.channels.get(across)
        if channel is None:
            return ""
        stack = channel.definition.get("stack", "zero")
        scale = channel.definition.get("scale")
        is_log = isinstance(scale, Mapping) and scale.get("type") not in (None, "linear")
        is_summed = channel.operation in (None, "sum", "count", "distinct", "valid")
        if stack in (None, False) or (is_log and "stack" not in channel.definition):
            return ""
        return (str(stack) if isinstance(stack, str) else "zero") if is_summed else ""

    def _stack(self, every: list[shape.Series], parts: list[Any], along: str, across: str) -> None:
        """Give each series its bases: the last name in the legend is at the bottom."""
        stacking = self._stacking(across)
        if len(every) < 2 or not stacking or not (_is_amount(self.channels[across]) if across in self.channels else False):
            return
        if stacking == "center":
            raise Unresolved("stack center")
        offset = f"{along}Offset"
        places = [
            [(shape.plain(record.get(along)), shape.plain(record.get(offset))) for record in records] for _, _, records in parts
        ]
        if stacking == "normalize":
            self._normalize(every, places, across)
        stack = aggregates.Stack()
        for series, own in reversed(list(zip(every, places, strict=True))):
            bases = stack.bases(own, series.columns[across])
            if any(bases):
                series.columns["base"] = bases

    @staticmethod
    def _normalize(every: list[shape.Series], places: list[list[Any]], across: str) -> None:
        totals: dict[Any, float] = {}
        for series, own in zip(every, places, strict=True):
            for place, value in zip(own, series.columns[across], strict=True):
                totals[place] = totals.get(place, 0.0) + (aggregates.number(value) or 0.0)
        for series, own in zip(every, places, strict=True):
            pairs = zip(own, series.columns[across], strict=True)
            series.columns[across] = [
                shape.tidy((aggregates.number(value) or 0.0) / totals[place]) if totals[place] else None for place, value in pairs
            ]

    def _make_histogram(self, series: shape.Series, along: str, across: str) -> None:
        """Bars of bins as edges and counts; bins that nothing fell into count nothing."""
        bins = self.table.bins[along]
        at = dict(zip(series.columns[along], zip(series.columns[across], series.columns.get("base", series.columns[across]), strict=True), strict=True))
        edges = bins.edges
        middles = [shape.tidy((low + high) / 2) for low, high in zip(edges, edges[1:], strict=False)]
        is_stacked = "base" in series.columns
        series.type, series.edges, series.count = "histogram", edges, bins.count
        series.columns = {"counts": [at.get(middle, (0.0, 0.0))[0] for middle in middles]}
        if is_stacked:
            series.columns["base"] = [at.get(middle, (0.0, 0.0))[1] for middle in middles]
        series.extra["orientation"] = "horizontal" if along == "y" else "vertical"
        if self.channels[across].operation == "count":
            series.extra["norm"] = "count"

    def _lines(self, kind: str) -> None:
        for series in self._series(kind, self._parts()):
            if kind == "step":
                series.extra["step"] = {"step-after": "post", "step-before": "pre"}.get(str(self._options["interpolate"]), "mid")

    def _areas(self) -> None:
        along, across = ("y", "x") if self._lies() else ("x", "y")
        parts = self._parts()
        self._stack(self._series("area", parts), parts, along, across)
        for series in self.series:
            series.extra["orientation"] = "horizontal" if along == "y" else "vertical"

    def _points(self) -> None:
        self._series("scatter", self._parts())

    def _pie(self) -> None:
        theta, channel = self.channels.get("theta"), self.color_channel()
        if theta is None:
            raise Unresolved("mark arc")
        labels = [shape.plain(record[channel.name]) for record in self.table.records] if channel is not None else []
        order = self.ordered(channel, labels) if channel is not None else []
        values = dict(zip(labels, self.table.column("theta"), strict=False))
        columns: dict[str, Any] = {"labels": order, "values": [values.get(label) for label in order]}
        if channel is None:
            columns = {"labels": [""] * len(self.table.records), "values": self.table.column("theta")}
        colors = self.colors()
        if any(colors.values()):
            columns["colors"] = [colors.get(label) for label in order]
        extra: dict[str, Any] = {"shares": False}
        inner, outer = self._options.get("innerRadius"), self._options.get("outerRadius") or self._radius()
        if isinstance(inner, (int, float)) and isinstance(outer, (int, float)) and inner > 0:
            extra["hole"] = shape.tidy(inner / outer)
        self.series.append(shape.Series(type="pie", columns=columns, extra=extra))

    def _radius(self) -> float:
        return min(size if isinstance(size, (int, float)) else _USUAL_SIZE for size in self._size) / 2

    def _is_field(self) -> bool:
        color = self.color_channel()
        cells = [self.channels.get(name) for name in ("x", "y")]
        return (
            color is not None
            and not color.is_discrete
            and all(cell is not None and (cell.is_discrete or cell.is_binned or bool(cell.unit)) for cell in cells)
        )

    def _heatmap(self) -> None:
        """Cells in rows and columns; a cell without a row has no value."""
        color = self.color_channel()
        if color is None:
            return
        places: dict[str, list[Any]] = {}
        for name in ("x", "y"):
            found = [shape.plain(value) for value in self.table.column(name)]
            places[name] = self.categories(name) or natural_order(value for value in found if value is not None)
        values = {(shape.plain(record["y"]), shape.plain(record["x"])): record[color.name] for record in self.table.records}
        grid = [[values.get((row, place)) for place in places["x"]] for row in places["y"]]
        shown = [len(places["y"]), len(places["x"])]
        extra: dict[str, Any] = {"shape": shown, "color_scale": {"label": shape.text(color.title)}}
        self.series.append(shape.Series(type="heatmap", columns=places, grid=grid, extra=extra))

    def _boxes(self) -> None:
        x, y = self.channels.get("x"), self.channels.get("y")
        is_lying = y is None or (x is not None and _is_amount(x) and not _is_amount(y))
        along, across = ("y", "x") if is_lying else ("x", "y")
        channels = [channel for channel in self.channels.values() if channel.name in ("x", "y", *_SPLITTING)]
        self._table = Table(self._rows, channels)
        for name, color, records in self._parts():
            order = self.categories(along)
            places = [shape.plain(record.get(along)) for record in records]
            groups = aggregates.grouped(places, [record[across] for record in records])
            groups = {place: groups[place] for place in order if place in groups} if order else groups
            columns = aggregates.boxes(groups, along if along in self.channels else "", is_midpoint=False)
            if self._options.get("extent") == "min-max":
                columns |= {"low": [], "high": [], "outliers": [[] for _ in groups]}
                for values in map(aggregates.numbers, groups.values()):
                    columns["low"].append(min(values, default=None))
                    columns["high"].append(max(values, default=None))
            extra = {"orientation": "horizontal" if is_lying else "vertical"}
            self.series.append(shape.Series(type="box", name=name, color=color, columns=columns, extra=extra))

    def _is_reference(self) -> bool:
        return len({"x", "y"} & self.channels.keys()) == 1 and not ({"x2", "y2"} & self.channels.keys())

    def _refer(self) -> None:
        axis = "x" if "x" in self.channels else "y"
        name = self.channels[axis].title if "title" in self.channels[axis].definition else ""
        for record in self.table.first(shape.MAX_LABELS) or [{axis: self.channels[axis].definition.get("datum")}]:
            reference = {"axis": axis, "value": shape.plain(record.get(axis)), "name": shape.text(name)}
            if reference not in self.references:
                self.references.append(reference)
        color = self._plain_color()
        for reference in self.references:
            reference |= {"color": shape.text(color)} if color else {}

    def _ranges(self, kind: str) -> None:
        """What goes from one field to another."""
        across = "y" if "y2" in self.channels else "x"
        along = "x" if across == "y" else "y"
        for name, color, records in self._parts():
            columns: dict[str, Any] = {along: [record.get(along) for record in records]} if along in self.channels else {}
            ends = [(_sortable_or_none(record.get(across)), _sortable_or_none(record.get(f"{across}2"))) for record in records]
            columns[f"{across}_low"] = [min(pair) if None not in pair else None for pair in ends]
            columns[f"{across}_high"] = [max(pair) if None not in pair else None for pair in ends]
            extra = {"orientation": "vertical" if across == "y" else "horizontal"}
            self.series.append(shape.Series(type=kind, name=name, color=color, columns=columns, extra=extra))


def _is_amount(channel: Channel) -> bool:
    """Whether it is what a bar is long by."""
    return channel.type == "quantitative" and not channel.definition.get("bin")


def _sortable(value: Any) -> tuple[int, float, str]:
    """A key that puts numbers by size, texts by letters, and nothing last."""
    number = aggregates.number(value)
    if number is not None:
        return 0, number, ""
    return (2, math.inf, "") if value is None else (1, 0.0, str(value))


def _sortable_or_none(value: Any) -> Any:
    plain = shape.plain(value)
    return plain if isinstance(plain, (int, float, str)) else None
