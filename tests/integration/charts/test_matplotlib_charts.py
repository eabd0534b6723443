"""Figures of matplotlib, and of pandas and seaborn, which draw with it: exact numbers, and what tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

_FRAME = """
import numpy as np, pandas as pd
df = pd.DataFrame({"r": ["a", "b", "c", "a", "b", "c"], "c": ["x", "x", "x", "y", "y", "y"], "v": [1.0, 2, 3, 4, 5, 6]})
dates = pd.Series([1.0, 2.0, 4.0], index=pd.to_datetime(["2024-01-31", "2024-02-29", "2024-03-31"]), name="v")
"""
_SEABORN = f"{_FRAME}\nimport seaborn as sns\n"


def _series(*series: dict[str, Any], **axes: Any) -> dict[str, Any]:
    """What is expected of a chart with one axes: its series, and what else is said of the axes."""
    return {"axes": [{"series": list(series), **axes}]}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # ------------------------------------------------------------------------------------------------------- bars
    "bars at names": (
        "plt.bar(['North', 'South'], [1.5, 2]); plt.title('Sales'); plt.xlabel('Region'); plt.ylabel('Amount (EUR)')",
        {
            "library": "matplotlib",
            "type": "bar",
            "title": "Sales",
            "axes_count": 1,
            "truncated": False,
            "axes": [
                {
                    "type": "bar",
                    "x": {"label": "Region", "scale": "category", "categories": ["North", "South"]},
                    "y": {"label": "Amount (EUR)", "scale": "linear", "unit": "EUR", "limits": [0.0, 2.1]},
                    "series": [
                        {
                            "type": "bar",
                            "name": "",
                            "color": "#1f77b4",
                            "x": ["North", "South"],
                            "y": [1.5, 2.0],
                            "count": 2,
                            "truncated": False,
                        }
                    ],
                    "references": [],
                }
            ],
        },
    ),
    "bars at numbers": (
        "plt.bar([2020, 2021], [3, 4], width=0.5)",
        _series(
            {"type": "bar", "x": [2020.0, 2021.0], "y": [3.0, 4.0]},
            x={"label": "", "scale": "linear", "limits": [2019.675, 2021.325]},
        ),
    ),
    "grouped bars stand at the names of their ticks": (
        """
import numpy as np
x = np.arange(3)
plt.bar(x - 0.2, [1, 2, 3], 0.4, label="A")
plt.bar(x + 0.2, [3, 4, 5], 0.4, label="B")
plt.xticks(x, ["p", "q", "r"])
plt.legend(title="Team")
""",
        _series(
            {"name": "A", "x": ["p", "q", "r"], "y": [1.0, 2.0, 3.0]},
            {"name": "B", "x": ["p", "q", "r"], "y": [3.0, 4.0, 5.0]},
            arrangement="grouped",
            legend={
                "title": "Team",
                "entries": [{"label": "A", "color": "#1f77b4"}, {"label": "B", "color": "#ff7f0e"}],
            },
        ),
    ),
    "stacked bars say where they begin": (
        "plt.bar(['a', 'b'], [1, 2], label='A'); plt.bar(['a', 'b'], [3, 4], bottom=[1, 2], label='B')",
        _series(
            {"name": "A", "y": [1.0, 2.0], "base": "missing"},
            {"name": "B", "y": [3.0, 4.0], "base": [1.0, 2.0]},
            arrangement="stacked",
        ),
    ),
    "lying bars are barh with a colour each": (
        "plt.barh(['a', 'b'], [1, -2], color=['red', 'blue']); plt.gca().invert_yaxis()",
        _series(
            {"type": "barh", "x": [1.0, -2.0], "y": ["a", "b"], "colors": ["#ff0000", "#0000ff"]},
            y={"scale": "category", "categories": ["a", "b"], "inverted": True},
        ),
    ),
    "error bars of bars": (
        "plt.bar(['a', 'b'], [1, 2], yerr=[0.25, 0.5], capsize=4)",
        {"type": "bar", "axes": [{"series_count": 1, "series": [{"y_low": [0.75, 1.5], "y_high": [1.25, 2.5]}]}]},
    ),
    "bars at dates": (
        "import datetime as d; plt.bar([d.date(2024, 1, 1), d.date(2024, 2, 1)], [1, 2], width=20)",
        _series({"type": "bar", "x": ["2024-01-01", "2024-02-01"]}, x={"scale": "date"}),
    ),
    "bars from date to date are ranges": (
        """
import datetime as d
plt.barh(["Plan", "Build"], [d.timedelta(days=2), d.timedelta(days=5)], left=[d.date(2024, 1, 1), d.date(2024, 1, 3)])
""",
        _series(
            {
                "type": "range",
                "orientation": "horizontal",
                "y": ["Plan", "Build"],
                "x_low": ["2024-01-01", "2024-01-03"],
                "x_high": ["2024-01-03", "2024-01-08"],
            }
        ),
    ),
    "bars one by one": (
        "for name, value in [('a', 1), ('b', 2)]: plt.bar(name, value, label=name)",
        _series({"name": "a", "x": ["a"], "y": [1.0]}, {"name": "b", "x": ["b"], "y": [2.0]}),
    ),
    # ------------------------------------------------------------------------------------------------ lines, points
    "lines have names and colours": (
        "plt.plot([1, 2, 3], [1, 4, 9], 'r--', label='squares'); plt.plot([1, 2, 3], [1, None, 3], label='gap')",
        _series(
            {"type": "line", "name": "squares", "color": "#ff0000", "x": [1.0, 2.0, 3.0], "y": [1.0, 4.0, 9.0]},
            {"type": "line", "name": "gap", "y": [1.0, None, 3.0]},
        ),
    ),
    "infinity is null": (
        "plt.plot([1, 2, 3], [1, float('inf'), float('nan')])",
        _series({"y": [1.0, None, None]}),
    ),
    "a log scale": (
        "plt.semilogy([1, 2], [1, 100])",
        _series({"type": "line"}, x={"scale": "linear"}, y={"scale": "log"}),
    ),
    "a line over names": (
        "plt.plot(['Q1', 'Q2', 'Q3'], [3, 1, 2], marker='o')",
        _series({"type": "line", "x": ["Q1", "Q2", "Q3"]}, x={"scale": "category", "categories": ["Q1", "Q2", "Q3"]}),
    ),
    "a line over dates": (
        "import datetime as d; plt.plot([d.datetime(2024, 1, 1), d.datetime(2024, 1, 2, 12, 30)], [1, 2])",
        _series({"x": ["2024-01-01T00:00:00", "2024-01-02T12:30:00"]}, x={"scale": "date"}),
    ),
    "labels of some ticks are no categories": (
        "plt.plot(range(5), range(5)); plt.xticks([0, 4], ['start', 'end'])",
        _series(
            {"x": [0.0, 1.0, 2.0, 3.0, 4.0]},
            x={"scale": "linear", "ticks": [{"at": 0.0, "label": "start"}, {"at": 4.0, "label": "end"}]},
        ),
    ),
    "a line without a stroke is a scatter": (
        "plt.plot([1, 2], [3, 4], 'o')",
        _series({"type": "scatter", "x": [1.0, 2.0], "y": [3.0, 4.0]}),
    ),
    "a step line": ("plt.step([1, 2], [3, 4], where='post')", _series({"type": "step", "step": "post"})),
    "lines to points are stems": (
        "plt.vlines(['a', 'b'], 0, [1, 2]); plt.plot(['a', 'b'], [1, 2], 'o')",
        _series({"type": "stem", "x": ["a", "b"], "y": [1.0, 2.0]}),
    ),
    "lines from value to value are ranges": (
        "plt.hlines([0, 1], [1, 2], [5, 6]); plt.yticks([0, 1], ['a', 'b'])",
        _series(
            {"type": "range", "orientation": "horizontal", "y": ["a", "b"], "x_low": [1.0, 2.0], "x_high": [5.0, 6.0]}
        ),
    ),
    "broken bars are ranges": (
        "plt.broken_barh([(1, 2), (4, 1)], (10, 5))",
        _series({"type": "range", "y": [12.5, 12.5], "x_low": [1.0, 4.0], "x_high": [3.0, 5.0]}),
    ),
    "stems": ("plt.stem([1, 2], [3, 4])", _series({"type": "stem", "x": [1.0, 2.0], "y": [3.0, 4.0]})),
    "error bars of points": (
        "plt.errorbar([1, 2], [3, 4], yerr=[[0.5, 1], [1, 2]], xerr=0.25, fmt='o', capsize=3)",
        {
            "type": "scatter",
            "axes": [
                {
                    "series_count": 1,
                    "series": [
                        {"y_low": [2.5, 3.0], "y_high": [4.0, 6.0], "x_low": [0.75, 1.75], "x_high": [1.25, 2.25]}
                    ],
                }
            ],
        },
    ),
    "a scatter with values and sizes": (
        "plt.scatter([1, 2], [3, 4], c=[5, 6], s=[10, 20], label='p'); plt.colorbar(label='heat')",
        {
            "axes_count": 1,
            "axes": [
                {
                    "series": [
                        {
                            "type": "scatter",
                            "name": "p",
                            "values": [5.0, 6.0],
                            "size": [10.0, 20.0],
                            "color_scale": {"label": "heat", "limits": [5.0, 6.0]},
                        }
                    ]
                }
            ],
        },
    ),
    "lines across are references": (
        """
plt.plot([1, 2], [3, 4])
plt.axhline(3.5, color="red", label="target")
plt.axvline(1.5)
plt.axhspan(3, 3.2)
plt.hlines(3.1, 1, 2)
""",
        {
            "type": "line",
            "axes": [
                {
                    "series_count": 1,
                    "references": [
                        {"axis": "y", "value": 3.5, "name": "target", "color": "#ff0000"},
                        {"axis": "x", "value": 1.5, "name": ""},
                        {"axis": "y", "value": 3.1},
                        {"axis": "y", "from": 3.0, "to": 3.2},
                    ],
                }
            ],
        },
    ),
    "a reference at a date": (
        "import datetime as d; plt.plot([d.date(2024, 1, 1), d.date(2024, 1, 9)], [1, 2]); plt.axvline(d.date(2024, 1, 5))",
        {"axes": [{"references": [{"axis": "x", "value": "2024-01-05"}]}]},
    ),
    "a sloping line": (
        "plt.plot([0, 1], [0, 1]); plt.axline((0, 1), slope=2)",
        {"axes": [{"series_count": 1, "references": [{"axis": "both", "through": [0.0, 1.0], "slope": 2.0}]}]},
    ),
    # ------------------------------------------------------------------------------------------------------- areas
    "an area under a line has its name": (
        "plt.plot([1, 2], [3, 4], label='n'); plt.fill_between([1, 2], [3, 4], alpha=0.3)",
        _series({"type": "area", "name": "n", "x": [1.0, 2.0], "y": [3.0, 4.0], "base": "missing"}),
    ),
    "a band around a line": (
        "plt.plot([1, 2], [3, 4], label='n'); plt.fill_between([1, 2], [2, 3], [4, 5], alpha=0.3)",
        {
            "type": "line",
            "axes": [
                {"series": [{"type": "line"}, {"type": "band", "name": "n", "y_low": [2.0, 3.0], "y_high": [4.0, 5.0]}]}
            ],
        },
    ),
    "stacked areas have their own values": (
        "plt.stackplot([1, 2], [1, 2], [3, 5], labels=['a', 'b'])",
        _series(
            {"type": "area", "name": "a", "y": [1.0, 2.0]},
            {"type": "area", "name": "b", "y": [3.0, 5.0], "base": [1.0, 2.0]},
        ),
    ),
    # -------------------------------------------------------------------------------------------------- histograms
    "a histogram has edges and counts": (
        "plt.hist([1, 2, 2, 3, 4, 9.5], bins=4)",
        _series(
            {
                "type": "histogram",
                "orientation": "vertical",
                "norm": "count",
                "edges": [1.0, 3.125, 5.25, 7.375, 9.5],
                "counts": [4.0, 1.0, 0.0, 1.0],
                "count": 4,
            }
        ),
    ),
    "a histogram of densities that lies": (
        "plt.hist([0, 1, 1, 2], bins=[0, 1, 2], density=True, orientation='horizontal')",
        _series(
            {
                "orientation": "horizontal",
                "norm": "density",
                "edges": [0.0, 1.0, 2.0],
                "counts": [0.25, 0.75],
            }
        ),
    ),
    "a histogram of several data sets": (
        "plt.hist([[1, 2, 2, 3], [2, 3, 4, 9]], bins=4, label=['a', 'b'])",
        _series(
            {"name": "a", "edges": [1.0, 3.0, 5.0, 7.0, 9.0], "counts": [3.0, 1.0, 0.0, 0.0]},
            {"name": "b", "edges": [1.0, 3.0, 5.0, 7.0, 9.0], "counts": [1.0, 2.0, 0.0, 1.0]},
        ),
    ),
    "a histogram with bins of different widths": (
        "plt.hist([1, 5, 50, 500], bins=[1, 10, 100, 1000]); plt.xscale('log')",
        _series({"edges": [1.0, 10.0, 100.0, 1000.0], "counts": [2.0, 1.0, 1.0]}, x={"scale": "log"}),
    ),
    "outlines of histograms": (
        "plt.hist([1, 2, 2, 3], bins=2, histtype='step'); plt.hist([1, 2, 2, 3], bins=2, histtype='stepfilled')",
        _series(
            {"type": "histogram", "edges": [1.0, 2.0, 3.0], "counts": [1.0, 3.0]},
            {"type": "histogram", "edges": [1.0, 2.0, 3.0], "counts": [1.0, 3.0]},
        ),
    ),
    "stacked outlines": (
        "plt.hist([[1, 2, 2], [1, 1, 3]], bins=2, histtype='stepfilled', stacked=True, label=['a', 'b'])",
        _series(
            {"name": "b", "counts": [2.0, 1.0], "base": [1.0, 2.0]},
            {"name": "a", "counts": [1.0, 2.0]},
        ),
    ),
    "a histogram of names is bars": (
        "plt.hist(['a', 'b', 'a', 'c', 'a'])",
        _series({"type": "bar", "x": ["a", "b", "c"], "y": [3.0, 1.0, 1.0], "count": 3}),
    ),
    "touching bars at days are bars": (
        "import datetime as d; plt.bar([d.date(2024, 1, 1), d.date(2024, 1, 2)], [1, 2], width=1)",
        _series({"type": "bar", "x": ["2024-01-01", "2024-01-02"], "y": [1.0, 2.0]}),
    ),
    "stairs": (
        "plt.stairs([3, 4], [0, 1, 2])",
        _series({"type": "histogram", "edges": [0.0, 1.0, 2.0], "counts": [3.0, 4.0]}),
    ),
    "touching bars at names are bars": (
        "plt.bar(['a', 'b'], [1, 2], width=1)",
        _series({"type": "bar", "x": ["a", "b"]}),
    ),
    "grouped bars at whole numbers are bars": (
        "plt.bar([0.8, 1.8], [1, 2], 0.4); plt.bar([1.2, 2.2], [3, 4], 0.4)",
        _series({"type": "bar"}, {"type": "bar"}),
    ),
    # -------------------------------------------------------------------------------------------------- pies, boxes
    "a pie has shares": (
        "plt.pie([1, 1, 2], labels=['a', 'b', 'c'], autopct='%1.0f%%', wedgeprops={'width': 0.4})",
        {
            "type": "pie",
            "axes": [
                {
                    "x": "missing",
                    "series": [
                        {
                            "labels": ["a", "b", "c"],
                            "values": [0.25, 0.25, 0.5],
                            "colors": ["#1f77b4", "#ff7f0e", "#2ca02c"],
                            "shares": True,
                            "hole": 0.6,
                        }
                    ],
                }
            ],
        },
    ),
    "a pie named by its legend, with a white circle": (
        """
plt.pie([3, 1])
plt.gca().add_artist(plt.Circle((0, 0), 0.5, fc="white"))
plt.legend(["yes", "no"])
""",
        _series({"type": "pie", "labels": ["yes", "no"], "values": [0.75, 0.25], "hole": 0.5}),
    ),
    "boxes": (
        "plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4, 5]], tick_labels=['a', 'b'])",
        _series(
            {
                "type": "box",
                "orientation": "vertical",
                "x": ["a", "b"],
                "q1": [2.0, 2.75],
                "median": [3.0, 3.5],
                "q3": [4.0, 4.25],
                "low": [1.0, 2.0],
                "high": [4.0, 5.0],
                "outliers": [[20.0], []],
                "outlier_counts": [1, 0],
            }
        ),
    ),
    "lying boxes, filled, notched, with means": (
        "plt.boxplot([[1, 2, 3, 4, 20]], orientation='horizontal', patch_artist=True, notch=True, showmeans=True)",
        _series({"type": "box", "orientation": "horizontal", "median": [3.0], "mean": [6.0], "outliers": [[20.0]]}),
    ),
    "boxes without caps, outliers or values": (
        "plt.boxplot([[1, 2, 3], []], showcaps=False, showfliers=False)",
        _series({"type": "box", "median": [2.0, None], "low": [1.0, None], "outliers": [[], []]}),
    ),
    "a box plot beside a line": (
        "plt.boxplot([[1, 2, 3]], positions=[1]); plt.plot([1, 2], [3, 4], label='l')",
        {"type": "mixed", "axes": [{"series": [{"type": "box", "median": [2.0]}, {"type": "line", "name": "l"}]}]},
    ),
    "violins": (
        "plt.violinplot([[1, 2, 3, 4], [2, 3, 4, 9]], showmedians=True)",
        _series({"type": "violin", "x": [1.0, 2.0], "low": [1.0, 2.0], "high": [4.0, 9.0], "count": 2}),
    ),
    # -------------------------------------------------------------------------------------------------------- cells
    "an image of values is a heatmap": (
        "plt.imshow([[1, 2], [3, float('nan')]]); plt.colorbar(label='z')",
        {
            "type": "heatmap",
            "axes_count": 1,
            "axes": [
                {
                    "series": [
                        {
                            "x": [0.0, 1.0],
                            "y": [0.0, 1.0],
                            "values": [[1.0, 2.0], [3.0, None]],
                            "shape": [2, 2],
                            "color_scale": {"label": "z", "limits": [1.0, 3.0]},
                            "count": 4,
                        }
                    ]
                }
            ],
        },
    ),
    "a picture is an image": (
        "import numpy as np; plt.imshow(np.zeros((3, 4, 3)))",
        _series({"type": "image", "shape": [3, 4]}),
    ),
    "a mesh": (
        "plt.pcolormesh([0, 1, 2], [0, 10, 20], [[1, 2], [3, 4]])",
        _series({"type": "heatmap", "x": [0.5, 1.5], "y": [5.0, 15.0], "values": [[1.0, 2.0], [3.0, 4.0]]}),
    ),
    "counts in two directions": (
        "plt.hist2d([1, 2, 3], [1, 2, 3], bins=2)",
        _series({"type": "heatmap", "x": [1.5, 2.5], "values": [[1.0, 0.0], [0.0, 2.0]]}),
    ),
    # --------------------------------------------------------------------------------------------------- many axes
    "subplots have places and titles": (
        """
figure, axes = plt.subplots(1, 2)
axes[0].plot([1, 2], [3, 4])
axes[0].set_title("left")
axes[1].bar(["a"], [1])
figure.suptitle("Both")
""",
        {
            "type": "mixed",
            "title": "Both",
            "axes": [
                {"type": "line", "title": "left", "row": 0, "column": 0},
                {"type": "bar", "title": "", "row": 0, "column": 1},
            ],
        },
    ),
    "a twin says whose": (
        "plt.bar(['a', 'b'], [1, 2]); plt.twinx().plot(['a', 'b'], [30, 40], label='rate'); plt.ylabel('Rate [%]')",
        {
            "axes": [
                {"type": "bar"},
                {
                    "type": "line",
                    "twin_of": 0,
                    "shares": "x",
                    "y": {"label": "Rate [%]", "unit": "%"},
                    "series": [{"x": ["a", "b"], "y": [30.0, 40.0]}],
                },
            ]
        },
    ),
    "a legend of the figure": (
        """
figure, axes = plt.subplots(1, 2)
axes[0].plot([1, 2], [3, 4], label="n")
figure.legend(title="All")
""",
        {"legend": {"title": "All", "entries": [{"label": "n", "color": "#1f77b4"}]}},
    ),
    "a polar plot": (
        "plt.subplot(projection='polar').plot([0, 1], [2, 3])",
        _series({"type": "line", "x": [0.0, 1.0], "y": [2.0, 3.0]}, projection="polar"),
    ),
    "three dimensions": (
        "plt.subplot(projection='3d').plot([0, 1], [2, 3], [4, 5])",
        _series({"type": "line", "z": [4.0, 5.0]}, projection="3d"),
    ),
    "text alone": (
        "plt.axis('off'); plt.text(0.5, 0.5, '42 %')",
        {"type": "text", "axes": [{"type": "text", "texts": ["42 %"], "x": "missing", "series": []}]},
    ),
    "nothing at all": ("plt.figure()", {"type": "empty", "axes": [], "axes_count": 0}),
    "empty axes": ("plt.subplots(2, 1)", {"type": "empty", "axes": [{"type": "empty"}, {"type": "empty"}]}),
    "a table": (
        "plt.table([['1', '2']], colLabels=['a', 'b']); plt.axis('off')",
        _series({"type": "table", "rows": [["a", "b"], ["1", "2"]]}),
    ),
    "contours are unknown": ("plt.contour([[1, 2], [3, 4]])", _series({"type": "unknown", "kind": "QuadContourSet"})),
    "what is hidden is not there": (
        "plt.plot([1, 2], [3, 4]); plt.plot([1, 2], [5, 6])[0].set_visible(False)",
        {"axes": [{"series_count": 1}]},
    ),
    # ------------------------------------------------------------------------------------------------------- pandas
    "pandas bars": (
        f"{_FRAME}df.pivot(index='r', columns='c', values='v').plot.bar(rot=0)",
        _series(
            {"type": "bar", "name": "x", "x": ["a", "b", "c"], "y": [1.0, 2.0, 3.0]},
            {"type": "bar", "name": "y", "x": ["a", "b", "c"], "y": [4.0, 5.0, 6.0]},
            arrangement="grouped",
            legend={"title": "c", "entries": [{"label": "x"}, {"label": "y"}]},
        ),
    ),
    "pandas stacked lying bars": (
        f"{_FRAME}df.pivot(index='r', columns='c', values='v').plot.barh(stacked=True)",
        _series(
            {"type": "barh", "name": "x", "y": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]},
            {"type": "barh", "name": "y", "x": [4.0, 5.0, 6.0], "base": [1.0, 2.0, 3.0]},
            arrangement="stacked",
        ),
    ),
    "pandas line of months": (
        f"{_FRAME}dates.plot()",
        _series(
            {"type": "line", "name": "v", "x": ["2024-01-01", "2024-02-01", "2024-03-01"], "y": [1.0, 2.0, 4.0]},
            x={"scale": "date"},
        ),
    ),
    "pandas line of names": (
        f"{_FRAME}df.head(3).plot(x='r', y='v')",
        _series(
            {"type": "line", "name": "v", "x": ["a", "b", "c"]}, x={"scale": "category", "categories": ["a", "b", "c"]}
        ),
    ),
    "pandas areas": (
        f"{_FRAME}dates.to_frame().assign(w=2.0).plot.area()",
        _series(
            {"type": "area", "name": "v", "y": [1.0, 2.0, 4.0]},
            {"type": "area", "name": "w", "y": [2.0, 2.0, 2.0], "base": [1.0, 2.0, 4.0]},
        ),
    ),
    "pandas histogram": (
        f"{_FRAME}df.v.plot.hist(bins=5)",
        _series(
            {
                "type": "histogram",
                "name": "v",
                "edges": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "counts": [1.0, 1.0, 1.0, 1.0, 2.0],
            }
        ),
    ),
    "pandas boxes": (
        f"{_FRAME}df[['v']].plot.box()",
        _series({"type": "box", "x": ["v"], "q1": [2.25], "median": [3.5], "q3": [4.75]}),
    ),
    "pandas pie": (
        f"{_FRAME}df.groupby('c').v.sum().plot.pie()",
        _series({"type": "pie", "labels": ["x", "y"], "values": [0.28571428571429, 0.71428571428571]}),
    ),
    "pandas scatter": (
        f"{_FRAME}df.plot.scatter('v', 'v', c='v')",
        _series({"type": "scatter", "values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "color_scale": {"label": "v"}}),
    ),
    "pandas second axis": (
        f"{_FRAME}dates.to_frame().assign(w=2.0).plot(secondary_y='w')",
        {"axes": [{"series": [{"name": "v"}]}, {"twin_of": 0, "shares": "x", "series": [{"name": "w (right)"}]}]},
    ),
    # ------------------------------------------------------------------------------------------------------ seaborn
    "seaborn bars of means with intervals": (
        f"{_SEABORN}sns.barplot(df, x='r', y='v', errorbar=('pi', 100), capsize=0.2)",
        _series(
            {
                "type": "bar",
                "x": ["a", "b", "c"],
                "y": [2.5, 3.5, 4.5],
                "y_low": [1.0, 2.0, 3.0],
                "y_high": [4.0, 5.0, 6.0],
            }
        ),
    ),
    "seaborn bars by hue": (
        f"{_SEABORN}sns.barplot(df, x='r', y='v', hue='c')",
        _series(
            {"type": "bar", "name": "x", "x": ["a", "b", "c"], "y": [1.0, 2.0, 3.0]},
            {"type": "bar", "name": "y", "y": [4.0, 5.0, 6.0]},
            legend={"title": "c", "entries": [{"label": "x"}, {"label": "y"}]},
        ),
    ),
    "seaborn facets share their names": (
        f"{_SEABORN}sns.catplot(df, x='r', y='v', col='c', kind='bar')",
        {"axes": [{"title": "c = x"}, {"title": "c = y", "series": [{"x": ["a", "b", "c"], "y": [4.0, 5.0, 6.0]}]}]},
    ),
    "seaborn lines with bands": (
        f"{_SEABORN}sns.lineplot(df, x='r', y='v', errorbar=('pi', 100))",
        {
            "type": "line",
            "axes": [
                {
                    "series": [
                        {"type": "line", "x": ["a", "b", "c"], "y": [2.5, 3.5, 4.5]},
                        {"type": "band", "y_low": [1.0, 2.0, 3.0], "y_high": [4.0, 5.0, 6.0]},
                    ]
                }
            ],
        },
    ),
    "seaborn scatter by hue": (
        f"{_SEABORN}sns.scatterplot(df, x='v', y='v', hue='c')",
        _series(
            {"type": "scatter", "name": "x", "x": [1.0, 2.0, 3.0]},
            {"type": "scatter", "name": "y", "x": [4.0, 5.0, 6.0]},
        ),
    ),
    "seaborn histogram by hue, stacked, with densities": (
        f"{_SEABORN}sns.histplot(df, x='v', hue='c', multiple='stack', binwidth=1, kde=True)",
        {
            "type": "mixed",
            "axes": [
                {
                    "arrangement": "stacked",
                    "series": [
                        {
                            "type": "histogram",
                            "name": "y",
                            "edges": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                            "counts": [0.0, 0.0, 0.0, 1.0, 2.0],
                        },
                        {"type": "histogram", "name": "x", "counts": [1.0, 1.0, 1.0, 0.0, 0.0]},
                        {"type": "line", "name": "y"},
                        {"type": "line", "name": "x"},
                    ],
                }
            ],
        },
    ),
    "seaborn boxes by hue": (
        f"{_SEABORN}sns.boxplot(pd.concat([df, df]), x='r', y='v', hue='c')",
        _series(
            {"type": "box", "name": "x", "x": ["a", "b", "c"], "median": [1.0, 2.0, 3.0]},
            {"type": "box", "name": "y", "median": [4.0, 5.0, 6.0]},
        ),
    ),
    "seaborn violins": (
        f"{_SEABORN}sns.violinplot(df, x='r', y='v')",
        _series({"type": "violin", "x": ["a", "b", "c"]}),
    ),
    "seaborn means joined": (
        f"{_SEABORN}sns.pointplot(df, x='r', y='v', errorbar=('pi', 100))",
        _series({"type": "line", "x": ["a", "b", "c"], "y": [2.5, 3.5, 4.5], "y_low": [1.0, 2.0, 3.0]}),
    ),
    "seaborn points at names": (
        f"{_SEABORN}sns.stripplot(df, x='c', y='v', hue='c')",
        _series({"type": "scatter", "x": ["x", "x", "x"]}, {"type": "scatter", "x": ["y", "y", "y"]}),
    ),
    "seaborn heatmap": (
        f"{_SEABORN}sns.heatmap(df.pivot(index='r', columns='c', values='v'), annot=True)",
        _series(
            {"type": "heatmap", "x": ["x", "y"], "y": ["a", "b", "c"], "values": [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]},
            x={"label": "c", "scale": "category"},
            y={"label": "r", "inverted": True},
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_figure_is_described(case: str, reports: Mapping[str, Any], cut: Callable[[Any, Any], Any]):
    _, expected = CASES[case]

    assert cut(reports[case]["chart"], expected) == expected


def test_describing_draws_and_imports_nothing(reports: Mapping[str, Any]):
    assert {name: report["drawn"] for name, report in reports.items() if report["drawn"]} == {}
    assert {name: report["imported"] for name, report in reports.items() if report["imported"]} == {}
