"""Charts that are too large, and objects made to break whoever reads them: bounded, or None; never an exception."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bichat.sandbox.guest.charts import describe, shape

PREAMBLE = """
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.figure import Figure
from matplotlib.axes import Axes
figure, axes = plt.subplots()
"""

CASES: dict[str, str] = {
    # ------------------------------------------------------------------------------------------------------- bounds
    "ten million points": "axes.plot(np.arange(10_000_000.0))",
    "a million points in plotly": """
import plotly.graph_objects as go
chart = go.Figure(go.Scattergl(x=np.arange(1_000_000), y=np.arange(1_000_000.0)))
""",
    "a million values to count in plotly": """
import plotly.graph_objects as go
chart = go.Figure(go.Histogram(x=np.arange(1_000_000.0)))
""",
    "many rows in altair": """
import altair as alt, pandas as pd
alt.data_transformers.disable_max_rows()
chart = alt.Chart(pd.DataFrame({"a": np.arange(100_000)})).mark_point().encode(x="a", y="a")
""",
    "a million points to scatter": "axes.scatter(np.arange(1e6), np.arange(1e6), c=np.arange(1e6))",
    "fifteen hundred bars": "axes.bar(np.arange(1500) * 2, 1)",
    "many bins": "axes.hist(np.arange(100_000), bins=2000)",
    "four million cells": "axes.imshow(np.arange(4_000_000.0).reshape(2000, 2000))",
    "many outliers": "axes.boxplot([np.r_[np.zeros(100_000), np.arange(1, 5001)]])",
    "three hundred lines": "[axes.plot([0, 1], [i, i]) for i in range(300)]",
    "sixty axes": "[figure.add_axes([0, 0, 0.1, 0.1], label=str(i)).plot([i]) for i in range(60)]",
    "long texts": """
axes.set_title("t" * 5000); axes.set_xlabel("x" * 10_000_000)
axes.bar([str(i) * 500 for i in range(300)], 1, label="n" * 5000)
[axes.text(0, 0, "w" * 5000) for _ in range(300)]
""",
    "long names in every series": """
import plotly.graph_objects as go
names = ["é" * 150 + str(i) for i in range(1000)]
chart = go.Figure([go.Bar(x=names, y=[1] * 1000, name=str(i)) for i in range(50)])
""",
    # ----------------------------------------------------------------------------------------------------- attacks
    "a line whose data raise": """
class Raising(Line2D):
    def get_xdata(self, orig=True): raise RuntimeError("no")
axes.plot([1, 2], [3, 4])
axes.add_line(Raising([1, 2], [3, 4]))
""",
    "a collection that raises": """
from matplotlib.collections import PathCollection
class Raising(PathCollection):
    def get_offsets(self): raise SystemError("no")
axes.bar(["a"], [1])
axes.add_collection(Raising([]))
""",
    "a label that loops": """
class Looping(Line2D):
    armed = False
    def get_label(self): return self.get_label() if self.armed else "l"
line = axes.add_line(Looping([1, 2], [3, 4]))
line.armed = True
""",
    "a figure whose axes raise": """
class Raising(Figure):
    @property
    def axes(self): raise ValueError("no")
chart = figure
chart.__class__ = Raising
""",
    "a figure with endless axes": """
import itertools
class Endless(Figure):
    axes = property(lambda self: itertools.repeat(made))
made = axes
axes.plot([1, 2], [3, 4])
chart = figure
chart.__class__ = Endless
""",
    "a figure that is itself its every attribute": """
class Mirror:
    def __getattr__(self, name): return self
    def __call__(self, *args, **kwargs): return self
    def __iter__(self): return iter([self])
Base = type("FigureBase", (Mirror,), {"__module__": "matplotlib.figure"})
chart = Base()
""",
    "a text that is none": """
class Text(str):
    def __str__(self): return self
    def __len__(self): raise RuntimeError("no")
line, = axes.plot([1, 2], [3, 4])
line.get_label = lambda: Text("t")
""",
    "data without a number": """
axes.plot([1, 2], [3, 4])
axes.lines[0].get_ydata = lambda orig=True: np.array([object(), None], object)
""",
    "a formatter of the code's own": """
facts = []
axes.plot([1, 2], [3, 4])
axes.xaxis.set_major_formatter(lambda value, position: facts.append(value) or "x")
""",
    "a plotly figure with nonsense in it": """
chart = {
    "data": [
        {"type": "bar", "x": {"bdata": "!", "dtype": "f8"}},
        {"type": "histogram", "x": [None, "a"]},
        {"type": "box", "y": "text"},
        {"type": "heatmap", "z": 5},
        {"type": ["list"], "x": [[1], 2]},
        {"type": "pie", "labels": None},
        {"y": [1, 2]},
    ],
    "layout": {"title": 5, "shapes": [None, 3], "annotations": "text", "xaxis": [], "colorway": ["red"]},
}
""",
    "a mapping that only looks like a figure": "chart = {'data': {'a': 1}, 'layout': 3}",
    "Vega-Lite with nonsense in it": """
chart = {"$schema": "vega-lite", "data": {"values": [1, {"a": {}}]}, "mark": [], "encoding": {"x": {"field": 3}, "y": {"aggregate": {"argmax": "b"}}}}
""",
    "Vega-Lite that holds itself": """
chart = {"$schema": "vega-lite"}
chart["hconcat"] = [chart, chart]
""",
    "Vega-Lite with layers within layers": """
chart = {"mark": "bar"}
for _ in range(500): chart = {"layer": [chart]}
chart["$schema"] = "vega-lite"
""",
    "a mapping that raises": """
from collections.abc import Mapping
class Raising(Mapping):
    def __getitem__(self, key): raise RuntimeError("no")
    def __iter__(self): raise RuntimeError("no")
    def __len__(self): raise RuntimeError("no")
chart = Raising()
""",
    "no chart": "chart = object()",
    "an interrupt": """
class Interrupting(Figure):
    @property
    def axes(self): raise KeyboardInterrupt
from bichat.sandbox.guest.charts import describe
figure.__class__ = Interrupting
try:
    describe(figure)
except KeyboardInterrupt:
    facts = "raised"
chart = None
""",
}


@pytest.mark.parametrize("case", CASES)
def test_a_description_is_within_its_bounds(case: str, reports: Mapping[str, Any]):
    chart = reports[case]["chart"] or {"axes": []}

    assert len(reports[case]["json"]) <= shape.MAX_BYTES
    assert len(chart["axes"]) <= shape.MAX_AXES
    assert sum(len(axes["series"]) for axes in chart["axes"]) <= shape.MAX_SERIES
    assert max(map(len, _texts(chart)), default=0) <= shape.MAX_TEXT + 1
    assert max((len(values) for values in _lists(chart)), default=0) <= shape.MAX_POINTS + 1


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _texts(child)]


def _lists(value: Any) -> list[list[Any]]:
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if isinstance(value, list) else []) + [found for child in children for found in _lists(child)]


def _only(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one series of a chart."""
    [axes] = report["chart"]["axes"]
    [series] = axes["series"]
    return series


@pytest.mark.parametrize(
    "case, count",
    [
        ("ten million points", 10_000_000),
        ("a million points in plotly", 1_000_000),
        ("a million points to scatter", 1_000_000),
    ],
)
def test_too_many_points_are_thinned_evenly(case: str, count: int, reports: Mapping[str, Any]):
    series = _only(reports[case])

    assert reports[case]["chart"]["truncated"]
    assert (series["count"], series["truncated"], len(series["x"])) == (count, True, shape.MAX_POINTS)
    assert (series["x"][0], series["x"][-1]) == (0, count - 1)
    assert {round(high - low, -1) for low, high in zip(series["x"], series["x"][1:], strict=False)} == {
        round(count / 999, -1)
    }


@pytest.mark.parametrize(
    "case, count", [("many rows in altair", 100_000), ("a million values to count in plotly", 1_000_000)]
)
def test_too_many_rows_are_counted_only(case: str, count: int, reports: Mapping[str, Any]):
    series = _only(reports[case])

    assert (series["count"], series["truncated"]) == (count, True)
    assert "edges" not in series


def test_of_too_many_bars_and_bins_the_true_count_is_told(reports: Mapping[str, Any]):
    bars, bins = _only(reports["fifteen hundred bars"]), _only(reports["many bins"])

    assert (bars["type"], bars["count"], len(bars["y"])) == ("bar", 1500, shape.MAX_POINTS)
    assert (bins["type"], bins["count"], len(bins["counts"]), len(bins["edges"])) == ("histogram", 2000, 1000, 1001)
    assert bins["edges"][0] == 0.0


def test_of_too_many_cells_rows_and_columns_are_kept(reports: Mapping[str, Any]):
    series = _only(reports["four million cells"])

    assert (series["count"], series["shape"], series["truncated"]) == (4_000_000, [2000, 2000], True)
    assert (len(series["values"]), len(series["values"][0])) == (63, 63)


def test_of_too_many_outliers_the_true_count_is_told(reports: Mapping[str, Any]):
    series = _only(reports["many outliers"])

    assert (series["outlier_counts"], len(series["outliers"][0])) == ([5000], shape.MAX_OUTLIERS)
    assert series["truncated"]


def test_of_too_many_series_and_axes_the_true_counts_are_told(reports: Mapping[str, Any]):
    lines, axes = reports["three hundred lines"]["chart"], reports["sixty axes"]["chart"]

    assert (lines["axes"][0]["series_count"], len(lines["axes"][0]["series"]), lines["truncated"]) == (300, 200, True)
    assert (axes["axes_count"], len(axes["axes"]), axes["truncated"]) == (61, 50, True)


def test_long_names_cost_values_not_names(reports: Mapping[str, Any]):
    chart = reports["long names in every series"]["chart"]

    assert chart["truncated"]
    assert [series["name"] for series in chart["axes"][0]["series"]] == [str(number) for number in range(50)]


@pytest.mark.parametrize("case", ["a line whose data raise", "a collection that raises", "a label that loops"])
def test_an_artist_that_cannot_be_read_is_unknown(case: str, reports: Mapping[str, Any]):
    kinds = [series["type"] for series in reports[case]["chart"]["axes"][0]["series"]]

    assert kinds.count("unknown") == 1


@pytest.mark.parametrize(
    "case",
    [
        "a figure whose axes raise",
        "a mapping that only looks like a figure",
        "a mapping that raises",
        "no chart",
    ],
)
def test_what_cannot_be_read_is_none(case: str, reports: Mapping[str, Any]):
    assert reports[case]["chart"] is None


def test_a_formatter_of_the_code_is_not_called(reports: Mapping[str, Any]):
    assert reports["a formatter of the code's own"]["facts"] == []
    assert reports["a formatter of the code's own"]["chart"]["type"] == "line"


def test_nonsense_in_a_plotly_figure_costs_only_itself(reports: Mapping[str, Any]):
    chart = reports["a plotly figure with nonsense in it"]["chart"]

    assert chart["axes"][0]["series"][-1]["y"] == [1, 2]


def test_an_interrupt_passes(reports: Mapping[str, Any]):
    assert reports["an interrupt"]["facts"] == "raised"


@pytest.mark.parametrize("value", [None, 5, "figure", {}, {"data": 1}, {"data": [], "layout": None}, [1, 2]])
def test_a_value_that_is_no_chart_is_none(value: Any):
    assert describe(value) is None
