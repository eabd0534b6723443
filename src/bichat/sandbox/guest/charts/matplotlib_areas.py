"""Areas between two curves in matplotlib: under a line, one upon the other, around a line, or a violin."""

from __future__ import annotations

import sys
from typing import Any, Final

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_axis import EXACT, NEAR
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, color_of, filled, label_of

#: Points that a violin's outline keeps.
_MAX_OUTLINE: Final = 200


def read_area(collection: Any) -> Mark | None:
    """The area that `fill_between` has drawn, as a band between two curves; None of other polygons."""
    numpy = sys.modules["numpy"]
    paths = [filled(path.vertices) for path in collection.get_paths()]
    direction = getattr(collection, "t_direction", None)
    for along in [direction] if direction else ["x", "y"]:
        pieces = [_curves(vertices, along) for vertices in paths]
        known = [piece for piece in pieces if piece is not None]
        if not known or len(known) < len(pieces):
            continue
        gap = numpy.full((3, 1), numpy.nan)
        joined = numpy.concatenate([part for piece in known for part in (piece, gap)][:-1], axis=1)
        across = "y" if along == "x" else "x"
        columns = {along: joined[0], f"{across}_low": joined[1], f"{across}_high": joined[2]}
        extra = {"orientation": "vertical" if along == "x" else "horizontal"}
        series = Series(
            type="band", name=label_of(collection), color=color_of(collection), columns=columns, extra=extra
        )
        return Mark(series=series, axis_of={column: column[0] for column in columns}, places={along: EXACT})
    return None


def _curves(vertices: Any, along: str) -> Any:
    """The places and the two curves of one polygon: there along the first, and back along the second."""
    numpy = sys.modules["numpy"]
    count = (len(vertices) - 3) // 2
    if count < 1 or len(vertices) != 2 * count + 3:
        return None
    place, value = (0, 1) if along == "x" else (1, 0)
    there, back = vertices[1 : count + 1], vertices[count + 2 : 2 * count + 2][::-1]
    if not numpy.array_equal(there[:, place], back[:, place], equal_nan=True):
        return None
    return numpy.stack([there[:, place], there[:, value], back[:, value]])


def read_spans(collection: Any) -> Mark | None:
    """The bars of `broken_barh`: from place to place, all of one height; None of other polygons."""
    numpy = sys.modules["numpy"]
    paths = [filled(path.vertices) for path in collection.get_paths()]
    low, high = (numpy.array([getattr(path, end)(axis=0) for path in paths]) for end in ("min", "max"))
    if any(len(path) != 5 or len(numpy.unique(path, axis=0)) != 4 for path in paths):
        return None
    if not (numpy.ptp(low[:, 1]) == numpy.ptp(high[:, 1]) == 0):
        return None
    columns = {"y": (low[:, 1] + high[:, 1]) / 2, "x_low": low[:, 0], "x_high": high[:, 0]}
    series = Series(
        type="range",
        name=label_of(collection),
        color=color_of(collection),
        columns=columns,
        extra={"orientation": "horizontal"},
    )
    return Mark(series=series, axis_of={column: column[0] for column in columns}, places={"y": NEAR})


def settle_areas(marks: list[Mark]) -> list[Mark]:
    """The same marks, each band as what it is among the others."""
    bands = [mark for mark in marks if mark.series.type == "band"]
    if not bands:
        return marks
    lines = [mark for mark in marks if mark.series.type in ("line", "step")]
    gone: set[int] = set()
    tops: list[tuple[Any, Any]] = []
    for mark in bands:
        if _is_violin(mark):
            continue
        edges = _as_area(mark, tops)
        if edges is not None:
            tops.append(edges)
        line = _line_of(mark, lines, edges)
        if line is not None:
            mark.series.name = mark.series.name or line.series.name
            if edges is not None:
                gone.add(id(line))
    return _violins([mark for mark in marks if id(mark) not in gone])


def _axes_of(mark: Mark) -> tuple[str, str]:
    return ("x", "y") if mark.series.extra["orientation"] == "vertical" else ("y", "x")


def _as_area(mark: Mark, tops: list[tuple[Any, Any]]) -> tuple[Any, Any] | None:
    """Make `mark` an area if one of its curves is zero or the edge of another; its places and outer curve."""
    numpy = sys.modules["numpy"]
    along, across = _axes_of(mark)
    columns = mark.series.columns
    place, one, other = columns[along], columns[f"{across}_low"], columns[f"{across}_high"]
    for base, outer in ((one, other), (other, one)):
        is_zero = not numpy.nan_to_num(base).any()
        if is_zero or any(_equal(place, known) and _equal(base, top) for known, top in tops):
            mark.series.type = "area"
            mark.length_on = across
            value = outer if is_zero else numpy.array(shape.tidy_values(outer - base))
            mark.series.columns = {along: place, across: value} | ({} if is_zero else {"base": base})
            mark.axis_of = {along: along, "base": across}
            if is_zero:
                del mark.axis_of["base"]
            return place, outer
    mark.series.columns[f"{across}_low"] = numpy.fmin(one, other)
    mark.series.columns[f"{across}_high"] = numpy.fmax(one, other)
    return None


def _equal(one: Any, other: Any) -> bool:
    numpy = sys.modules["numpy"]
    return len(one) == len(other) and numpy.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)


def _line_of(mark: Mark, lines: list[Mark], edges: tuple[Any, Any] | None) -> Mark | None:
    """The line that an area is filled under, or that an unnamed band goes with: one of its colour."""
    along, across = _axes_of(mark)
    for line in lines:
        if (line.series.color or "")[:7] != (mark.series.color or "")[:7]:
            continue
        if edges is not None:
            place, outer = edges
            is_own = _equal(line.series.columns[along], place) and _equal(line.series.columns[across], outer)
            if is_own and (not line.series.name or mark.series.name in ("", line.series.name)):
                return line
        elif not mark.series.name:
            return line
    return None


# ------------------------------------------------------------------------------------------------------ violins


def _is_violin(mark: Mark) -> bool:
    """Whether the two curves are one and its mirror image: the outline of a violin."""
    numpy = sys.modules["numpy"]
    _, across = _axes_of(mark)
    low, high = mark.series.columns[f"{across}_low"], mark.series.columns[f"{across}_high"]
    middle = (low + high) / 2
    if mark.series.name or len(middle) < 3 or not numpy.isfinite(middle).all() or numpy.allclose(low, low[0]):
        return False
    is_violin = (
        bool(numpy.allclose(middle, middle[0], rtol=1e-9, atol=1e-9))
        and mark.series.extra["orientation"] == "horizontal"
    )
    is_lying = (
        bool(numpy.allclose(middle, middle[0], rtol=1e-9, atol=1e-9)) and mark.series.extra["orientation"] == "vertical"
    )
    if is_violin or is_lying:
        mark.series.type = "violin"
    return is_violin or is_lying


def _is_inside(mark: Mark) -> bool:
    """Whether a mark is what is drawn into violins: quartiles, extremes, a median."""
    series = mark.series
    return not series.name and (
        series.type in ("range", "stem") or (series.type in ("line", "scatter") and series.count <= 2)
    )


def _violins(marks: list[Mark]) -> list[Mark]:
    """The same marks, with the violins of each direction as one series."""
    numpy = sys.modules["numpy"]
    rest = [mark for mark in marks if mark.series.type != "violin"]
    if len(rest) < len(marks):
        rest = [mark for mark in rest if not _is_inside(mark)]
    for orientation in ("vertical", "horizontal"):
        violins = [
            mark for mark in marks if mark.series.type == "violin" and mark.series.extra["orientation"] == orientation
        ]
        if not violins:
            continue
        # A violin stands upright where its outline is filled sideways.
        along, across = _axes_of(violins[0])
        columns: dict[str, Any] = {across: [], "low": [], "high": [], "at": [], "density": []}
        for mark in violins:
            at, low, high = (mark.series.columns[name] for name in (along, f"{across}_low", f"{across}_high"))
            kept = numpy.unique(numpy.linspace(0, len(at) - 1, min(len(at), _MAX_OUTLINE)).round().astype(int))
            columns[across].append(shape.tidy((low[0] + high[0]) / 2))
            columns["low"].append(at.min())
            columns["high"].append(at.max())
            columns["at"].append(at[kept])
            columns["density"].append(shape.tidy_values(numpy.abs(high - low)[kept] / 2))
        columns[across] = numpy.array(columns[across])
        colors = [mark.series.color for mark in violins]
        extra: dict[str, Any] = {"orientation": "vertical" if across == "x" else "horizontal"}
        color = colors[0] if len(set(colors)) == 1 else None
        if color is None:
            columns["colors"] = colors
        series = Series(type="violin", color=color, columns=columns, extra=extra)
        rest.append(Mark(series=series, axis_of={across: across}, places={across: NEAR}, length_on=along))
    return rest
