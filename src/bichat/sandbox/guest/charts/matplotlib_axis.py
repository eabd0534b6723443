"""What the positions on one of matplotlib's axes stand for: numbers, moments, or names.

matplotlib draws everything at numbers.  An axis says by its converter what they were before, or by tick labels that
the code has set what they are called.  Labels that a function makes are not asked for: it may be the code's own.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from bichat.sandbox.guest.charts import shape

#: Share of the distance between two labels within which what is drawn beside a label belongs to it: grouped bars.
NEAR: Final = 0.45
#: The same for what is drawn at the label itself.
EXACT: Final = 1e-6
_DATE_CONVERTERS: Final = frozenset({"DateConverter", "_SwitchableDateConverter"})
_MILLISECONDS_PER_DAY: Final = 86_400_000


class Axis:
    """The x axis or the y axis of one of matplotlib's axes."""

    def __init__(self, axes: Any, name: str) -> None:
        """`name` is "x" or "y"."""
        self._axis = getattr(axes, f"{name}axis")
        self._limits = getattr(axes, f"get_{name}lim")
        self._frequency = getattr(axes, "freq", None)
        self._labels: dict[float, str] = {}
        self.scale: str = self._axis.get_scale()
        converters = _names_of(
            self._axis.get_converter() if hasattr(self._axis, "get_converter") else self._axis.converter
        )
        locators = _names_of(self._axis.get_major_locator())
        # Axes that share theirs with others share the locator, but not always the converter.
        if "StrCategoryConverter" in converters or "StrCategoryLocator" in locators:
            self.scale = "category"
            self._labels = self._categories()
            return
        if "PeriodConverter" in converters and self._frequency is not None:
            self.scale = "date"
            return
        self._frequency = None
        if _DATE_CONVERTERS & converters or "DateLocator" in locators:
            self.scale = "date"
        self._labels = self._fixed_labels()

    @property
    def has_labels(self) -> bool:
        """Whether the code has given names to positions; whether those are categories is not known by that."""
        return bool(self._labels) and self.scale != "category"

    def name_positions(self) -> None:
        """Read positions by their labels from now on."""
        self.scale = "category"

    def fits(self, positions: Any, share: float) -> bool:
        """Whether each position has a label of its own, no further away than so much of the labels' distance."""
        numpy = sys.modules["numpy"]
        numbers, distance = self._nearest(positions)
        found = numbers[distance <= share]
        distinct = len(numpy.unique(numpy.asarray(positions)))
        return len(found) == len(positions) and len(numpy.unique(found)) == distinct

    def values(self, positions: Any, share: float = 0.5) -> Any:
        """What stands at these positions; on an axis of categories, no further away than so much of their distance."""
        if self.scale == "category":
            return self._names(positions, share)
        if self._frequency is not None:
            return self._periods(positions)
        return _moments(positions) if self.scale == "date" else positions

    def document(self) -> dict[str, Any]:
        """The description of this axis."""
        is_category = self.scale == "category"
        return shape.axis_document(
            self._axis.label.get_text(),
            self.scale,
            limits=None if is_category else self._ends(),
            categories=[shape.text(label) for label in self._labels.values()] if is_category else None,
            ticks=None if is_category else self._ticks(),
            inverted=bool(self._axis.get_inverted()) if hasattr(self._axis, "get_inverted") else None,
            unit=self._unit(),
        )

    def _ends(self) -> list[Any]:
        """The limits of what is shown; moments to the second."""
        limits = sys.modules["numpy"].array(self._limits(), float)
        if self.scale != "date":
            return shape.tidy_values(limits)
        return shape.plain_values(self.values(limits).astype("datetime64[s]"))

    def _ticks(self) -> list[dict[str, Any]]:
        low, high = sorted(self._limits())
        shown = {at: label for at, label in self._labels.items() if low <= at <= high}
        places = shape.plain_values(self.values(sys.modules["numpy"].array(list(shown), float)))
        return [{"at": at, "label": shape.text(label)} for at, label in zip(places, shown.values(), strict=True)]

    def _unit(self) -> str | None:
        return "%" if type(self._axis.get_major_formatter()).__name__ == "PercentFormatter" else None

    def _categories(self) -> dict[float, str]:
        places = list(self._axis.get_major_locator().tick_values(None, None))
        formatter = self._axis.get_major_formatter()
        if "StrCategoryFormatter" not in _names_of(formatter):
            # Written anew by the code: plt.xticks(range(3), labels).
            return self._fixed_labels() or {float(place): str(place) for place in places}
        return dict(zip(map(float, places), formatter.format_ticks(places), strict=True))

    def _fixed_labels(self) -> dict[float, str]:
        """Tick labels that are fixed, in the order of their places."""
        ticker = sys.modules["matplotlib.ticker"]
        locator, formatter = self._axis.get_major_locator(), self._axis.get_major_formatter()
        if not isinstance(locator, ticker.FixedLocator):
            return {}
        if isinstance(formatter, ticker.FixedFormatter):
            pairs = zip(locator.locs, formatter.seq, strict=False)
        elif isinstance(formatter, ticker.FuncFormatter) and _is_table(formatter.func):
            pairs = formatter.func.args[0].items()
        else:
            return {}
        return dict(sorted((float(at), str(label)) for at, label in pairs if str(label)))

    def _nearest(self, positions: Any) -> tuple[Any, Any]:
        """The numbers of the labels nearest to positions, and how far they are in shares of the labels' distance."""
        numpy = sys.modules["numpy"]
        positions = numpy.asarray(positions, float)
        places = numpy.array(list(self._labels), float)
        gaps = numpy.diff(numpy.sort(places))
        gaps = gaps[gaps > 0]
        distance = gaps.min() if len(gaps) else 1.0
        if not len(places):
            return numpy.zeros(len(positions), int), numpy.full(len(positions), numpy.inf)
        order = numpy.argsort(places)
        right = numpy.clip(numpy.searchsorted(places[order], positions), 0, len(places) - 1)
        left = numpy.clip(right - 1, 0, None)
        is_left = numpy.abs(places[order][left] - positions) <= numpy.abs(places[order][right] - positions)
        numbers = order[numpy.where(is_left, left, right)]
        away = numpy.abs(places[numbers] - positions) / distance
        return numbers, numpy.where(numpy.isnan(away), numpy.inf, away)

    def _names(self, positions: Any, share: float) -> list[Any]:
        numbers, distance = self._nearest(positions)
        labels = list(self._labels.values())
        return [
            labels[number] if away <= share else shape.plain(position)
            for number, away, position in zip(numbers.tolist(), distance.tolist(), positions, strict=True)
        ]

    def _periods(self, ordinals: Any) -> Any:
        """The moments at which periods of pandas begin."""
        numpy, pandas = sys.modules["numpy"], sys.modules["pandas"]
        ordinals = numpy.asarray(ordinals, float)
        known = numpy.isfinite(ordinals)
        periods = [pandas.Period(ordinal=int(number), freq=self._frequency) for number in ordinals[known]]
        moments = numpy.full(len(ordinals), numpy.datetime64("NaT"), "datetime64[ms]")
        if periods:
            moments[known] = pandas.PeriodIndex(periods).to_timestamp().to_numpy().astype("datetime64[ms]")
        return moments


def _moments(days: Any) -> Any:
    """The moments that matplotlib has as days since its epoch."""
    numpy = sys.modules["numpy"]
    days = numpy.asarray(days, float)
    known = numpy.isfinite(days)
    milliseconds = numpy.round(numpy.where(known, days, 0) * _MILLISECONDS_PER_DAY).astype("timedelta64[ms]")
    epoch = numpy.datetime64(sys.modules["matplotlib.dates"].get_epoch(), "ms")
    return numpy.where(known, epoch + milliseconds, numpy.datetime64("NaT"))


def _is_table(function: Any) -> bool:
    """Whether a formatter's function is matplotlib's own look-up of labels that were set."""
    return getattr(getattr(function, "func", None), "__name__", "") == "_format_with_dict"


def _names_of(value: object) -> set[str]:
    return {kind.__name__ for kind in type(value).__mro__}
