"""plotly's figures and their JSON: axes, what stands upon what, bins, legends, lines and regions drawn across."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Axes, Chart, Series
from bichat.sandbox.guest.charts.plotly_axes import Axis
from bichat.sandbox.guest.charts.plotly_computed import count, fill, stack
from bichat.sandbox.guest.charts.plotly_traces import read_trace
from bichat.sandbox.guest.charts.plotly_values import at, color_text, items, layout_of, title_of, traces_of, words

#: Traces that are looked at; more than are described.
_MAX_TRACES: Final = 5 * shape.MAX_SERIES
_COLORS: Final = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
#: Keys of traces that stand on axes of their own kind.
_SUBPLOTS: Final = (("polar", "theta"), ("scene", "z"))


def describe(figure: Any) -> dict[str, Any] | None:
    """The description of a figure, or of the JSON of one; None of what only looks like that."""
    traces, layout = traces_of(figure, _MAX_TRACES), layout_of(figure)
    if not (isinstance(layout, Mapping) and all(isinstance(trace, Mapping) for trace in traces)):
        return None
    chart = Chart(library="plotly", title=title_of(layout))
    plots: dict[Any, _Plot] = {}
    for number, trace in enumerate(traces):
        if at(trace, "visible") in (False, "legendonly"):
            continue
        place = _place(trace)
        plot = plots.setdefault(place, _Plot(place, layout))
        plot.add(trace, _default_color(layout, number))
    for plot in plots.values():
        plot.settle()
    _arrange(list(plots.values()))
    chart.axes = [plot.axes for plot in plots.values()]
    texts = _Annotations(layout).share_out(list(plots.values()))
    if not chart.axes and texts:
        chart.axes = [Axes()]
    if chart.axes:
        chart.axes[0].texts += texts
    return chart.document()


def _default_color(layout: Any, number: int) -> str | None:
    colors = at(layout, "colorway") or at(layout, "template", "layout", "colorway") or _COLORS
    return color_text(colors[number % len(colors)])


def _place(trace: Any) -> tuple[Any, ...]:
    """What a trace is drawn on: its two axes, its subplot, or its own part of the page."""
    for name, key in _SUBPLOTS:
        subplot = at(trace, "subplot" if name == "polar" else name)
        if subplot is not None or (at(trace, key) is not None and name == "polar"):
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
        self.axes = Axes()
        self._layout = layout
        self._traces: list[Any] = []
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
            series = Series(
                type="unknown", name=words(at(trace, "name")), extra={"kind": shape.text(at(trace, "type"))}
            )
        if series.type == "pie" and "colors" not in series.columns:
            series.columns["colors"] = self._pie_colors(
                series.columns["values"], is_sorted=at(trace, "sort") is not False
            )
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
        pairs = list(zip(self._traces, self.axes.series, strict=True))
        axis = {name: Axis(name, self.axis(name), self.axes.series) for name in ("x", "y")}
        fill(pairs)
        count(pairs, axis)
        arrangement = stack(pairs, at(self._layout, "barmode"), axis)
        if arrangement is not None:
            self.axes.place["arrangement"] = arrangement
        if self.place[0] == "axes":
            self.axes.x, self.axes.y = axis["x"].document(), axis["y"].document()
            self._refer()
        self.axes.legend = self._legend()

    # ------------------------------------------------------------------------------------------- lines across, legend

    def _refer(self) -> None:
        """Lines and regions that the layout draws across the whole plot."""
        for mark in items(at(self._layout, "shapes")):
            on = {"x": str(at(mark, "xref") or "x"), "y": str(at(mark, "yref") or "y")}
            for name, other in (("x", "y"), ("y", "x")):
                own = self.place["xy".index(name) + 1]
                if on[name] == own and on[other] in (f"{self.place['xy'.index(other) + 1]} domain", "paper"):
                    start, end = at(mark, f"{name}0"), at(mark, f"{name}1")
                    reference: dict[str, Any] = {"axis": name}
                    reference |= (
                        {"value": shape.plain(start)}
                        if start == end
                        else {"from": shape.plain(start), "to": shape.plain(end)}
                    )
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


# ------------------------------------------------------------------------------------------------------ many plots


def _arrange(plots: list[_Plot]) -> None:
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
