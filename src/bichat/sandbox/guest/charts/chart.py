"""The parts of a chart's description: series on axes, in a chart, which becomes JSON within all bounds.

A series keeps its values as columns of equal length, as the library has them; they become JSON in the end, after those
that are too many have been left out.  What was cut says so: `truncated`, beside the true count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bichat.sandbox.guest.charts import shape

#: Each series keeps so many points, however many series there are.
_FEWEST_POINTS: Final = 10
#: Cells of a heatmap for each point that a series may have; of more, rows and columns evenly spread.
_CELLS_PER_POINT: Final = 4
#: Types whose points have an order of their own: of too many, the first are kept.
_KEEP_FIRST: Final = frozenset({"pie", "histogram", "box", "violin", "table", "hierarchy"})


@dataclass(slots=True, kw_only=True)
class Series:
    """What is drawn as one thing: a line, the bars of one colour, a pie."""

    type: str
    name: str = ""
    color: str | None = None
    columns: dict[str, Any] = field(default_factory=dict[str, Any])
    """Values by name, one for each point."""
    edges: Any = None
    """Of a histogram, one more than it has counts."""
    grid: Any = None
    """Of a heatmap, its rows; the columns `x` and `y` name what lies across and down."""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Plain values that concern all points."""
    count: int = -1
    """Points in truth; by default as many as the columns have."""

    def __post_init__(self) -> None:
        if self.count < 0:
            lengths = [len(values) for values in self.columns.values()]
            self.count = sum(map(len, self.grid)) if self.grid is not None else max(lengths, default=0)

    def thin(self, points: int) -> None:
        """Keep no more than so many points."""
        if self.grid is not None:
            side = math.isqrt(points * _CELLS_PER_POINT)
            rows, across = shape.spread(len(self.grid), side), shape.spread(len(self.columns["x"]), side)
            self.grid = [shape.taken(self.grid[row], across) for row in rows]
            self.columns = {"x": shape.taken(self.columns["x"], across), "y": shape.taken(self.columns["y"], rows)}
            return
        for name, values in self.columns.items():
            kept = range(points) if self.type in _KEEP_FIRST else shape.spread(len(values), points)
            if len(values) > points:
                self.columns[name] = shape.taken(values, kept)
        if self.edges is not None:
            self.edges = shape.taken(self.edges, range(min(points + 1, len(self.edges))))

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        document: dict[str, Any] = {"type": self.type, "name": shape.text(self.name)}
        if self.color:
            document["color"] = shape.text(self.color)
        document.update(self.extra)
        if self.edges is not None:
            document["edges"] = shape.plain_values(self.edges)
        every = self.columns.get("outliers")
        if every is not None:
            document["outlier_counts"] = [len(points) for points in every]
            self.columns["outliers"] = [
                shape.taken(points, shape.spread(len(points), shape.MAX_OUTLIERS)) for points in every
            ]
        for name, values in self.columns.items():
            document[name] = shape.plain_values(values)
        if self.grid is not None:
            document["values"] = [shape.plain_values(row) for row in self.grid]
        document["count"] = self.count
        document["truncated"] = self._kept() < self.count or any(
            count > shape.MAX_OUTLIERS for count in document.get("outlier_counts", ())
        )
        return document

    def _kept(self) -> int:
        if self.grid is not None:
            return sum(map(len, self.grid))
        return max((len(values) for values in self.columns.values()), default=0)


@dataclass(slots=True, kw_only=True)
class Axes:
    """One plot of a chart, with what frames it."""

    title: str = ""
    x: dict[str, Any] | None = None
    y: dict[str, Any] | None = None
    series: list[Series] = field(default_factory=list[Series])
    references: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    legend: dict[str, Any] | None = None
    texts: list[str] = field(default_factory=list[str])
    place: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where it stands among the others: `row` and `column`, `twin_of`, `projection`; and `arrangement` of bars."""

    @property
    def type(self) -> str:
        """What all its series are."""
        if not self.series:
            return "text" if self.texts else "empty"
        return shape.common_type(series.type for series in self.series)

    def document(self, series: Sequence[Series]) -> dict[str, Any]:
        """As JSON has it, with so many of its series."""
        document: dict[str, Any] = {"type": self.type, "title": shape.text(self.title), **self.place}
        document |= {name: axis for name, axis in (("x", self.x), ("y", self.y)) if axis is not None}
        document["series"] = [one.document() for one in series]
        document["series_count"] = len(self.series)
        shape.put(document, "references", self.references)
        shape.put(document, "texts", [shape.text(one) for one in self.texts])
        if self.legend is not None:
            document["legend"] = self.legend
        if len(series) < len(self.series):
            document["truncated"] = True
        return document


@dataclass(slots=True, kw_only=True)
class Chart:
    """Everything that one figure shows."""

    library: str
    title: str = ""
    axes: list[Axes] = field(default_factory=list[Axes])
    legend: dict[str, Any] | None = None
    """One that belongs to no axes alone."""

    @property
    def points_per_series(self) -> int:
        """How many each may keep."""
        series = sum(len(axes.series) for axes in self.axes)
        return max(_FEWEST_POINTS, min(shape.MAX_POINTS, shape.MAX_TOTAL_POINTS // max(1, series)))

    def document(self) -> dict[str, Any]:
        """As JSON has it, within all bounds."""
        points = self.points_per_series
        types = [axes.type for axes in self.axes if axes.type not in ("empty", "text")]
        types = types or [axes.type for axes in self.axes]
        document: dict[str, Any] = {
            "library": self.library,
            "type": shape.common_type(types) if types else "empty",
            "title": shape.text(self.title or (self.axes[0].title if len(self.axes) == 1 else "")),
            "axes": [],
            "axes_count": len(self.axes),
        }
        if self.legend is not None:
            document["legend"] = self.legend
        room = shape.MAX_SERIES
        for axes in self.axes[: shape.MAX_AXES]:
            kept = axes.series[:room]
            room -= len(kept)
            for series in kept:
                series.thin(points)
            document["axes"].append(axes.document(kept))
        _shrink(document)
        document["truncated"] = len(self.axes) > shape.MAX_AXES or _is_truncated(document)
        return document


def _shrink(document: dict[str, Any]) -> None:
    """Let go of values, then of axes, until the whole is no larger than it may be."""
    size = len(json.dumps(document, allow_nan=False))
    if size <= shape.MAX_BYTES:
        return
    every = [series for axes in document["axes"] for series in axes["series"]]
    sized = sorted(((len(json.dumps(series)), number) for number, series in enumerate(every)), reverse=True)
    for length, number in sized:
        series = every[number]
        head = {key: value for key, value in series.items() if not isinstance(value, (list, dict))}
        series.clear()
        series.update(head, truncated=True)
        size -= length - len(json.dumps(series))
        if size <= shape.MAX_BYTES:
            return
    while document["axes"] and len(json.dumps(document)) > shape.MAX_BYTES:
        document["axes"].pop()
        document["axes_truncated"] = True


def _is_truncated(value: Any) -> bool:
    if isinstance(value, dict):
        return (
            value.get("truncated") is True
            or value.get("axes_truncated") is True
            or any(_is_truncated(item) for item in value.values() if isinstance(item, (dict, list)))
        )
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return any(map(_is_truncated, value))
    return False
