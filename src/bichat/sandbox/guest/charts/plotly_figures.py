"""plotly's figures and their JSON: axes, what stands upon what, bins, legends, lines and regions drawn across."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import aggregates, shape
from bichat.sandbox.guest.charts.plotly_traces import MAX_COMPUTED, lies, read_trace
from bichat.sandbox.guest.charts.plotly_values import at, color_text, column, items, layout_of, traces_of, words

#: Traces that are looked at; more than are described.
_MAX_TRACES: Final = 5 * shape.MAX_SERIES
_MAX_SAMPLE: Final = 200
_COLORS: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
_DATE: Final = re.compile(r"\d{4}-\d\d?(-\d\d?([ T].*)?)?$")
_MILLISECONDS: Final = "timedelta64[ms]"
#: Keys of traces that stand on axes of their own kind.
_SUBPLOTS: Final = (("polar", "theta"), ("scene", "z"))


def describe(figure: Any) -> dict[str, Any] | None:
    """The description of a figure, or of the JSON of one; None of what only looks like that."""
    traces, layout = traces_of(figure, _MAX_TRACES), layout_of(figure)
    if not (isinstance(layout, Mapping) and all(isinstance(trace, Mapping) for trace in traces)):
        return None
    chart = shape.Chart(library="plotly", title=words(at(layout, "title", "text") or _text(at(layout, "title"))))
    plots: dict[Any, _Plot] = {}
    for number, trace in enumerate(traces):
        if at(trace, "visible") in (False, "legendonly"):
            continue
        place = _place(trace)
        plot = plots.setdefault(place, _Plot(place, layout))
        plot.add(trace, _default_color(layout, number))
    for plot in plots.values():
        plot.settle()
    _arrange(list(plots.values()), layout)
    chart.axes = [plot.axes for plot in plots.values()]
    texts = _Annotations(layout).share_out(list(plots.values()))
    if not chart.axes and texts:
        chart.axes = [shape.Axes()]
    if chart.axes:
        chart.axes[0].texts += texts
    return chart.document()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _default_color(layout: Any, number: int) -> str | None:
    colors = at(layout, "colorway") or at(layout, "template", "layout", "colorway") or _COLORS
    return color_text(colors[number % len(colors)])


def _place(trace: Any) -> tuple[Any, ...]:
    """What a trace is drawn on: its two axes, its subplot, or its own part of the page."""
    for name, key in _SUBPLOTS:
        subplot = at(trace, "subplot" if name == "polar" else name)
        if subplot is not None or at(trace, key) is not None and name == "polar":
            return (name, str(subplot or name))
    if at(trace, "type") in ("scatter3d", "surface", "mesh3d"):
        return ("scene", str(at(trace, "scene") or "scene"))
    domain = at(trace, "domain")
    if domain is not None:
        return ("domain", *(tuple(at(domain, name) or (0, 1)) for name in ("x", "y")), str(at(trace, "type")))
    return ("axes", str(at(trace, "xaxis") or "x"), str(at(trace, "yaxis") or "y"))


class _Plot:
    """The traces that share one place."""

    def __init__(self, place: tuple[Any, ...], layout: Any) -> None:
        self.place = place
        self.axes = shape.Axes()
        self._layout = layout
        self._traces: list[Any] = []
        self._areas: dict[Any, aggregates.Stack] = {}
        if place[0] in ("polar", "scene"):
            self.axes.place["projection"] = "polar" if place[0] == "polar" else "3d"

    def axis(self, name: str) -> Any:
        """What the layout says of the x or the y axis."""
        if self.place[0] != "axes":
            return None
        return at(self._layout, self.place[1 if name == "x" else 2].replace(name, f"{name}axis", 1))

    def domain(self, name: str) -> tuple[float, float]:
        """Where the plot lies on the page."""
        found = self.place["xy".index(name) + 1] if self.place[0] == "domain" else at(self.axis(name), "domain")
        return tuple(found) if found else (0.0, 1.0)

    def add(self, trace: Any, color: str | None) -> None:
        """Add a trace."""
        try:
            series = read_trace(trace, color)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            series = shape.Series(type="unknown", name=words(at(trace, "name")), extra={"kind": shape.text(at(trace, "type"))})
        if series.type == "pie" and "colors" not in series.columns:
            series.columns["colors"] = self._pie_colors(series.columns["values"], is_sorted=at(trace, "sort") is not False)
        if at(trace, "coloraxis") or at(trace, "marker", "coloraxis"):
            name = at(trace, "coloraxis") or at(trace, "marker", "coloraxis")
            label = words(at(self._layout, str(name), "colorbar", "title", "text"))
            series.extra["color_scale"] = {"label": shape.text(label)} if label else {}
        self._traces.append(trace)
        self.axes.series.append(series)

    def _pie_colors(self, values: list[float], *, is_sorted: bool) -> list[str | None]:
        """Each slice's colour: they are handed out from the largest slice on."""
        order = sorted(range(len(values)), key=lambda number: -values[number]) if is_sorted else range(len(values))
        colors: list[str | None] = [None] * len(values)
        for number, slice_number in enumerate(order):
            colors[slice_number] = _default_color(self._layout, number)
        return colors

    def settle(self) -> None:
        """Compute what depends on several traces, and describe the axes."""
        self._fill()
        self._count()
        self._stack()
        if self.place[0] == "axes":
            self.axes.x, self.axes.y = self._axis_document("x"), self._axis_document("y")
        self._refer()
        self.axes.legend = self._legend()

    # ------------------------------------------------------------------------------------------------------ areas

    def _fill(self) -> None:
        """Areas: stacked ones upon each other, and bands between a line and the one before."""
        before: shape.Series | None = None
        for trace, series in zip(self._traces, self.axes.series, strict=True):
            if series.type == "area":
                group = at(trace, "stackgroup")
                if group:
                    stack = self._areas.setdefault(group, aggregates.Stack())
                    bases = stack.bases(map(shape.plain, series.columns["x"]), series.columns["y"])
                    if any(bases):
                        series.columns["base"] = bases
                elif at(trace, "fill") == "tonexty" and before is not None:
                    _make_band(series, before)
            before = series

    # ----------------------------------------------------------------------------------------------------- counts

    def _count(self) -> None:
        """Histograms: bins that all of them share, and bars where what is counted are names."""
        pairs = [pair for pair in zip(self._traces, self.axes.series, strict=True) if pair[1].type == "histogram"]
        shared: dict[str, aggregates.Bins] = {}
        for trace, series in pairs:
            along = "y" if lies(trace) else "x"
            places = series.columns.get(along)
            if places is None or not len(places) or len(places) > MAX_COMPUTED:
                series.count = 0 if places is None else len(places)
                series.columns = {}
                continue
            values = column(at(trace, "x" if along == "y" else "y"))
            kind = self._scale(along)
            if kind == "category":
                _count_names(trace, series, along, places, values)
            elif kind == "linear":
                if along not in shared:
                    shared[along] = self._bins(along, pairs)
                _count_bins(trace, series, along, shared[along], places, values)
            else:
                # plotly's bins of dates follow the calendar, and those of logarithms the decades: only the page has them.
                series.extra["orientation"] = "horizontal" if along == "y" else "vertical"
                series.columns = {"unbinned": places}

    def _bins(self, along: str, pairs: list[tuple[Any, shape.Series]]) -> aggregates.Bins:
        key = f"{along}bins"
        own = [(trace, series) for trace, series in pairs if ("y" if lies(trace) else "x") == along]
        values = [number for _, series in own for number in aggregates.numbers(series.columns.get(along, ()))]
        if not values:
            raise ValueError("nothing to count")
        count = next((found for trace, _ in own if (found := at(trace, f"nbins{along}"))), None)
        free = aggregates.plotly_bins(values, count)
        start, end, size = (next((v for trace, _ in own if (v := at(trace, key, name)) is not None), None) for name in ("start", "end", "size"))
        if size is None:
            return free
        start = start if start is not None else free.start
        end = end if end is not None else max(values)
        # A last bin that would begin at the end does not count; one that the end cuts does.
        steps = (end - start) / size
        count = round(steps) if abs(steps - round(steps)) < 1e-9 else int(steps) + 1
        return aggregates.Bins(start, size, max(1, count))

    # ----------------------------------------------------------------------------------------------------- stacks

    def _stack(self) -> None:
        """Bars of one place upon each other where the layout says so, and whether they are beside each other."""
        pairs = zip(self._traces, self.axes.series, strict=True)
        bars = [(trace, series) for trace, series in pairs if series.type in ("bar", "barh", "histogram")]
        is_histogram = all(at(trace, "type") == "histogram" for trace, _ in bars)
        mode = str(at(self._layout, "barmode") or ("stack" if is_histogram else "group"))
        if mode in ("stack", "relative"):
            stacks: dict[str, aggregates.Stack] = {}
            for _, series in bars:
                _stack_upon(series, stacks.setdefault(series.type, aggregates.Stack()))
        if len(bars) > 1:
            arrangement = {"stack": "stacked", "relative": "stacked", "overlay": "overlaid"}.get(mode, "grouped")
            self.axes.place["arrangement"] = arrangement
        for _, series in bars:
            across = "y" if series.type == "bar" else "x"
            if series.type != "histogram" and "base" in series.columns and self._scale(across) == "date":
                _make_range(series, across)

    # ------------------------------------------------------------------------------------------------------- axes

    def _scale(self, name: str) -> str:
        """What is measured on an axis; plotly looks at the values where the layout does not say."""
        kind = at(self.axis(name), "type")
        if kind in ("linear", "log", "date"):
            return str(kind)
        if kind in ("category", "multicategory"):
            return "category"
        for series in self.axes.series:
            # Bars of a timeline are as long as they last: where they begin tells what the axis measures.
            is_timed = "base" in series.columns and name == ("x" if series.type == "barh" else "y")
            values = series.columns.get("base" if is_timed else name)
            if values is None and series.edges is not None:
                return "linear"
            if values is not None and len(values):
                return _scale_of(values)
        return "linear"

    def _axis_document(self, name: str) -> dict[str, Any]:
        axis, scale = self.axis(name), self._scale(name)
        limits = column(at(axis, "range"))
        if limits is not None and scale == "log":
            limits = [None if limit is None else shape.tidy(10.0 ** float(limit)) for limit in limits]
        places, labels = column(at(axis, "tickvals")), column(at(axis, "ticktext"))
        ticks = None
        if places is not None and labels is not None:
            ticks = [{"at": shape.plain(place), "label": shape.text(words(label))} for place, label in zip(places, labels, strict=False)]
        title = at(axis, "title", "text") or _text(at(axis, "title"))
        return shape.axis_document(
            words(title),
            scale,
            limits=None if limits is None or scale == "category" else shape.plain_values(limits),
            categories=self._categories(name) if scale == "category" else None,
            ticks=ticks,
            inverted=at(axis, "autorange") == "reversed" or _is_inverted(limits, scale) or None,
            unit=words(at(axis, "ticksuffix") or at(axis, "tickprefix")),
        )

    def _categories(self, name: str) -> list[Any]:
        """The names on an axis in their order: as they appear, unless the layout has another."""
        totals: dict[Any, float] = {}
        given = column(at(self.axis(name), "categoryarray"))
        for value in given if given is not None else ():
            totals[shape.plain(value)] = 0.0
        across = "y" if name == "x" else "x"
        for series in self.axes.series:
            places, values = series.columns.get(name), series.columns.get(across)
            if places is None:
                continue
            for number, place in enumerate(islice(places, shape.MAX_POINTS)):
                length = aggregates.number(values[number]) if values is not None and number < len(values) else None
                totals[shape.plain(place)] = totals.get(shape.plain(place), 0.0) + (length or 0.0)
        order = str(at(self.axis(name), "categoryorder") or "trace")
        if order.startswith("category"):
            return sorted(totals, key=str, reverse=order.endswith("descending"))
        if order.startswith(("total", "sum")):
            return sorted(totals, key=totals.__getitem__, reverse=order.endswith("descending"))
        return list(totals)

    # ------------------------------------------------------------------------------------------- lines across, legend

    def _refer(self) -> None:
        """Lines and regions that the layout draws across the whole plot."""
        if self.place[0] != "axes":
            return
        for mark in items(at(self._layout, "shapes")):
            on = {"x": str(at(mark, "xref") or "x"), "y": str(at(mark, "yref") or "y")}
            for name, other in (("x", "y"), ("y", "x")):
                own = self.place["xy".index(name) + 1]
                if on[name] == own and on[other] in (f"{self.place['xy'.index(other) + 1]} domain", "paper"):
                    start, end = at(mark, f"{name}0"), at(mark, f"{name}1")
                    reference: dict[str, Any] = {"axis": name}
                    reference |= {"value": shape.plain(start)} if start == end else {"from": shape.plain(start), "to": shape.plain(end)}
                    reference["name"] = shape.text(words(at(mark, "name") or at(mark, "label", "text")))
                    color = color_text(at(mark, "line", "color") if start == end else at(mark, "fillcolor"))
                    self.axes.references.append(reference | ({"color": shape.text(color)} if color else {}))

    def _legend(self) -> dict[str, Any] | None:
        shown = [
            (series.name, series.color)
            for trace, series in zip(self._traces, self.axes.series, strict=True)
            if series.name and at(trace, "showlegend") is not False and series.type != "pie"
        ]
        is_asked_for = at(self._layout, "showlegend") or any(at(trace, "showlegend") for trace in self._traces)
        if at(self._layout, "showlegend") is False or (len(shown) < 2 and not is_asked_for):
            return None
        return shape.legend(words(at(self._layout, "legend", "title", "text")), shown)


def _is_inverted(limits: Any, scale: str) -> bool:
    return scale == "linear" and limits is not None and len(limits) == 2 and None not in limits and limits[0] > limits[1]


def _scale_of(values: Any) -> str:
    """What plotly takes values for, by the first of them."""
    if shape.is_array(values) and values.dtype.kind in "iufM":
        return "date" if values.dtype.kind == "M" else "linear"
    known = [shape.plain(value) for value in islice(values, _MAX_SAMPLE)]
    known = [value for value in known if value is not None]
    if any(isinstance(value, bool) for value in known):
        return "category"
    texts = [value for value in known if isinstance(value, str)]
    if len(texts) * 2 <= len(known):
        return "linear"
    if all(_DATE.match(text) for text in texts):
        return "date"
    return "linear" if all(_is_number(text) for text in texts) else "category"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _make_band(series: shape.Series, before: shape.Series) -> None:
    """What is filled between a line and the one before it, if both are at the same places."""
    own, other = series.columns["y"], before.columns.get("y")
    if other is None or len(other) != len(own) > 0 or len(own) > MAX_COMPUTED:
        return
    pairs = [(aggregates.number(one), aggregates.number(two)) for one, two in zip(own, other, strict=True)]
    series.type = "band"
    series.columns = {
        "x": series.columns["x"],
        "y_low": [None if None in pair else min(pair) for pair in pairs],
        "y_high": [None if None in pair else max(pair) for pair in pairs],
    }


def _make_range(series: shape.Series, across: str) -> None:
    """A bar on an axis of dates: from a moment, for so many milliseconds."""
    numpy = sys.modules.get("numpy")
    starts, lengths = series.columns.pop("base"), series.columns.pop(across)
    series.extra = {"orientation": "horizontal" if across == "x" else "vertical", **series.extra}
    series.type = "range"
    series.columns[f"{across}_low"] = starts
    if numpy is not None:
        moments = numpy.array([shape.plain(start) for start in starts], "datetime64[ms]")
        series.columns[f"{across}_low"] = moments
        series.columns[f"{across}_high"] = moments + numpy.array(aggregates.numbers(lengths)).astype(_MILLISECONDS)


def _count_names(trace: Any, series: shape.Series, along: str, places: Any, values: Any) -> None:
    groups = aggregates.grouped(map(shape.plain, places), values if values is not None else places)
    function = str(at(trace, "histfunc") or "count")
    lengths = _normed([aggregates.aggregate(function, group) or 0.0 for group in groups.values()], [1.0] * len(groups), trace)
    columns = {along: list(groups), "x" if along == "y" else "y": lengths}
    series.type, series.count, series.columns = ("barh" if along == "y" else "bar"), len(groups), columns


def _count_bins(trace: Any, series: shape.Series, along: str, bins: aggregates.Bins, places: Any, values: Any) -> None:
    groups = bins.groups(places, values if values is not None else places)
    function = str(at(trace, "histfunc") or "count")
    heights = [aggregates.aggregate(function, group) or 0.0 for group in groups]
    series.edges = bins.edges
    counts = _normed(heights, [bins.size] * bins.count, trace)
    if at(trace, "cumulative", "enabled"):
        counts = shape.tidy_values(sum(counts[: number + 1]) for number in range(len(counts)))
    series.columns = {"counts": counts}
    series.count = len(counts)
    norm = str(at(trace, "histnorm") or "")
    norms = {"": "count", "percent": "percent", "probability": "probability", "probability density": "density"}
    series.extra["orientation"] = "horizontal" if along == "y" else "vertical"
    if norm in norms and function == "count":
        series.extra["norm"] = norms[norm]


def _normed(heights: list[float], widths: list[float], trace: Any) -> list[float]:
    """Heights as shares, where the trace asks for that."""
    norm = str(at(trace, "histnorm") or "")
    total = sum(heights) if norm.startswith(("percent", "probability")) else 1.0
    factor = (100.0 if norm == "percent" else 1.0) / (total or 1.0)
    is_density = norm.endswith("density")
    return shape.tidy_values(
        height * factor / (width if is_density else 1.0) for height, width in zip(heights, widths, strict=True)
    )


def _stack_upon(series: shape.Series, stack: aggregates.Stack) -> None:
    if "base" in series.columns or series.count > MAX_COMPUTED:
        return
    along, across = ("y", "x") if series.type == "barh" else ("x", "y")
    if series.type == "histogram":
        if series.edges is None:
            return
        places, lengths = series.edges[:-1], series.columns["counts"]
    else:
        places, lengths = series.columns[along], series.columns[across]
    bases = stack.bases(map(shape.plain, places), lengths)
    if any(bases):
        series.columns["base"] = bases


# ------------------------------------------------------------------------------------------------------ many plots


def _arrange(plots: list[_Plot], layout: Any) -> None:
    """Say of several plots where they stand, and which lie over another."""
    if len(plots) < 2:
        return
    numbers = {plot.place: number for number, plot in enumerate(plots)}
    starts = sorted({round(plot.domain("x")[0], 6) for plot in plots})
    tops = sorted({round(plot.domain("y")[1], 6) for plot in plots}, reverse=True)
    for plot in plots:
        if plot.place[0] == "axes":
            for name, other in (("y", "x"), ("x", "y")):
                under = at(plot.axis(name), "overlaying")
                below = ("axes", plot.place[1], under) if name == "y" else ("axes", under, plot.place[2])
                if under and below in numbers:
                    plot.axes.place.update(twin_of=numbers[below], shares=other)
        row, place = tops.index(round(plot.domain("y")[1], 6)), starts.index(round(plot.domain("x")[0], 6))
        if "twin_of" not in plot.axes.place:
            plot.axes.place = {"row": row, "column": place, **plot.axes.place}


class _Annotations:
    """Texts on the page: headings of plots, and others."""

    def __init__(self, layout: Any) -> None:
        self._all = list(islice(items(at(layout, "annotations")), shape.MAX_LABELS))

    def share_out(self, plots: list[_Plot]) -> list[str]:
        """Give each plot its heading; the texts that are left."""
        left: list[str] = []
        for annotation in self._all:
            shown = words(at(annotation, "text"))
            plot = self._plot_under(annotation, plots) if len(plots) > 1 else None
            if plot is not None and not plot.axes.title:
                plot.axes.title = shown
            elif shown:
                left.append(shown)
        return left

    @staticmethod
    def _plot_under(annotation: Any, plots: list[_Plot]) -> _Plot | None:
        """The plot that an annotation stands in the middle above, or, turned, beside."""
        if at(annotation, "xref") != "paper" or at(annotation, "yref") != "paper":
            return None
        x, y = at(annotation, "x"), at(annotation, "y")
        for plot in plots:
            left, right = plot.domain("x")
            if abs((left + right) / 2 - x) < 0.01 and abs(plot.domain("y")[1] - y) < 0.01:
                return plot
        return None
