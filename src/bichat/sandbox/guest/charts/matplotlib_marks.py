"""What matplotlib's artists show, still at positions: series whose axes have not yet said what positions stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series


@dataclass(slots=True, kw_only=True)
class Mark:
    """A series, and along which axis each of its columns lies."""

    series: Series
    axis_of: dict[str, str] = field(default_factory=dict[str, str])
    """The axis, `x` or `y`, on which the positions in a column are; lengths and counts are on none."""
    places: dict[str, float] = field(default_factory=dict[str, float])
    """Columns that may stand at a label, and how far from it: a share of the distance between two labels."""
    length_on: str = ""
    """The axis along which the series has lengths: those of bars."""
    spans: Any = None
    """Of bars, where each begins and ends along the other axis."""

    def part(self, color: str, name: str) -> Mark:
        """A series of those points alone that have this colour, `#rrggbb`."""
        numbers = [number for number, own in enumerate(self.series.columns["colors"]) if own and own[:7] == color]
        columns = {column: shape.taken(values, numbers) for column, values in self.series.columns.items()}
        shown = columns.pop("colors")[0]
        series = Series(type=self.series.type, name=name, color=shown, columns=columns, extra=self.series.extra)
        spans = None if self.spans is None else shape.taken(self.spans, numbers)
        return Mark(series=series, axis_of=self.axis_of, places=self.places, length_on=self.length_on, spans=spans)


def guarded(read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` gives; None where an artist of the code's own, or of another library, does not answer."""
    try:
        return read(*arguments)
    except Exception:  # noqa: BLE001  # one artist that cannot be read must not cost the chart
        return None


def label_of(artist: Any) -> str:
    """The name that the code has given an artist; matplotlib's own begin with an underscore."""
    label = artist.get_label()
    return "" if label is None or str(label).startswith("_") else str(label)


def color_of(artist: Any) -> str | None:
    """The colour of a line, or of the first of what is filled, as `#rrggbb` or `#rrggbbaa`."""
    if hasattr(artist, "get_facecolor"):
        return hex_color(artist.get_facecolor()) or hex_color(artist.get_edgecolor())
    if hasattr(artist, "get_color"):
        return hex_color(artist.get_color())
    return None


def hex_color(color: Any) -> str | None:
    """A colour of matplotlib's, or the first of several, in hexadecimal digits; None of what cannot be seen."""
    colors = sys.modules["matplotlib.colors"]
    if shape.is_array(color) and color.ndim == 2:
        if not len(color):
            return None
        color = color[0]
    shown = colors.to_hex(color, keep_alpha=True)
    return None if shown.endswith("00") and len(shown) == 9 else shown.removesuffix("ff") if len(shown) == 9 else shown


def filled(values: Any) -> Any:
    """Numbers, with NaN where they are masked."""
    numpy = sys.modules["numpy"]
    if not numpy.ma.isMaskedArray(values):
        return numpy.asarray(values, float)
    return numpy.ma.filled(values.astype(float), numpy.nan)


def axes_branches(artist: Any, axes: Any) -> tuple[bool, bool]:
    """Whether the artist's x, and its y, are measured on the axes rather than on the frame around it."""
    transform = artist.get_transform()
    if transform is axes.transData:
        return True, True
    return transform.contains_branch_seperately(axes.transData)
