"""matplotlib's figures, those of pandas and seaborn among them: axes, legends, and what their artists show."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Axes, Chart
from bichat.sandbox.guest.charts.matplotlib_artists import ArtistReader
from bichat.sandbox.guest.charts.matplotlib_axis import EXACT, Axis
from bichat.sandbox.guest.charts.matplotlib_bars import arrangement, tell_histograms, tell_ranges
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, color_of, guarded

#: Types that have no axes to be measured on.
_UNMEASURED: Final = frozenset({"pie", "table", "text", "image"})
#: Twice as many axes as are described: colour bars are among them.
_MAX_READ_AXES: Final = 2 * shape.MAX_AXES


def describe(figure: Any) -> dict[str, Any]:
    """The description of a figure."""
    every = list(_shown_axes(figure))
    chart = Chart(library="matplotlib", title=_title(figure))
    legends = [guarded(_legend_entries, legend) or ("", []) for legend in figure.legends]
    entries = [entry for _, named in legends for entry in named]
    if legends:
        chart.legend = shape.legend(legends[0][0], entries)
    readers = [_AxesReader(axes, entries) for axes in every[:_MAX_READ_AXES]]
    chart.axes = [reader.plot for reader in readers] + [Axes() for _ in every[_MAX_READ_AXES:]]
    for reader in readers:
        reader.finish(chart.points_per_series)
    _tell_twins([(axes, reader.plot) for axes, reader in zip(every, readers, strict=False)])
    return chart.document()


def _shown_axes(figure: Any) -> Any:
    """All axes but colour bars, which belong to what they explain."""
    every = list(islice(figure.axes, 10_000))
    mappables = [mappable for axes in every for mappable in (*axes.collections, *axes.images)]
    bars = [bar.ax for mappable in mappables if (bar := getattr(mappable, "colorbar", None)) is not None]
    for axes in every:
        if axes.get_visible() and not any(axes is bar for bar in bars):
            yield axes
            yield from (
                child for child in axes.child_axes if child.get_visible() and type(child).__name__ != "SecondaryAxis"
            )


def _title(figure: Any) -> str:
    get_title = getattr(figure, "get_suptitle", None)
    return get_title() if get_title is not None else ""


def _legend_entries(legend: Any) -> tuple[str, list[tuple[str, str | None]]]:
    """The title of a legend, and its labels with their colours."""
    handles = legend.legend_handles if hasattr(legend, "legend_handles") else legend.legendHandles
    texts = [text.get_text() for text in legend.get_texts()]
    entries = [(text, color_of(handle)) for handle, text in zip(handles, texts, strict=False)]
    return legend.get_title().get_text(), entries


def _tell_twins(pairs: list[tuple[Any, Axes]]) -> None:
    """Say of axes that are drawn over others, at the same place, which those are and what both share."""
    first: dict[tuple[float, ...], int] = {}
    for number, (axes, plot) in enumerate(pairs):
        # As it was asked for: the place after all adjustments takes the layout to be worked out, as drawing does.
        under = first.setdefault(axes.get_position(original=True).bounds, number)
        if under != number:
            shared = "x" if axes.get_shared_x_axes().joined(axes, pairs[under][0]) else "y"
            plot.place.update(twin_of=under, shares=shared)


class _AxesReader:
    """One of matplotlib's axes on its way to a description."""

    def __init__(self, axes: Any, entries: list[tuple[str, str | None]]) -> None:
        """`entries` are those of the figure's own legend."""
        self._axes = axes
        self._axis = {"x": Axis(axes, "x"), "y": Axis(axes, "y")}
        reader = ArtistReader(axes)
        reader.read()
        self._marks = reader.marks
        self.plot = Axes(title=self._title(), references=reader.references, texts=reader.texts, place=self._place())
        self._name_axes()
        tell_histograms(self._marks, self._axis)
        tell_ranges(self._marks, self._axis)
        own = axes.get_legend()
        title, own_entries = (guarded(_legend_entries, own) if own is not None else None) or ("", [])
        self.plot.legend = shape.legend(title, own_entries)
        self._split_by_color(own_entries or entries)
        self._name_series(own_entries or entries)
        if (arranged := arrangement(self._marks)) is not None:
            self.plot.place["arrangement"] = arranged
        self.plot.series = [mark.series for mark in self._marks]

    def finish(self, points: int) -> None:
        """Make values of positions, of no more than so many points a series."""
        for mark in self._marks:
            mark.series.thin(points)
            for column, axis in mark.axis_of.items():
                if column == "edges":
                    mark.series.edges = self._axis[axis].values(mark.series.edges)
                else:
                    mark.series.columns[column] = self._axis[axis].values(mark.series.columns[column])
        for reference in self.plot.references:
            self._place_reference(reference)
        if self.plot.type not in _UNMEASURED and (self._marks or self._axes.axison):
            self.plot.x, self.plot.y = self._axis["x"].document(), self._axis["y"].document()

    def _title(self) -> str:
        return next(filter(None, (self._axes.get_title(loc=side) for side in ("center", "left", "right"))), "")

    def _place(self) -> dict[str, Any]:
        place: dict[str, Any] = {}
        if self._axes.name != "rectilinear":
            place["projection"] = shape.text(self._axes.name)
        spec = guarded(self._axes.get_subplotspec)
        if spec is not None:
            place.update(row=spec.rowspan.start, column=spec.colspan.start)
        return place

    def _place_reference(self, reference: dict[str, Any]) -> None:
        axis = self._axis.get(reference["axis"])
        for key in ("value", "from", "to"):
            if key in reference and axis is not None:
                reference[key] = shape.plain_values(axis.values([reference[key]], EXACT))[0]

    def _name_axes(self) -> None:
        """Take labels that the code has set for categories where everything that is drawn stands at one."""
        for name, axis in self._axis.items():
            if not axis.has_labels:
                continue
            placed = [
                (mark.series.columns[column], share)
                for mark in self._marks
                for column, share in mark.places.items()
                if mark.axis_of.get(column) == name
            ]
            is_measured = any(
                measured == name and column not in mark.places
                for mark in self._marks
                for column, measured in mark.axis_of.items()
            ) or any(mark.length_on == name for mark in self._marks)
            if placed and not is_measured and all(self._fits(axis, column, share) for column, share in placed):
                axis.name_positions()

    @staticmethod
    def _fits(axis: Axis, column: Any, share: float) -> bool:
        # Labels are few: a longer column cannot have one for each point, and need not be looked through.
        return len(column) <= shape.MAX_POINTS and axis.fits(column, share)

    def _split_by_color(self, entries: list[tuple[str, str | None]]) -> None:
        """Make a series of each colour that the legend names, where points were drawn all at once: seaborn's `hue`."""
        names = {color[:7]: label for label, color in entries if color is not None}
        split: list[Mark] = []
        for mark in self._marks:
            colors = [color[:7] for color in mark.series.columns.get("colors", ()) if color]
            if (
                mark.series.name
                or mark.series.type == "pie"
                or not colors
                or len(colors) != mark.series.count
                or not set(colors) <= set(names)
            ):
                split.append(mark)
            else:
                split += [mark.part(color, name) for color, name in names.items() if color in colors]
        self._marks = split

    def _name_series(self, entries: list[tuple[str, str | None]]) -> None:
        """Names from the legend: by colour where each has its own, else by order."""
        colors = [color[:7] for _, color in entries if color is not None]
        names = {color[:7]: label for label, color in entries if color is not None and colors.count(color[:7]) == 1}
        unnamed = [mark.series for mark in self._marks if not mark.series.name]
        for series in unnamed:
            series.name = names.get((series.color or "")[:7], "")
        nameless = [series for series in unnamed if not series.name and series.type not in ("pie", "band")]
        if len(nameless) == len(unnamed) == len(entries):
            for series, (label, _) in zip(unnamed, entries, strict=True):
                series.name = label
        if not entries:
            return
        for series in unnamed:
            labels = series.columns.get("labels")
            if series.type == "pie" and labels and not any(labels) and len(labels) == len(entries):
                series.columns["labels"] = [label for label, _ in entries]
