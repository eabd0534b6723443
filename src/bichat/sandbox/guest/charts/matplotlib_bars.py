"""matplotlib's bars, and which of them are histograms.

A histogram is drawn with bars, and nothing on them says so.  Bars that touch, each beginning where the one before ends,
are read as one; so are bars of several data sets side by side that fill four fifths of bins that touch, as `hist()`
draws them.  Bars at categories are bars, and so are those at whole numbers, or days, one apart: both could be meant.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_axis import EXACT, NEAR, Axis
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, filled, hex_color, label_of

#: Bars of one container that are looked at.
_MAX_READ: Final = 5_000
#: The share of a bin that `hist()` fills with the bars of several data sets.
_FILLED: Final = 0.8
_TOLERANCE: Final = 1e-6


def read_bars(container: Any) -> Mark | None:
    """The bars of one call."""
    numpy = sys.modules["numpy"]
    patches = list(islice(container, _MAX_READ))
    if not patches:
        return None
    geometry = numpy.array([(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in patches], float)
    is_lying = container.orientation == "horizontal"
    along, across = ("y", "x") if is_lying else ("x", "y")
    if is_lying:
        geometry = geometry[:, [1, 0, 3, 2]]
    start, base, width, length = geometry.T
    centers = numpy.array(shape.tidy_values(start + width / 2))
    colors = _colors(patches)
    series = Series(
        type="barh" if is_lying else "bar",
        name=label_of(container) or _label_of_first(patches),
        color=colors[0] if len(set(colors)) == 1 else None,
        columns={along: centers, across: length},
        count=len(container),
    )
    if series.color is None:
        series.columns["colors"] = colors
    axis_of = {along: along}
    if base.any():
        series.columns["base"] = base
        axis_of["base"] = across
    _add_errors(series, axis_of, container.errorbar, along, across)
    spans = numpy.stack([start, start + width], axis=1)
    return Mark(series=series, axis_of=axis_of, places={along: NEAR}, length_on=across, spans=spans)


def _label_of_first(patches: list[Any]) -> str:
    """The name that `hist()` has given to the first of its bars for all of them."""
    labels = [label_of(patch) for patch in patches[:2]]
    return labels[0] if not any(labels[1:]) else ""


def _colors(patches: list[Any]) -> list[str | None]:
    known: dict[Any, str | None] = {}
    colors: list[str | None] = []
    for patch in patches:
        color = patch.get_facecolor()
        if color not in known:
            known[color] = hex_color(color) or hex_color(patch.get_edgecolor())
        colors.append(known[color])
    return colors


def _add_errors(series: Series, axis_of: dict[str, str], errorbar: Any, along: str, across: str) -> None:
    if errorbar is None:
        return
    ends = error_ends(errorbar, len(series.columns[along])).get(across)
    if ends is not None:
        for side, values in zip(("low", "high"), ends, strict=True):
            series.columns[f"{across}_{side}"] = values
            axis_of[f"{across}_{side}"] = across


def error_ends(errorbar: Any, count: int) -> dict[str, tuple[Any, Any]]:
    """The lower and upper ends of the bars of `count` points, by the axis along which they are drawn."""
    numpy = sys.modules["numpy"]
    found: dict[str, tuple[Any, Any]] = {}
    for collection in errorbar.lines[2]:
        paths = collection.get_paths()
        if len(paths) != count or not count:
            continue
        ends = numpy.stack(
            [path.vertices[:2] if len(path.vertices) == 2 else numpy.full((2, 2), numpy.nan) for path in paths]
        )
        ends = filled(ends)
        axis = 1 if not (ends[:, 0, 0] - ends[:, 1, 0])[~numpy.isnan(ends[:, 0, 0])].any() else 0
        found["xy"[axis]] = (ends[:, 0, axis], ends[:, 1, axis])
    return found


def arrangement(marks: list[Mark]) -> str | None:
    """How several series of bars stand to each other; None where there is one."""
    numpy = sys.modules["numpy"]
    bars = [mark for mark in marks if mark.series.type in ("bar", "barh", "histogram")]
    if len(bars) < 2:
        return None
    if any("base" in mark.series.columns for mark in bars):
        return "stacked"
    first = bars[0].spans
    if all(
        mark.spans is not None
        and first is not None
        and len(mark.spans) == len(first)
        and numpy.allclose(mark.spans, first)
        for mark in bars
    ):
        return "overlaid"
    return "overlaid" if all(mark.series.type == "histogram" and mark.spans is None for mark in bars) else "grouped"


def tell_ranges(marks: list[Mark], axis: dict[str, Axis]) -> None:
    """Make bars that begin and end on an axis of dates ranges: their lengths are no dates."""
    for mark in marks:
        across, columns = mark.length_on, mark.series.columns
        if mark.series.type not in ("bar", "barh") or axis[across].scale != "date" or "base" not in columns:
            continue
        along = _along(mark)
        low = columns.pop("base")
        columns[f"{across}_low"], columns[f"{across}_high"] = low, low + columns.pop(across)
        mark.series.extra = {"orientation": "horizontal" if along == "y" else "vertical"}
        mark.series.type, mark.spans = "range", None
        mark.axis_of = {column: column[0] for column in columns if column != "colors"}


def tell_histograms(marks: list[Mark], axis: dict[str, Axis]) -> None:
    """Make histograms of those bars that are ones."""
    bars = [mark for mark in marks if mark.series.type in ("bar", "barh") and len(mark.spans) == mark.series.count]
    for mark in bars:
        if axis[_along(mark)].scale == "category" and len(mark.spans) > 1 and _touch(mark.spans):
            _count_names(mark)
    bars = [mark for mark in bars if axis[_along(mark)].scale != "category"]
    for group in _side_by_side(bars):
        edges = _bins_around(group)
        if edges is not None:
            for mark in group:
                _make_histogram(mark, edges)
                mark.spans = None
    for mark in bars:
        is_histogram = mark.series.type == "histogram"
        if not is_histogram and len(mark.spans) > 1 and _touch(mark.spans) and not _is_counting(mark.spans):
            _make_histogram(mark, [*mark.spans[:, 0], mark.spans[-1, 1]])


def _along(mark: Mark) -> str:
    return "y" if mark.series.type == "barh" else "x"


def _touch(spans: Any) -> bool:
    """Whether each begins where the one before it ends."""
    numpy = sys.modules["numpy"]
    widths = spans[:, 1] - spans[:, 0]
    return bool(
        (widths > 0).all()
        and (numpy.abs(spans[1:, 0] - spans[:-1, 1]) <= _TOLERANCE * numpy.maximum(widths[1:], widths[:-1])).all()
    )


def _side_by_side(bars: list[Mark]) -> list[list[Mark]]:
    """Runs of marks, each of whose bars begin where those of the mark before end."""
    numpy = sys.modules["numpy"]
    runs: list[list[Mark]] = []
    for mark in bars:
        last = runs[-1][-1] if runs else None
        if last is not None and last.series.type == mark.series.type and len(last.spans) == len(mark.spans):
            widths = mark.spans[:, 1] - mark.spans[:, 0]
            if (numpy.abs(mark.spans[:, 0] - last.spans[:, 1]) <= _TOLERANCE * numpy.abs(widths)).all():
                runs[-1].append(mark)
                continue
        runs.append([mark])
    return [run for run in runs if len(run) > 1 and len(run[0].spans) > 1]


def _bins_around(group: list[Mark]) -> Any:
    """The edges of the bins that the bars of a group fill; None where those do not touch."""
    numpy = sys.modules["numpy"]
    low, high = group[0].spans[:, 0], group[-1].spans[:, 1]
    centers, half = (low + high) / 2, (high - low) / _FILLED / 2
    bins = numpy.stack([centers - half, centers + half], axis=1)
    return None if _is_counting(bins) or not _touch(bins) else [*bins[:, 0], bins[-1, 1]]


def _is_counting(bins: Any) -> bool:
    """Whether they lie around whole numbers, one apart."""
    numpy = sys.modules["numpy"]
    centers = bins.mean(axis=1)
    return bool(numpy.allclose(centers, numpy.round(centers)) and numpy.allclose(numpy.diff(centers), 1))


def _count_names(mark: Mark) -> None:
    """Bins that were laid over names: how often each name occurs, where no bin holds several."""
    series, along = mark.series, _along(mark)
    across = "x" if along == "y" else "y"
    places, lengths = series.columns[along], series.columns[across]
    if (mark.spans[:, 1] - mark.spans[:, 0]).max() > 1 + _TOLERANCE:
        _make_histogram(mark, [*mark.spans[:, 0], mark.spans[-1, 1]])
        mark.axis_of = {}
        return
    numpy = sys.modules["numpy"]
    nearest = numpy.round(places)
    if len(numpy.unique(nearest)) == len(nearest) or "base" in series.columns:
        return
    names = numpy.unique(nearest)
    series.columns = {along: names, across: numpy.array([lengths[nearest == name].sum() for name in names])}
    series.count, mark.spans = len(names), None


def _make_histogram(mark: Mark, edges: Any) -> None:
    series, along = mark.series, _along(mark)
    across = "x" if along == "y" else "y"
    columns = series.columns
    make_histogram(mark, edges, columns[across], along, columns.get("base"))


def make_histogram(mark: Mark, edges: Any, counts: Any, along: str, base: Any = None) -> None:
    """Turn `mark` into a histogram along that axis."""
    numpy = sys.modules["numpy"]
    series, across = mark.series, "x" if along == "y" else "y"
    series.type, series.count = "histogram", max(series.count, len(counts))
    series.edges = numpy.array(shape.tidy_values(edges))
    series.columns = {"counts": counts} if base is None else {"counts": counts, "base": base}
    series.extra = {"orientation": "horizontal" if along == "y" else "vertical", **series.extra}
    norm = norm_of(counts, numpy.diff(series.edges))
    if norm:
        series.extra["norm"] = norm
    mark.axis_of = {"edges": along} | ({} if base is None else {"base": across})
    mark.places = {}
    mark.length_on = across


def norm_of(counts: Any, widths: Any) -> str:
    """What the heights of a histogram say, as far as they show it."""
    numpy = sys.modules["numpy"]
    counts = counts[~numpy.isnan(counts)]
    if not len(counts):
        return ""
    if numpy.array_equal(counts, numpy.round(counts)):
        return "count"
    if len(counts) == len(widths) and abs((counts * widths).sum() - 1) < EXACT:
        return "density"
    total = counts.sum()
    return "probability" if abs(total - 1) < EXACT else "percent" if abs(total - 100) < EXACT else ""
