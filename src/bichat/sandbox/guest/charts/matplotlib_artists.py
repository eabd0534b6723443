"""The artists on one of matplotlib's axes, read into marks: what belongs together first, then what is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_areas import read_area, read_spans, settle_areas
from bichat.sandbox.guest.charts.matplotlib_axis import EXACT
from bichat.sandbox.guest.charts.matplotlib_bars import error_ends, read_bars
from bichat.sandbox.guest.charts.matplotlib_boxes import read_boxes
from bichat.sandbox.guest.charts.matplotlib_fields import read_colored, read_image, read_mesh
from bichat.sandbox.guest.charts.matplotlib_marks import (
    Mark,
    axes_branches,
    color_of,
    filled,
    guarded,
    hex_color,
    label_of,
)
from bichat.sandbox.guest.charts.matplotlib_patches import read_patches

#: Artists of one kind on one axes; more than are described.
_MAX_ARTISTS: Final = 5 * shape.MAX_SERIES
#: Fewer lines than a box is made of.
_LINES_OF_A_BOX: Final = 4
_MAX_CELLS: Final = 10_000


class ArtistReader:
    """Reads what an axes shows.  An artist that does not answer becomes a series of type `unknown`."""

    def __init__(self, axes: Any) -> None:
        """`axes` is matplotlib's."""
        self._axes = axes
        self._used: set[int] = set()
        self.marks: list[Mark] = []
        self.references: list[dict[str, Any]] = []
        self.texts: list[str] = []

    def read(self) -> None:
        """Fill the lists."""
        axes = self._axes
        self._each(axes.containers, self._container)
        lines = self._unused(axes.lines)
        if len(lines) >= _LINES_OF_A_BOX:
            self._boxes(lines)
        self._each(axes.lines, self._line)
        self._errors_as_lines()
        self._each(axes.collections, self._collection)
        self.marks = settle_areas(self.marks)
        marks, references = read_patches(self._unused(axes.patches), axes, is_alone=not self.marks)
        self.marks += marks
        self.references += references
        self._each(axes.images, self._image)
        self._each(getattr(axes, "tables", ()), self._table)
        self._each(axes.texts, self._text)
        self.marks = _without_heads(self.marks)

    def _unused(self, artists: Iterable[Any]) -> list[Any]:
        return [
            artist
            for artist in islice(artists, _MAX_ARTISTS)
            if id(artist) not in self._used and guarded(artist.get_visible)
        ]

    def _each(self, artists: Iterable[Any], read: Callable[[Any], None]) -> None:
        for artist in islice(artists, _MAX_ARTISTS):
            if id(artist) in self._used:
                continue
            try:
                read(artist)
            except Exception:  # noqa: BLE001  # one artist that cannot be read must not cost the chart
                self._unknown(artist)

    def _unknown(self, artist: Any) -> None:
        kind = shape.text(type(artist).__name__)
        self.marks.append(Mark(series=Series(type="unknown", extra={"kind": kind})))

    def _use(self, artists: Iterable[Any]) -> None:
        self._used.update(map(id, artists))

    # -------------------------------------------------------------------------------------------------- containers

    def _container(self, container: Any) -> None:
        kind = type(container).__name__
        if kind == "BarContainer":
            self._use(container)
            if all(patch.get_visible() for patch in islice(container, 1)):
                self._add(read_bars(container))
        elif kind == "ErrorbarContainer":
            self._errorbar(container)
        elif kind == "StemContainer":
            self._use([container.markerline, container.stemlines, container.baseline])
            mark = self._points(container.markerline, "stem", label_of(container))
            base = filled(container.baseline.get_ydata(orig=False))
            if base.any():
                mark.series.extra["base"] = float(base[0])
            self._add(mark)

    def _errorbar(self, container: Any) -> None:
        line, caps, bars = container.lines
        self._use([*([] if line is None else [line]), *caps, *bars])
        if line is None:
            if not any(getattr(other, "errorbar", None) is container for other in self._axes.containers):
                for bar in bars:
                    self._add(
                        self._ranges(filled([path.vertices for path in bar.get_paths()]), bar, label_of(container))
                    )
            return
        mark = self._points(line, _type_of(line), label_of(container))
        for axis, (low, high) in error_ends(container, mark.series.count).items():
            for side, values in (("low", low), ("high", high)):
                mark.series.columns[f"{axis}_{side}"] = values
                mark.axis_of[f"{axis}_{side}"] = axis
        self._add(mark)

    def _add(self, mark: Mark | None) -> None:
        if mark is not None and mark.series.count:
            self.marks.append(mark)

    # ------------------------------------------------------------------------------------------------------- lines

    def _boxes(self, lines: list[Any]) -> None:
        marks, used = read_boxes(lines, self._unused(self._axes.patches))
        self.marks += marks
        self._use(used)

    def _line(self, line: Any) -> None:
        if not line.get_visible():
            return
        if hasattr(line, "get_slope"):
            self._sloping(line)
            return
        branches = axes_branches(line, self._axes)
        if branches == (True, True):
            mark = self._points(line, _type_of(line), label_of(line))
            if line.get_drawstyle().startswith("steps"):
                mark.series.extra["step"] = line.get_drawstyle().removeprefix("steps").removeprefix("-") or "pre"
            self._add(mark)
        elif True in branches:
            axis = "xy"[branches.index(True)]
            value = filled(line.get_xdata(orig=False) if axis == "x" else line.get_ydata(orig=False))
            self.references.append(_named({"axis": axis, "value": float(value[0])}, line))

    def _sloping(self, line: Any) -> None:
        x, y = line.get_xy1()
        reference: dict[str, Any] = {"axis": "both", "through": [float(x), float(y)]}
        if line.get_slope() is not None:
            reference["slope"] = float(line.get_slope())
        else:
            reference["to"] = [float(place) for place in line.get_xy2()]
        self.references.append(_named(reference, line))

    def _points(self, line: Any, kind: str, name: str) -> Mark:
        if hasattr(line, "get_data_3d"):
            x, y, z = (filled(values) for values in line.get_data_3d())
            columns = {"x": x, "y": y, "z": z}
        else:
            columns = {"x": filled(line.get_xdata(orig=False)), "y": filled(line.get_ydata(orig=False))}
        series = Series(type=kind, name=name, color=hex_color(line.get_color()), columns=columns)
        return Mark(series=series, axis_of={"x": "x", "y": "y"}, places={"x": EXACT, "y": EXACT})

    def _errors_as_lines(self) -> None:
        """Give unnamed strokes, one at each of a mark's points, to that mark: error bars as seaborn draws them."""
        strokes = [(mark, ends) for mark in self.marks if (ends := _stroke(mark)) is not None]
        if not strokes:
            return
        for mark in [mark for mark in self.marks if mark.series.type in ("bar", "barh", "line", "scatter")]:
            along, across = ("y", "x") if mark.series.type == "barh" else ("x", "y")
            own = [(stroke, ends) for stroke, ends in strokes if stroke is not mark and ends[0] == along]
            at = {round(ends[1], 9): (stroke, ends) for stroke, ends in own}
            found = [at.get(round(float(place), 9)) for place in islice(mark.series.columns[along], len(at) + 1)]
            known = [one for one in found if one is not None]
            if len(known) != len(found) or len(found) != mark.series.count:
                continue
            numpy = sys.modules["numpy"]
            for number, side in ((2, "low"), (3, "high")):
                mark.series.columns[f"{across}_{side}"] = numpy.array([ends[number] for _, ends in known])
                mark.axis_of[f"{across}_{side}"] = across
            gone = {id(stroke) for stroke, _ in known}
            self.marks = [other for other in self.marks if id(other) not in gone]
            strokes = [(stroke, ends) for stroke, ends in strokes if id(stroke) not in gone]

    # ------------------------------------------------------------------------------------------------- collections

    def _collection(self, collection: Any) -> None:
        if not collection.get_visible():
            return
        kinds = {kind.__name__ for kind in type(collection).__mro__}
        if "LineCollection" in kinds and "EventCollection" not in kinds:
            if axes_branches(collection, self._axes) == (True, True):
                self._strokes(collection)
        elif "QuadMesh" in kinds:
            self.marks.append(read_mesh(collection))
        elif "PathCollection" in kinds and not any("3D" in kind for kind in kinds):
            self._add(read_colored(collection, "scatter"))
        elif "PolyCollection" in kinds and collection.get_array() is not None:
            self._add(read_colored(collection, "hexbin"))
        elif "PolyCollection" in kinds and (area := read_area(collection) or read_spans(collection)) is not None:
            self._add(area)
        else:
            self._unknown(collection)

    def _strokes(self, collection: Any) -> None:
        """Lines that `hlines` and `vlines` draw."""
        if any(mark.series.type == "violin" for mark in self.marks):
            return
        paths = [path.vertices for path in islice(collection.get_paths(), _MAX_CELLS)]
        if not paths:
            return
        if any(len(vertices) != 2 for vertices in paths):
            self._unknown(collection)
            return
        ends = filled(paths)
        self._add(self._ranges(ends, collection, label_of(collection)))

    def _ranges(self, ends: Any, collection: Any, name: str) -> Mark | None:
        """Strokes between two points each: upright or lying ones are ranges, or stems if they start at one value.

        Those that begin and end as one are references.
        """
        numpy = sys.modules["numpy"]
        upright, lying = (ends[:, 0, axis] == ends[:, 1, axis] for axis in (0, 1))
        if not upright.all() and not lying.all():
            raise ValueError("lines in all directions are not told apart")
        along, across = ("x", "y") if upright.all() else ("y", "x")
        place, value = ("xy".index(axis) for axis in (along, across))
        low, high = ends[:, 0, value], ends[:, 1, value]
        color = hex_color(collection.get_color())
        if len(numpy.unique(low)) == len(numpy.unique(high)) == 1:
            for at in islice(ends[:, 0, place], shape.MAX_LABELS):
                self.references.append(_named({"axis": along, "value": float(at)}, collection))
            return None
        extra: dict[str, Any] = {"orientation": "vertical" if along == "x" else "horizontal"}
        if len(numpy.unique(low)) == 1:
            extra |= {"base": float(low[0])} if low[0] else {}
            series = Series(
                type="stem", name=name, color=color, columns={along: ends[:, 0, place], across: high}, extra=extra
            )
            return Mark(series=series, axis_of={"x": "x", "y": "y"}, places={along: EXACT})
        columns = {along: ends[:, 0, place], f"{across}_low": low, f"{across}_high": high}
        series = Series(type="range", name=name, color=color, columns=columns, extra=extra)
        return Mark(series=series, axis_of={column: column[0] for column in columns}, places={along: EXACT})

    # -------------------------------------------------------------------------------------------------------- rest

    def _image(self, image: Any) -> None:
        if image.get_visible():
            self.marks.append(read_image(image))

    def _table(self, table: Any) -> None:
        cells = {place: cell.get_text().get_text() for place, cell in islice(table.get_celld().items(), _MAX_CELLS)}
        rows = sorted({row for row, _ in cells})
        columns = sorted({column for _, column in cells})
        values = [[shape.text(cells.get((row, column), "")) for column in columns] for row in rows]
        self._add(Mark(series=Series(type="table", columns={"rows": values})))

    def _text(self, text: Any) -> None:
        shown = text.get_text().strip()
        if shown and text.get_visible():
            self.texts.append(shown)


def _without_heads(marks: list[Mark]) -> list[Mark]:
    """The same marks without the points that are the heads of stems: a lollipop is one series."""
    numpy = sys.modules["numpy"]
    stems = [mark for mark in marks if mark.series.type == "stem"]

    def is_head(mark: Mark) -> bool:
        if mark.series.type != "scatter" or mark.series.name:
            return False
        columns = mark.series.columns
        return any(
            all(numpy.array_equal(columns[axis], stem.series.columns[axis]) for axis in ("x", "y")) for stem in stems
        )

    return [mark for mark in marks if not is_head(mark)]


def _type_of(line: Any) -> str:
    if str(line.get_linestyle()) in ("None", " ", "") and str(line.get_marker()) not in ("None", " ", ""):
        return "scatter"
    return "step" if line.get_drawstyle().startswith("steps") else "line"


def _named(reference: dict[str, Any], artist: Any) -> dict[str, Any]:
    named = {**reference, "name": shape.text(label_of(artist))}
    color = color_of(artist)
    return {**named, "color": color} if color else named


def _stroke(mark: Mark) -> tuple[str, float, float, float] | None:
    """Of an unnamed line that goes straight along one axis: the other axis, where it is there, and its ends.

    One with caps is drawn as three strokes, the second of which is the bar.
    """
    if mark.series.type != "line" or mark.series.name or mark.series.count not in (2, 8):
        return None
    middle = slice(None) if mark.series.count == 2 else slice(3, 5)
    for along, across in (("x", "y"), ("y", "x")):
        at, value = mark.series.columns[along][middle], mark.series.columns[across][middle]
        if at[0] == at[1]:
            return along, float(at[0]), float(value[0]), float(value[1])
    return None
