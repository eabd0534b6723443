"""One view of Vega-Lite, a mark with its encodings: rows, order, colours, and what is a series of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.vega_data import Channel, Row, Table, natural_order

#: Channels by which one mark is several series, the first that is there.
SPLITTING: Final = ("color", "fill", "stroke", "strokeDash", "shape", "detail", "opacity")
#: Vega-Lite's colours for names; the first is that of marks without a colour channel.
_COLORS: Final = (
    *("#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b"),
    *("#eeca3b", "#b279a2", "#ff9da6", "#9d755d", "#bab0ac"),
)
_USUAL_SCHEME: Final = "tableau10"
_COLORING: Final = ("color", "fill", "stroke")
_BLACK: Final = frozenset({"rule", "text"})
_UNDRAWN: Final = frozenset({"row", "column", "facet", "href", "url"})
_TYPES: Final = {
    "line": "line",
    "trail": "line",
    "area": "area",
    "arc": "pie",
    "boxplot": "box",
    **dict.fromkeys(("point", "circle", "square", "tick"), "scatter"),
}


class Part(NamedTuple):
    """The rows of one series."""

    name: str
    color: str | None
    records: list[dict[str, Any]]


class View:
    """A mark and its encodings, on one axes."""

    def __init__(self, mark: Any, encoding: Mapping[str, Any], rows: Sequence[Row], size: tuple[Any, Any]) -> None:
        """`size` is the width and the height."""
        self.options: Mapping[str, Any] = mark if isinstance(mark, Mapping) else {"type": mark}
        self.mark = str(self.options.get("type"))
        self.channels = {
            name: Channel(name, definition) for name, definition in encoding.items() if isinstance(definition, Mapping)
        }
        details = encoding.get("detail")
        if isinstance(details, list) and details:
            self.channels["detail"] = Channel("detail", details[0])
        self.rows = rows
        self.size = size
        self.series: list[Series] = []
        self.references: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.arrangement = ""
        self._table: Table | None = None

    @property
    def table(self) -> Table:
        """Its rows, grouped.

        Raises:
            Unresolved: They cannot be.
        """
        if self._table is None:
            self._table = Table(self.rows, [self.channels[name] for name in self.channels if name not in _UNDRAWN])
        return self._table

    def regroup(self, table: Table) -> None:
        """Take other rows for its own."""
        self._table = table

    def unresolved(self, reason: str, row_count: int) -> Series:
        """A series that says what is shown of so many rows, without values."""
        extra = {"kind": shape.text(self.mark), "fields": self.fields(), "unresolved": shape.text(reason)}
        kind = _TYPES.get(self.mark, "unknown")
        if self.mark == "bar":
            kind = "barh" if self.lies() else "bar"
        return Series(type=kind, extra=extra, count=row_count)

    def fields(self) -> dict[str, str]:
        """What each channel shows: `{"x": "region", "y": "sum(amount)"}`."""
        shown = {shape.text(name): shape.text(channel.words) for name, channel in self.channels.items()}
        return {name: words for name, words in shown.items() if words}

    def lies(self) -> bool:
        """Whether bars lie, or a line goes along y."""
        x, y = self.channels.get("x"), self.channels.get("y")
        if self.options.get("orient") in ("horizontal", "vertical"):
            return self.options["orient"] == "horizontal"
        if x is None or y is None:
            return x is not None and is_amount(x)
        return is_amount(x) and (not is_amount(y) or bool(x.operation and not y.operation))

    def stacking(self, across: str) -> str:
        """How what several colours have stands upon each other: `zero`, `normalize`, `center`, or not at all."""
        channel = self.channels.get(across)
        if channel is None or not is_amount(channel):
            return ""
        scale = channel.definition.get("scale")
        is_linear = not isinstance(scale, Mapping) or scale.get("type") in (None, "linear")
        stack = channel.definition.get("stack", "zero" if is_linear else None)
        if stack in (None, False):
            return ""
        return stack if isinstance(stack, str) else "zero"

    # ------------------------------------------------------------------------------------------------------- order

    def categories(self, name: str) -> list[Any] | None:
        """The names on an axis in their order; None of an axis of amounts."""
        channel = self.channels.get(name)
        if channel is None or not channel.is_discrete or channel.is_binned:
            return None
        return self.ordered(channel, [shape.plain(value) for value in self.table.column(name)])

    def ordered(self, channel: Channel, values: Sequence[Any]) -> list[Any]:
        """The distinct values in the order that the channel asks for."""
        scale, sort = channel.definition.get("scale"), channel.definition.get("sort", "ascending")
        if isinstance(scale, Mapping) and isinstance(scale.get("domain"), list):
            return [shape.plain(value) for value in scale["domain"]]
        if sort is None:
            return list(dict.fromkeys(values))
        if isinstance(sort, list):
            first = [value for value in map(shape.plain, sort) if value in values]
            return first + natural_order(value for value in values if value not in first)
        by = sort.get("encoding") if isinstance(sort, Mapping) else str(sort).lstrip("-")
        order = natural_order(value for value in values if value is not None)
        totals: Mapping[Any, float] | None = None
        if by in self.channels:
            totals = self._totals(values, str(by))
        elif isinstance(sort, Mapping):
            totals = self._totals_of_field(channel, sort)
        is_descending = str(sort.get("order") if isinstance(sort, Mapping) else sort).startswith(("-", "descending"))
        if totals is None:
            return order[::-1] if is_descending else order
        return sorted(order, key=lambda value: totals.get(value, 0.0), reverse=is_descending)

    def _totals(self, values: Sequence[Any], by: str) -> dict[Any, float]:
        totals: dict[Any, float] = {}
        for place, record in zip(values, self.table.records, strict=False):
            totals[place] = totals.get(place, 0.0) + (aggregates.number(record.get(by)) or 0.0)
        return totals

    def _totals_of_field(self, channel: Channel, sort: Mapping[str, Any]) -> dict[Any, float]:
        by = Channel("by", {"field": sort.get("field"), "aggregate": sort.get("op", "mean")})
        table = Table(self.rows, [Channel("at", {**channel.definition, "aggregate": None}), by])
        return {shape.plain(record["at"]): record["by"] or 0.0 for record in table.records}

    def order_records(self) -> None:
        """Put the rows into the order of what they are drawn along."""
        if self.mark not in ("bar", "line", "trail", "area"):
            return
        along = "y" if self.lies() else "x"
        names = self.categories(along)
        if names is not None:
            places = {name: number for number, name in enumerate(names)}
            self.table.records.sort(key=lambda record: places.get(shape.plain(record.get(along)), len(places)))
        elif along in self.channels:
            self.table.records.sort(key=lambda record: _sortable(record.get(along)))

    # ------------------------------------------------------------------------------------------------------ colours

    def color_channel(self) -> Channel | None:
        """The one whose values are shown as colours."""
        channels = [self.channels[name] for name in _COLORING if name in self.channels]
        return next((channel for channel in channels if channel.has_values), None)

    def colors(self) -> dict[Any, str | None]:
        """The colour of each name in the legend; None where it is of a scheme that is not known here."""
        channel = self.color_channel()
        if channel is None or not channel.is_discrete:
            return {}
        names = self.ordered(channel, [shape.plain(value) for value in self.table.column(channel.name)])
        scale = channel.definition.get("scale")
        scale = scale if isinstance(scale, Mapping) else {}
        usual = _COLORS if scale.get("scheme", _USUAL_SCHEME) == _USUAL_SCHEME and channel.type == "nominal" else ()
        palette = scale.get("range") or usual
        if not isinstance(palette, (list, tuple)) or not palette:
            return dict.fromkeys(names)
        return {name: str(palette[number % len(palette)]) for number, name in enumerate(names)}

    def plain_color(self) -> str | None:
        """The colour of everything, where it does not differ."""
        values = [self.channels[name].definition.get("value") for name in _COLORING if name in self.channels]
        values += [self.options.get(name) for name in _COLORING]
        return next(
            (value for value in values if isinstance(value, str)), "#000000" if self.mark in _BLACK else _COLORS[0]
        )

    def parts(self) -> list[Part]:
        """What is a series of its own: the rows of each colour, dash or shape."""
        channels = [self.channels[name] for name in SPLITTING if name in self.channels]
        channel = next((channel for channel in channels if channel.has_values and channel.is_discrete), None)
        if channel is None:
            return [Part("", self.plain_color(), self.table.records)]
        keys = [shape.plain(record[channel.name]) for record in self.table.records]
        groups = aggregates.grouped(keys, self.table.records)
        colors = self.colors()
        usual = None if colors else self.plain_color()
        order = [key for key in self.ordered(channel, keys) if key in groups]
        return [Part(str(key), colors.get(key, usual), groups[key]) for key in order]


def is_amount(channel: Channel) -> bool:
    """Whether it is what a bar is long by."""
    return channel.type == "quantitative" and not channel.definition.get("bin")


def _sortable(value: Any) -> tuple[int, float, str]:
    """A key that puts numbers by size, texts by letters, and nothing last."""
    number = aggregates.number(value)
    if number is not None:
        return 0, number, ""
    return (2, math.inf, "") if value is None else (1, 0.0, str(value))
