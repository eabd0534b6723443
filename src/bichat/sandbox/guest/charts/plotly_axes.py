"""An axis of plotly's: what it measures, which its values tell where the layout does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.plotly_values import at, column, title_of, words

_MAX_SAMPLE: Final = 200
_DATE: Final = re.compile(r"\d{4}-\d\d?(-\d\d?([ T].*)?)?$")


class Axis:
    """The x or the y axis of one plot."""

    def __init__(self, name: str, described: Any, series: Sequence[Series]) -> None:
        """`described` is what the layout says of it; `series` may still change."""
        self._name = name
        self._described = described
        self._series = series

    @property
    def scale(self) -> str:
        """What is measured on it."""
        kind = at(self._described, "type")
        if kind in ("linear", "log", "date"):
            return str(kind)
        if kind in ("category", "multicategory"):
            return "category"
        for series in self._series:
            # Bars of a timeline are as long as they last: where they begin tells what the axis measures.
            is_timed = "base" in series.columns and self._name == ("x" if series.type == "barh" else "y")
            values = series.columns.get("base" if is_timed else self._name)
            if values is None and series.edges is not None:
                return "linear"
            if values is not None and len(values):
                return _scale_of(values)
        return "linear"

    def document(self) -> dict[str, Any]:
        """The description of the axis."""
        axis, scale = self._described, self.scale
        limits: Any = column(at(axis, "range"))
        if limits is not None and scale == "log":
            limits = [None if limit is None else shape.tidy(10.0 ** float(limit)) for limit in limits]
        is_turned = scale == "linear" and limits is not None and None not in limits and limits[0] > limits[1]
        return shape.axis_document(
            title_of(axis),
            scale,
            limits=None if limits is None or scale == "category" else shape.plain_values(limits),
            categories=self._categories() if scale == "category" else None,
            ticks=self._ticks(),
            inverted=at(axis, "autorange") == "reversed" or is_turned,
            unit=words(at(axis, "ticksuffix") or at(axis, "tickprefix")) or None,
        )

    def _ticks(self) -> list[dict[str, Any]]:
        places, labels = column(at(self._described, "tickvals")), column(at(self._described, "ticktext"))
        if places is None or labels is None:
            return []
        return [
            {"at": shape.plain(place), "label": shape.text(words(label))}
            for place, label in zip(places, labels, strict=False)
        ]

    def _categories(self) -> list[Any]:
        """The names in their order: as they appear, unless the layout has another."""
        given = column(at(self._described, "categoryarray"))
        totals: dict[Any, float] = dict.fromkeys(map(shape.plain, given if given is not None else ()), 0.0)
        across = "y" if self._name == "x" else "x"
        for series in self._series:
            places, values = series.columns.get(self._name), series.columns.get(across)
            for number, place in enumerate(islice(places if places is not None else (), shape.MAX_POINTS)):
                length = aggregates.number(values[number]) if values is not None and number < len(values) else None
                totals[shape.plain(place)] = totals.get(shape.plain(place), 0.0) + (length or 0.0)
        order = str(at(self._described, "categoryorder") or "trace")
        if order.startswith("category"):
            return sorted(totals, key=str, reverse=order.endswith("descending"))
        if order.startswith(("total", "sum")):
            return sorted(totals, key=totals.__getitem__, reverse=order.endswith("descending"))
        return list(totals)


def _scale_of(values: Any) -> str:
    """What plotly takes values for, by the first of them."""
    if shape.is_array(values) and values.dtype.kind in "iufM":
        return "date" if values.dtype.kind == "M" else "linear"
    known = [value for value in map(shape.plain, islice(values, _MAX_SAMPLE)) if value is not None]
    if any(isinstance(value, bool) for value in known):
        return "category"
    texts = [value for value in known if isinstance(value, str)]
    if len(texts) * 2 <= len(known):
        return "linear"
    if all(_DATE.match(text) for text in texts):
        return "date"
    return "linear" if all(map(_is_number, texts)) else "category"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
