"""The form of a chart's description: axes that hold series, plain values, and bounds on everything.

A series keeps its values as columns of equal length, as the library has them; they become JSON here, after those that
are too many have been left out.  What was cut says so: `truncated`, beside the true count.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

#: Axes of one chart; of more, the first.
MAX_AXES: Final = 50
#: Series of all axes together; of more, the first.
MAX_SERIES: Final = 200
#: Values of one series; of more points, so many evenly spread, the first and the last among them.
MAX_POINTS: Final = 1000
#: Values of all series together, shared out evenly between them.
MAX_TOTAL_POINTS: Final = 10_000
#: Each series keeps so many, however many series there are.
_FEWEST_POINTS: Final = 10
#: Cells of a heatmap for each point that a series may have; of more, rows and columns evenly spread.
_CELLS_PER_POINT: Final = 4
#: Outliers of one box.
MAX_OUTLIERS: Final = 100
#: Categories, ticks and references of an axis, entries of a legend, texts.
MAX_LABELS: Final = 200
#: Characters of one text.
MAX_TEXT: Final = 200
_MIDNIGHT: Final = re.compile(r"(?<=^\d{4}-\d\d-\d\d)T00:00:00(\.0+)?$")
#: Significant digits of numbers that are computed from what is drawn.
_DIGITS: Final = 12
#: Bytes of JSON; of more, the largest series keep no values.
MAX_BYTES: Final = 1_000_000

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
            rows, across = _spread(len(self.grid), side), _spread(len(self.columns["x"]), side)
            self.grid = [taken(self.grid[row], across) for row in rows]
            self.columns = {"x": taken(self.columns["x"], across), "y": taken(self.columns["y"], rows)}
            return
        for name, values in self.columns.items():
            kept = range(points) if self.type in _KEEP_FIRST else _spread(len(values), points)
            if len(values) > points:
                self.columns[name] = taken(values, kept)
        if self.edges is not None:
            self.edges = taken(self.edges, range(min(points + 1, len(self.edges))))

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        document: dict[str, Any] = {"type": self.type, "name": text(self.name)}
        if self.color:
            document["color"] = text(self.color)
        document.update(self.extra)
        if self.edges is not None:
            document["edges"] = plain_values(self.edges)
        every = self.columns.get("outliers")
        if every is not None:
            document["outlier_counts"] = [len(points) for points in every]
            self.columns["outliers"] = [taken(points, _spread(len(points), MAX_OUTLIERS)) for points in every]
        for name, values in self.columns.items():
            document[name] = plain_values(values)
        if self.grid is not None:
            document["values"] = [plain_values(row) for row in self.grid]
        document["count"] = self.count
        document["truncated"] = self._kept() < self.count or any(
            count > MAX_OUTLIERS for count in document.get("outlier_counts", ())
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
        return common_type(series.type for series in self.series)

    def document(self, series: Sequence[Series]) -> dict[str, Any]:
        """As JSON has it, with so many of its series."""
        document: dict[str, Any] = {"type": self.type, "title": text(self.title), **self.place}
        for name, axis in (("x", self.x), ("y", self.y)):
            if axis is not None:
                document[name] = axis
        document["series"] = [one.document() for one in series]
        document["series_count"] = len(self.series)
        put(document, "references", self.references)
        put(document, "texts", [text(one) for one in self.texts])
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
        return max(_FEWEST_POINTS, min(MAX_POINTS, MAX_TOTAL_POINTS // max(1, series)))

    def document(self) -> dict[str, Any]:
        """As JSON has it, within all bounds."""
        points = self.points_per_series
        types = [axes.type for axes in self.axes if axes.type not in ("empty", "text")]
        types = types or [axes.type for axes in self.axes]
        document: dict[str, Any] = {
            "library": self.library,
            "type": common_type(types) if types else "empty",
            "title": text(self.title or (self.axes[0].title if len(self.axes) == 1 else "")),
            "axes": [],
            "axes_count": len(self.axes),
        }
        if self.legend is not None:
            document["legend"] = self.legend
        room = MAX_SERIES
        for axes in self.axes[:MAX_AXES]:
            kept = axes.series[:room]
            room -= len(kept)
            for series in kept:
                series.thin(points)
            document["axes"].append(axes.document(kept))
        _shrink(document)
        document["truncated"] = len(self.axes) > MAX_AXES or _is_truncated(document)
        return document


def _shrink(document: dict[str, Any]) -> None:
    """Let go of values, then of axes, until the whole is no larger than it may be."""
    size = len(json.dumps(document, allow_nan=False))
    if size <= MAX_BYTES:
        return
    every = [series for axes in document["axes"] for series in axes["series"]]
    sized = sorted(((len(json.dumps(series)), number) for number, series in enumerate(every)), reverse=True)
    for length, number in sized:
        series = every[number]
        head = {key: value for key, value in series.items() if not isinstance(value, (list, dict))}
        series.clear()
        series.update(head, truncated=True)
        size -= length - len(json.dumps(series))
        if size <= MAX_BYTES:
            return
    while document["axes"] and len(json.dumps(document)) > MAX_BYTES:
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


def put(document: dict[str, Any], key: str, values: Sequence[Any]) -> None:
    """Set `document[key]` to the values, or to the first of too many."""
    document[key] = list(values[:MAX_LABELS])
    if len(values) > MAX_LABELS:
        document[f"{key}_count"] = len(values)
        document["truncated"] = True


def legend(title: str, entries: Sequence[tuple[str, str | None]]) -> dict[str, Any] | None:
    """The description of a legend with labels and colours; None of one without entries."""
    if not entries:
        return None
    document: dict[str, Any] = {"title": text(title)}
    named = [{"label": text(label), "color": text(color)} if color else {"label": text(label)} for label, color in entries]
    put(document, "entries", named)
    return document


def common_type(types: Iterable[str]) -> str:
    """The one type of all; `mixed` where there are several."""
    distinct = set(types)
    # A band goes with what it surrounds.
    if len(distinct) > 1:
        distinct.discard("band")
    return distinct.pop() if len(distinct) == 1 else "mixed"


def unit_of(label: str) -> str:
    """What stands in brackets at the end of an axis's label: `kg` of `Weight (kg)`."""
    for opening, closing in ("()", "[]"):
        if label.endswith(closing) and opening in label:
            unit = label[label.rindex(opening) + 1 : -1].strip()
            if 0 < len(unit) <= 20:
                return unit
    return ""


def axis_document(label: str, scale: str, **rest: Any) -> dict[str, Any]:
    """The description of one axis; of the rest, what is None or empty is left out."""
    document: dict[str, Any] = {"label": text(label), "scale": scale}
    unit = rest.pop("unit", "") or unit_of(document["label"])
    if unit:
        document["unit"] = text(unit)
    for key in ("categories", "ticks"):
        values = rest.pop(key, None)
        if values:
            put(document, key, values)
    document.update({key: value for key, value in rest.items() if value is not None and value is not False})
    return document


# ------------------------------------------------------------------------------------------------------ values


def _spread(count: int, limit: int) -> Sequence[int]:
    """Numbers of so many of `count` points, evenly spread, with the first and the last."""
    if count <= limit:
        return range(count)
    return [round(number * (count - 1) / (limit - 1)) for number in range(limit)]


def taken(values: Any, numbers: Sequence[int]) -> Any:
    """Those of `values` that have these numbers."""
    if isinstance(numbers, range) and len(numbers) == len(values):
        return values
    if is_array(values):
        return values[list(numbers)]
    return [values[number] for number in numbers]


def is_array(value: object) -> bool:
    """Whether it is one of numpy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def plain_values(values: Any) -> list[Any]:
    """A column as JSON has it."""
    if is_array(values):
        if values.dtype.kind == "M":
            return iso_dates(values)
        values = values.tolist()
    return [plain(value) for value in values]


def plain(value: Any) -> Any:
    """A value as JSON has it: a date as ISO text, null for what is missing or without bounds, text for the rest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # plotly writes nanoseconds, and midnights, that matplotlib's dates have not.
        return text(_MIDNIGHT.sub("", value) if value[10:11] == "T" else value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (float, decimal.Decimal)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.datetime):
        # NaT, which is one of its kind, is not itself.
        return _iso(value) if value == value else None  # noqa: PLR0124
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return text(value)
    if isinstance(value, (list, tuple)) or is_array(value):
        return plain_values(value)
    if hasattr(value, "tolist"):  # numpy's scalars
        return _numpy_scalar(value)
    return None if type(value).__name__ in ("NAType", "NaTType", "MaskedConstant") else text(value)


def _numpy_scalar(value: Any) -> Any:
    if value.dtype.kind == "M":
        return iso_dates(sys.modules["numpy"].array([value]))[0]
    item = value.tolist()
    return None if hasattr(item, "tolist") else plain(item)


def _iso(value: datetime.datetime) -> str:
    return _MIDNIGHT.sub("", value.isoformat())


def iso_dates(values: Any) -> list[str | None]:
    """Numpy's dates as ISO text: days where all are at midnight, to the second or finer where they are not."""
    numpy = sys.modules["numpy"]
    if not len(values):
        return []
    moments = values.astype("datetime64[us]")
    known = moments[~numpy.isnat(moments)]
    for unit in ("D", "s", "ms"):
        if (known.astype(f"datetime64[{unit}]") == known).all():
            moments = moments.astype(f"datetime64[{unit}]")
            break
    return [None if shown == "NaT" else shown for shown in numpy.datetime_as_string(moments).tolist()]


def text(value: object) -> str:
    """A text of bounded length."""
    shown = str.__str__(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"


def tidy(number: float) -> float:
    """A number that was computed from what is drawn, without the last digits, which are noise."""
    return float(f"{number:.{_DIGITS}g}")


def tidy_values(numbers: Iterable[Any]) -> list[float]:
    """All of them tidy, each as fine as the largest of them is."""
    values = [float(number) for number in numbers]
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if not largest:
        return values
    digits = _DIGITS - 1 - math.floor(math.log10(largest))
    return [tidy(round(value, digits)) if math.isfinite(value) else value for value in values]
