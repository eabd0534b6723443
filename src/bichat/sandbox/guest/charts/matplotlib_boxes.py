"""Boxes in matplotlib: a box plot is nothing but lines, in an order that gives it away."""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_axis import NEAR
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, color_of, filled, guarded


class _Line(NamedTuple):
    """One line, seen along the axis of the boxes' values."""

    artist: Any
    at: Any
    value: Any

    @property
    def is_along(self) -> bool:
        """Whether it is one stroke in the direction of the values: a whisker."""
        return len(self.at) == 2 and _same(self.at[0], self.at[1])

    @property
    def is_across(self) -> bool:
        """Whether it is one stroke across: a cap, a median."""
        return len(self.at) == 2 and _same(self.value[0], self.value[1])

    def is_at(self, place: float) -> bool:
        """Whether all of it lies at a place: a mean, outliers."""
        return all(_same(at, place) for at in self.at)


class _Box(NamedTuple):
    place: float
    q1: float
    median: float
    q3: float
    low: float
    high: float
    mean: float | None
    outliers: Any
    artists: list[Any]


def read_boxes(lines: list[Any], patches: list[Any]) -> tuple[list[Mark], list[Any]]:
    """The box plots among `lines`, with the colours of `patches`; and the artists that they are made of.

    `Axes.bxp` draws for each box its outline (a line of five or eleven points, or a patch), two whiskers from the
    quartiles, two caps at most, the median, and then a mean and the outliers if they are asked for.
    """
    for along, across in (("x", "y"), ("y", "x")):
        found = [guarded(_seen, line, along, across) for line in lines]
        seen = [line for line in found if line is not None]
        boxes: list[_Box] = []
        number = 0
        while number < len(seen):
            box, used = _box(seen[number:])
            if box is not None:
                boxes.append(box)
            number += max(1, used)
        if boxes:
            return _marks(boxes, along, patches)
    return [], []


def _seen(line: Any, along: str, across: str) -> _Line:
    values = {"x": filled(line.get_xdata(orig=False)), "y": filled(line.get_ydata(orig=False))}
    return _Line(line, values[along], values[across])


def _box(lines: list[_Line]) -> tuple[_Box | None, int]:
    """The box that the first of these lines make, and of how many it is made."""
    used = 1 if lines and len(lines[0].at) in (5, 11) and _same(lines[0].value[0], lines[0].value[-1]) else 0
    first = lines[used : used + 2]
    if len(first) < 2 or not (first[0].is_along and first[1].is_along and _same(first[0].at[0], first[1].at[0])):
        return None, 0
    low, high = first
    place = float(low.at[0])
    if low.value[0] > high.value[0] or low.value[1] > low.value[0] or high.value[1] < high.value[0]:
        return None, 0
    used += 2
    caps = lines[used : used + 2]
    ends = (low.value[1], high.value[1])
    if len(caps) == 2 and all(cap.is_across and _same(cap.value[0], end) for cap, end in zip(caps, ends, strict=True)):
        # Without caps the median follows, which is a single stroke across.
        used += 2
    if used >= len(lines) or not lines[used].is_across or not _around(lines[used], place):
        return None, 0
    median = lines[used]
    used += 1
    mean, outliers = None, []
    if used < len(lines) and _is_mean(lines[used], median, place):
        mean = float(lines[used].value[0])
        used += 1
    if used < len(lines) and _is_outliers(lines[used], place):
        outliers = lines[used].value
        used += 1
    artists = [line.artist for line in lines[:used]]
    quartiles = (float(low.value[0]), float(median.value[0]), float(high.value[0]))
    return _Box(place, *quartiles, float(low.value[1]), float(high.value[1]), mean, outliers, artists), used


def _around(line: _Line, place: float) -> bool:
    low, high = sorted(line.at)
    return bool(low <= place <= high)


def _is_mean(line: _Line, median: _Line, place: float) -> bool:
    if len(line.at) == 1 and line.is_at(place):
        # One outlier looks the same but for the line that follows it; means are drawn as triangles.
        return str(line.artist.get_marker()) == "^"
    return line.is_across and _same(line.at[0], median.at[0]) and _same(line.at[1], median.at[1])


def _is_outliers(line: _Line, place: float) -> bool:
    return str(line.artist.get_linestyle()) == "None" and line.is_at(place)


def _same(one: float, other: float) -> bool:
    """Whether both are one number, or both none: the box of no values at all has no number."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return bool(abs(one - other) <= 1e-9 * max(abs(one), abs(other)))


def _marks(boxes: list[_Box], along: str, patches: list[Any]) -> tuple[list[Mark], list[Any]]:
    numpy = sys.modules["numpy"]
    used = [artist for box in boxes for artist in box.artists]
    outlines = [patch for patch in patches if type(patch).__name__ == "PathPatch"]
    filling = outlines[: len(boxes)] if len(outlines) >= len(boxes) else []
    colors = [color_of(patch) for patch in filling] or [color_of(box.artists[0]) for box in boxes]
    columns: dict[str, Any] = {along: numpy.array(shape.tidy_values(box.place for box in boxes))}
    for name in ("q1", "median", "q3", "low", "high"):
        columns[name] = [getattr(box, name) for box in boxes]
    if any(box.mean is not None for box in boxes):
        columns["mean"] = [box.mean for box in boxes]
    columns["outliers"] = [box.outliers for box in boxes]
    extra: dict[str, Any] = {"orientation": "vertical" if along == "x" else "horizontal"}
    if len(set(colors)) > 1:
        columns["colors"] = colors
    color = colors[0] if len(set(colors)) == 1 else None
    series = Series(type="box", color=color, columns=columns, extra=extra)
    # Its values are numbers on the other axis; matplotlib knows no dates there that it could give quartiles of.
    mark = Mark(series=series, axis_of={along: along}, places={along: NEAR}, length_on="y" if along == "x" else "x")
    return [mark], used + filling
