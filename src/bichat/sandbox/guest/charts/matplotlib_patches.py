"""Patches in matplotlib that no bar plot holds together: the wedges of a pie, outlines of histograms, marked regions."""

from __future__ import annotations

import sys
from typing import Any

from bichat.sandbox.guest.charts import shape
from bichat.sandbox.guest.charts.chart import Series
from bichat.sandbox.guest.charts.matplotlib_bars import make_histogram
from bichat.sandbox.guest.charts.matplotlib_marks import Mark, axes_branches, color_of, filled, guarded, label_of


def read_patches(patches: list[Any], axes: Any, *, is_alone: bool) -> tuple[list[Mark], list[dict[str, Any]]]:
    """The series and the regions among `patches`; decoration is passed over unless the axes shows nothing else."""
    marks: list[Mark] = []
    references: list[dict[str, Any]] = []
    others: list[Any] = []
    wedges: dict[Any, list[Any]] = {}
    for patch in patches:
        kind = type(patch).__name__
        if kind == "Wedge":
            wedges.setdefault((patch.r, patch.width), []).append(patch)
        elif (reference := guarded(_region, patch, axes)) is not None:
            references.append(reference)
        elif (mark := guarded(_outline, patch)) is not None:
            marks.append(mark)
        elif kind != "Rectangle" or patch.get_width() or patch.get_height():
            others.append(patch)
    marks += [_pie(group, others) for group in wedges.values()]
    if is_alone and not marks:
        for kind in dict.fromkeys(type(patch).__name__ for patch in others):
            count = sum(type(patch).__name__ == kind for patch in others)
            marks.append(Mark(series=Series(type="unknown", extra={"kind": shape.text(kind)}, count=count)))
    return marks, references


def _region(patch: Any, axes: Any) -> dict[str, Any] | None:
    """What `axhspan` and `axvspan` mark."""
    branches = axes_branches(patch, axes)
    if branches not in ((True, False), (False, True)):
        return None
    axis = branches.index(True)
    if hasattr(patch, "get_width"):
        start, length = ((patch.get_x(), patch.get_width()), (patch.get_y(), patch.get_height()))[axis]
        low, high = sorted((start, start + length))
    else:  # a polygon, before matplotlib 3.9
        places = filled(patch.get_xy())[:, axis]
        low, high = places.min(), places.max()
    reference = {"axis": "xy"[axis], "from": float(low), "to": float(high), "name": shape.text(label_of(patch))}
    color = color_of(patch)
    return {**reference, "color": color} if color else reference


def _pie(wedges: list[Any], others: list[Any]) -> Mark:
    """The shares of a ring of wedges.  matplotlib keeps no values: a share is all that can be known."""
    shares = [shape.tidy((wedge.theta2 - wedge.theta1) / 360) for wedge in wedges]
    columns = {
        "labels": [label_of(wedge) for wedge in wedges],
        "values": shares,
        "colors": [color_of(wedge) for wedge in wedges],
    }
    extra: dict[str, Any] = {"shares": True}
    radius, width = wedges[0].r, wedges[0].width
    hole = 1 - width / radius if width is not None else _white_circle(wedges[0], others) / radius
    if hole > 0:
        extra["hole"] = shape.tidy(hole)
    return Mark(series=Series(type="pie", columns=columns, extra=extra))


def _white_circle(wedge: Any, others: list[Any]) -> float:
    """The radius of a white circle around the same centre: how a hole is often drawn."""
    for patch in others:
        is_circle = type(patch).__name__ == "Circle" and tuple(patch.get_center()) == tuple(wedge.center)
        if is_circle and color_of(patch) == "#ffffff" and patch.get_radius() < wedge.r:
            return float(patch.get_radius())
    return 0.0


def _outline(patch: Any) -> Mark | None:
    """The histogram that `stairs` draws as a step patch, or `hist` as a polygon."""
    kind = type(patch).__name__
    if kind == "StepPatch":
        values, edges, baseline = patch.get_data()
        along = "x" if patch.orientation == "vertical" else "y"
        mark = _histogram(patch)
        make_histogram(mark, edges, filled(values), along, _bases(baseline, len(values)))
        return mark
    if kind != "Polygon":
        return None
    vertices = filled(patch.get_xy())
    if patch.get_fill():
        vertices = vertices[:-1]
    for along, flipped in (("x", vertices), ("y", vertices[:, ::-1])):
        steps = _steps(flipped, is_filled=bool(patch.get_fill()))
        if steps is not None:
            mark = _histogram(patch)
            edges, tops, bases = steps
            counts = tops if bases is None else sys.modules["numpy"].array(shape.tidy_values(tops - bases))
            make_histogram(mark, edges, counts, along, bases)
            return mark
    return None


def _histogram(patch: Any) -> Mark:
    return Mark(series=Series(type="histogram", name=label_of(patch), color=color_of(patch)))


def _bases(baseline: Any, count: int) -> Any:
    numpy = sys.modules["numpy"]
    if baseline is None:
        return None
    bases = numpy.broadcast_to(filled(baseline), (count,))
    return bases if bases.any() else None


def _steps(vertices: Any, *, is_filled: bool) -> tuple[Any, Any, Any] | None:
    """Edges, tops and bases of an outline that goes up and across in turn; None of any other polygon."""
    numpy = sys.modules["numpy"]
    count = (len(vertices) + 4) // 4 if is_filled else len(vertices) // 2
    if count < 2 or len(vertices) != (4 * count - 4 if is_filled else 2 * count):
        return None
    x, y = vertices[: 2 * count, 0], vertices[: 2 * count, 1]
    upright = numpy.array_equal(x[0:-1:2], x[1::2][: len(x[0:-1:2])])
    edges, tops = x[0 : 2 * count - 1 : 2], y[1 : 2 * count - 2 : 2]
    if not upright or not numpy.array_equal(tops, y[2 : 2 * count - 1 : 2]) or not (numpy.diff(edges) > 0).all():
        return None
    if not is_filled:
        return edges, tops, None
    bases = vertices[2 * count - 1 :: 2, 1][::-1]
    return (edges, tops, bases if bases.any() else None) if len(bases) == len(tops) else None
