"""What a library leaves to the page that draws the chart, computed here: sums by group, stacks, quartiles, bins."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bichat.sandbox.guest.charts import shape

_WHISKER: Final = 1.5


def number(value: Any) -> float | None:
    """A value as a number, None of what is none."""
    if isinstance(value, (bool, str)) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def numbers(values: Iterable[Any]) -> list[float]:
    """Those of the values that are numbers."""
    return [found for found in map(number, values) if found is not None]


def ends(one: Iterable[Any], other: Iterable[Any]) -> tuple[list[float | None], list[float | None]]:
    """The lower and the higher of each two numbers; None where one of them is none."""
    low: list[float | None] = []
    high: list[float | None] = []
    for pair in zip(one, other, strict=False):
        found = numbers(pair)
        low.append(min(found) if len(found) == 2 else None)
        high.append(max(found) if len(found) == 2 else None)
    return low, high


class Stack:
    """Where the next bar or area begins at each place: what is below zero goes down, the rest goes up."""

    def __init__(self) -> None:
        self._ends: dict[tuple[Hashable, bool], float] = {}

    def bases(self, places: Iterable[Hashable], lengths: Iterable[Any]) -> list[float]:
        """The beginnings of one series, which the next begins upon."""
        bases: list[float] = []
        for place, length in zip(places, lengths, strict=False):
            value = number(length) or 0.0
            base = self._ends.get((place, value < 0), 0.0)
            bases.append(shape.tidy(base))
            self._ends[place, value < 0] = base + value
        return bases


def quantile(ordered: Sequence[float], share: float, *, is_midpoint: bool) -> float:
    """A quantile of ordered numbers: between the points, or (`is_midpoint`) between the middles of their steps.

    The first is R's type 7, as numpy and Vega have it; the second is type 5, as plotly has it.
    """
    place = share * len(ordered) - 0.5 if is_midpoint else share * (len(ordered) - 1)
    place = min(max(place, 0.0), len(ordered) - 1.0)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return shape.tidy(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def box(values: Iterable[Any], *, is_midpoint: bool) -> dict[str, Any]:
    """Quartiles; whiskers to the last values within 1.5 times the box's height; and what is beyond them."""
    ordered = sorted(numbers(values))
    if not ordered:
        return {"q1": None, "median": None, "q3": None, "low": None, "high": None, "outliers": []}
    q1, median, q3 = (quantile(ordered, share, is_midpoint=is_midpoint) for share in (0.25, 0.5, 0.75))
    lowest, highest = q1 - _WHISKER * (q3 - q1), q3 + _WHISKER * (q3 - q1)
    inside = [value for value in ordered if lowest <= value <= highest] or [q1, q3]
    return {
        "q1": q1,
        "median": median,
        "q3": q3,
        "low": min(inside[0], q1) if is_midpoint else inside[0],
        "high": max(inside[-1], q3) if is_midpoint else inside[-1],
        "outliers": [value for value in ordered if value < lowest or value > highest],
    }


def boxes(groups: Mapping[Any, Sequence[Any]], along: str, *, is_midpoint: bool) -> dict[str, list[Any]]:
    """The columns of a box plot with one box a group, which stand along that axis."""
    found = [box(values, is_midpoint=is_midpoint) for values in groups.values()]
    columns: dict[str, list[Any]] = {along: list(groups)} if along else {}
    for name in ("q1", "median", "q3", "low", "high", "outliers"):
        columns[name] = [one[name] for one in found]
    return columns


def grouped(keys: Iterable[Any], values: Iterable[Any]) -> dict[Any, list[Any]]:
    """The values of each key, in the order of the keys' first appearance."""
    groups: dict[Any, list[Any]] = {}
    for key, value in zip(keys, values, strict=False):
        groups.setdefault(key, []).append(value)
    return groups


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return quantile(sorted(values), 0.5, is_midpoint=False) if values else None


FUNCTIONS: Final[Mapping[str, Callable[[Sequence[float]], float | None]]] = {
    "sum": math.fsum,
    "mean": mean,
    "average": mean,
    "avg": mean,
    "median": median,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}
"""Aggregates of the numbers of a group, by the names that the libraries give them; all but counts."""


def aggregate(name: str, values: Sequence[Any]) -> float | None:
    """That aggregate of the numbers among the values; KeyError for one that is not known here."""
    if name == "count":
        return float(len(values))
    if name == "distinct":
        return float(len({shape.plain(value) for value in values}))
    if name == "valid":
        return float(sum(value is not None for value in values))
    found = FUNCTIONS[name](numbers(values))
    return None if found is None else shape.tidy(found)


# ---------------------------------------------------------------------------------------------------------- bins


class Bins(NamedTuple):
    """Bins of one size; a value on an edge lies in the bin that begins there."""

    start: float
    size: float
    number: int

    @property
    def edges(self) -> list[float]:
        """One more than there are bins."""
        return shape.tidy_values(self.start + self.size * step for step in range(self.number + 1))

    def groups(self, places: Iterable[Any], values: Iterable[Any], *, is_closed: bool = False) -> list[list[Any]]:
        """The values in each bin; with `is_closed` the last edge belongs to the last bin."""
        edges = self.edges
        groups: list[list[Any]] = [[] for _ in range(self.number)]
        for place, value in zip(places, values, strict=False):
            at = number(place)
            if at is None:
                continue
            step = bisect_right(edges, at + abs(self.size) * 1e-9) - 1
            step -= is_closed and step == self.number
            if 0 <= step < self.number:
                groups[step].append(value)
        return groups


def vega_bins(values: Sequence[float], limit: int, step: float | None) -> Bins:
    """The bins that Vega makes: no more than `limit`, of a round size, beginning at a multiple of it."""
    low, high = min(values), max(values)
    span = (high - low) or abs(low) or 1.0
    size = step or 0.0
    if not size:
        size = 10.0 ** (round(math.log10(span)) - math.ceil(math.log10(limit)))
        while math.ceil(span / size) > limit:
            size *= 10
        for divisor in (5, 2):
            if span / (size / divisor) <= limit:
                size /= divisor
    digits = 0 if math.log(size) >= 0 else int(-math.log10(size)) + 1
    start = math.floor(low / size + 10.0 ** (-digits - 1)) * size
    start = start - size if low < start else start
    stop = math.ceil(high / size) * size
    return Bins(shape.tidy(start), size, max(1, round((stop - start) / size)))


def plotly_bins(values: Sequence[float], count: int | None) -> Bins:
    """The bins that plotly makes for numbers: about `count`, or as wide as their deviation asks for, of a round size.

    They are moved by half a bin where many values would lie on an edge, and begin half a unit below whole numbers.
    """
    low, high = min(values), max(values)
    size = _round_size((high - low) / count if count else _free_size(values)) or 1.0
    start = math.ceil((low - 1e-4 * (high - low)) / size) * size - size
    start = _clear_of_edges(start, size, values, low, high)
    return Bins(start, size, 1 + math.floor((high - start) / size + 1e-9))


def _free_size(values: Sequence[float]) -> float:
    ordered = sorted(values)
    closest = (ordered[-1] - ordered[0]) or 1.0
    negligible = closest / max(1, len(ordered) - 1) / 10_000
    last = ordered[0]
    for value in ordered[1:]:
        if value - last > negligible:
            closest = min(closest, value - last)
            last = value
    power = 10.0 ** math.floor(math.log10(closest))
    smallest = power * next((step for step in (9.9, 4.9, 1.9, 0.9) if step <= closest / power), 0.9)
    middle = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / len(values))
    return max(smallest, 2 * deviation / len(values) ** 0.4)


def _round_size(size: float) -> float:
    if size <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(size))
    return power * next((step for step in (2, 5, 10) if size / power <= step), 10)


def _clear_of_edges(start: float, size: float, values: Sequence[float], low: float, high: float) -> float:
    def is_near(value: float) -> bool:
        return math.fmod(1 + (value - start) * 100 / size, 100) < 2

    if all(value == math.floor(value) for value in values):
        if size < 1:
            return low - 0.5 * size
        start -= 0.5
        return start + size if start + size < low else start
    at_edge, in_middle = (sum(map(is_near, moved)) for moved in (values, [value + size / 2 for value in values]))
    if in_middle < len(values) * 0.1 and (at_edge > len(values) * 0.3 or is_near(low) or is_near(high)):
        return start + (size / 2 if start + size / 2 < low else -size / 2)
    return start
