"""What plotly computes from several traces in the page: bins and counts, stacks, and what lies between two lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.plotly_axes import Axis
from bichat.sandbox.guest.charts.plotly_traces import MAX_COMPUTED, lies
from bichat.sandbox.guest.charts.plotly_values import at, column

Pair = tuple[Any, Series]
"""A trace and its series."""
_ARRANGEMENTS: Final = {"stack": "stacked", "relative": "stacked", "overlay": "overlaid"}
_NORMS: Final = {"": "count", "percent": "percent", "probability": "probability", "probability density": "density"}


def fill(pairs: Sequence[Pair]) -> None:
    """Areas: stacked ones upon each other, and bands between a line and the one before."""
    stacks: dict[str, aggregates.Stack] = {}
    before: Series | None = None
    for trace, series in pairs:
        group = at(trace, "stackgroup")
        if series.type == "area" and group and series.count <= MAX_COMPUTED:
            stack = stacks.setdefault(str(group), aggregates.Stack())
            bases = stack.bases(map(shape.plain, series.columns["x"]), series.columns["y"])
            if any(bases):
                series.columns["base"] = bases
        elif series.type == "area" and at(trace, "fill") == "tonexty" and before is not None:
            _make_band(series, before)
        before = series


def _make_band(series: Series, before: Series) -> None:
    """What is filled between a line and the one before it, if both are at the same places."""
    own, other = series.columns["y"], before.columns.get("y")
    if other is None or len(other) != len(own) or len(own) > MAX_COMPUTED:
        return
    low, high = aggregates.ends(own, other)
    series.type = "band"
    series.columns = {"x": series.columns["x"], "y_low": low, "y_high": high}


# ------------------------------------------------------------------------------------------------------------ counts


def count(pairs: Sequence[Pair], axes: Mapping[str, Axis]) -> None:
    """Histograms: bins that all of them share, and bars where what is counted are names.

    plotly's bins of dates follow the calendar, and those of logarithms the decades: what has them stays `unbinned`.
    """
    counted = [(trace, series, "y" if lies(trace) else "x") for trace, series in pairs if series.type == "histogram"]
    scales = {along: axes[along].scale for _, _, along in counted}
    for along, scale in scales.items():
        own = [(trace, series) for trace, series, direction in counted if direction == along]
        for _, series in own:
            series.extra["orientation"] = "horizontal" if along == "y" else "vertical"
        is_counted = sum(series.count for _, series in own) <= MAX_COMPUTED
        bins = _bins(along, own) if scale == "linear" and is_counted else None
        for trace, series in own:
            places, values = series.columns.get(along, ()), column(at(trace, "x" if along == "y" else "y"))
            if scale == "category" and is_counted:
                _count_names(trace, series, along, places, values)
            elif bins is not None:
                _count_bins(trace, series, bins, places, values)
            else:
                series.columns = {"unbinned": places}


def _bins(along: str, pairs: Sequence[Pair]) -> aggregates.Bins | None:
    """The bins of all traces on one axis: those that one of them asks for, else plotly's own."""
    numbers = [number for _, series in pairs for number in aggregates.numbers(series.columns.get(along, ()))]
    if not numbers:
        return None

    def asked(*path: str) -> Any:
        return next((found for trace, _ in pairs if (found := at(trace, *path)) is not None), None)

    free = aggregates.plotly_bins(numbers, asked(f"nbins{along}"))
    start, end, size = (aggregates.number(asked(f"{along}bins", name)) for name in ("start", "end", "size"))
    if not size:
        return free
    start = free.start if start is None else start
    # A last bin that begins at the end does not count; one that the end cuts does.
    steps = ((max(numbers) if end is None else end) - start) / size
    return aggregates.Bins(start, size, max(1, round(steps) if abs(steps - round(steps)) < 1e-9 else int(steps) + 1))


def _count_names(trace: Any, series: Series, along: str, places: Any, values: Any) -> None:
    groups = aggregates.grouped(map(shape.plain, places), values if values is not None else places)
    function = str(at(trace, "histfunc") or "count")
    heights = [aggregates.aggregate(function, group) or 0.0 for group in groups.values()]
    lengths = _normed(heights, 1.0, str(at(trace, "histnorm") or ""))
    series.type, series.count, series.extra = ("barh" if along == "y" else "bar"), len(groups), {}
    series.columns = {along: list(groups), "x" if along == "y" else "y": lengths}


def _count_bins(trace: Any, series: Series, bins: aggregates.Bins, places: Any, values: Any) -> None:
    groups = bins.groups(places, values if values is not None else places)
    function, norm = str(at(trace, "histfunc") or "count"), str(at(trace, "histnorm") or "")
    counts = _normed([aggregates.aggregate(function, group) or 0.0 for group in groups], bins.size, norm)
    if at(trace, "cumulative", "enabled"):
        counts = shape.tidy_values(sum(counts[: number + 1]) for number in range(len(counts)))
    series.edges, series.columns, series.count = bins.edges, {"counts": counts}, len(counts)
    if norm in _NORMS and function == "count":
        series.extra["norm"] = _NORMS[norm]


def _normed(heights: list[float], width: float, norm: str) -> list[float]:
    """Heights as shares, where the trace asks for that."""
    total = sum(heights) if norm.startswith(("percent", "probability")) else 1.0
    factor = (100.0 if norm == "percent" else 1.0) / (total or 1.0)
    return shape.tidy_values(height * factor / (width if norm.endswith("density") else 1.0) for height in heights)


# ------------------------------------------------------------------------------------------------------------ stacks


def stack(pairs: Sequence[Pair], mode: str | None, axes: Mapping[str, Axis]) -> str | None:
    """Put bars of one place upon each other where the layout says so; how several series stand to each other."""
    bars = [(trace, series) for trace, series in pairs if series.type in ("bar", "barh", "histogram")]
    mode = mode or ("stack" if all(at(trace, "type") == "histogram" for trace, _ in bars) else "group")
    stacks: dict[str, aggregates.Stack] = {}
    for _, series in bars:
        if mode in ("stack", "relative"):
            _stack_upon(series, stacks.setdefault(series.type, aggregates.Stack()))
        across = "y" if series.type == "bar" else "x"
        if series.type != "histogram" and "base" in series.columns and axes[across].scale == "date":
            _make_range(series, across)
    return _ARRANGEMENTS.get(mode, "grouped") if len(bars) > 1 else None


def _stack_upon(series: Series, upon: aggregates.Stack) -> None:
    if "base" in series.columns or "unbinned" in series.columns or series.count > MAX_COMPUTED:
        return
    along, across = ("y", "x") if series.type == "barh" else ("x", "y")
    places = series.edges[:-1] if series.type == "histogram" else series.columns[along]
    lengths = series.columns["counts" if series.type == "histogram" else across]
    bases = upon.bases(map(shape.plain, places), lengths)
    if any(bases):
        series.columns["base"] = bases


def _make_range(series: Series, across: str) -> None:
    """A bar on an axis of dates: from a moment, for so many milliseconds."""
    starts, lengths = series.columns.pop("base"), series.columns.pop(across)
    numpy = sys.modules.get("numpy")
    series.extra = {"orientation": "horizontal" if across == "x" else "vertical", **series.extra}
    series.type = "range"
    series.columns[f"{across}_low"] = starts
    if numpy is not None and series.count <= MAX_COMPUTED:
        moments = numpy.array([shape.plain(start) for start in starts], "datetime64[ms]")
        lengths = numpy.array([aggregates.number(length) or 0 for length in lengths]).astype("timedelta64[ms]")
        series.columns |= {f"{across}_low": moments, f"{across}_high": moments + lengths}
