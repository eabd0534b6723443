"""Figures of plotly: what it computes in the page is computed here, with the same numbers.

Bins, stacks and quartiles were compared with plotly.js 3 itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

PREAMBLE = """
import numpy as np, pandas as pd, plotly.express as px, plotly.graph_objects as go
df = pd.DataFrame({"r": ["a", "b", "c", "a", "b", "c"], "c": ["x", "x", "x", "y", "y", "y"], "v": [1.0, 2, 3, 4, 5, 6]})
days = pd.date_range("2024-01-31", periods=3)
"""


def _series(*series: dict[str, Any], **axes: Any) -> dict[str, Any]:
    """What is expected of a chart with one axes: its series, and what else is said of the axes."""
    return {"axes": [{"series": list(series), **axes}]}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bars by colour are stacked": (
        "chart = px.bar(df, x='r', y='v', color='c', title='<b>Sales</b>', labels={'v': 'Amount (EUR)', 'r': 'Region'})",
        {
            "library": "plotly",
            "type": "bar",
            "title": "Sales",
            "truncated": False,
            "axes": [
                {
                    "arrangement": "stacked",
                    "x": {"label": "Region", "scale": "category", "categories": ["a", "b", "c"]},
                    "y": {"label": "Amount (EUR)", "scale": "linear", "unit": "EUR"},
                    "series": [
                        {
                            "type": "bar",
                            "name": "x",
                            "color": "#636efa",
                            "x": ["a", "b", "c"],
                            "y": [1.0, 2.0, 3.0],
                            "base": "missing",
                            "count": 3,
                        },
                        {"type": "bar", "name": "y", "y": [4.0, 5.0, 6.0], "base": [1.0, 2.0, 3.0]},
                    ],
                    "legend": {
                        "title": "c",
                        "entries": [{"label": "x", "color": "#636efa"}, {"label": "y", "color": "#EF553B"}],
                    },
                }
            ],
        },
    ),
    "grouped bars that lie": (
        "chart = px.bar(df, y='r', x='v', color='c', barmode='group', orientation='h')",
        _series(
            {"type": "barh", "y": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]}, {"base": "missing"}, arrangement="grouped"
        ),
    ),
    "bars below zero are stacked downwards": (
        "chart = go.Figure([go.Bar(x=[1], y=[2]), go.Bar(x=[1], y=[-3]), go.Bar(x=[1], y=[4])], {'barmode': 'relative'})",
        _series({"base": "missing"}, {"base": "missing"}, {"base": [2.0]}),
    ),
    "bars sorted by their length": (
        "chart = px.bar(x=['a', 'b'], y=[1, 2]).update_xaxes(categoryorder='total descending')",
        _series({"x": ["a", "b"]}, x={"label": "x", "scale": "category", "categories": ["b", "a"]}),
    ),
    "arrays in base64 are decoded": (
        "import json; chart = json.loads(px.line(x=np.arange(3, dtype='i2'), y=np.array([0.5, np.nan, 2])).to_json())",
        _series({"type": "line", "x": [0, 1, 2], "y": [0.5, None, 2.0]}),
    ),
    "the JSON of a figure": (
        "chart = {'data': [{'y': [1, 2], 'mode': 'markers'}], 'layout': {'title': 'T', 'yaxis': {'type': 'log', 'range': [0, 2]}}}",
        {
            "title": "T",
            "axes": [
                {
                    "y": {"scale": "log", "limits": [1.0, 100.0]},
                    "series": [{"type": "scatter", "x": [0, 1], "y": [1, 2]}],
                }
            ],
        },
    ),
    "lines over dates": (
        "chart = px.line(x=days, y=[1, 2, 4])",
        _series({"type": "line", "x": ["2024-01-31", "2024-02-01", "2024-02-02"]}, x={"label": "x", "scale": "date"}),
    ),
    "months as text are dates": (
        "chart = px.line(x=['2024-01', '2024-02'], y=[1, 2])",
        _series({"x": ["2024-01", "2024-02"]}, x={"scale": "date"}),
    ),
    "a scatter with values and sizes": (
        "chart = px.scatter(df, x='v', y='v', color='v', size='v')",
        _series(
            {
                "type": "scatter",
                "values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "color_scale": {"label": "v"},
            }
        ),
    ),
    "points of one colour each": (
        "chart = go.Figure(go.Bar(x=['a', 'b'], y=[1, 2], marker_color=['red', 'rgb(0, 0, 255)']))",
        _series({"colors": ["red", "#0000ff"]}),
    ),
    "error bars": (
        "chart = go.Figure(go.Scatter(x=[1, 2], y=[10, 20], error_y={'type': 'percent', 'value': 10}))",
        _series({"y_low": [9.0, 18.0], "y_high": [11.0, 22.0]}),
    ),
    "stacked areas": (
        "chart = px.area(df, x='r', y='v', color='c')",
        _series({"type": "area", "y": [1.0, 2.0, 3.0]}, {"type": "area", "base": [1.0, 2.0, 3.0]}),
    ),
    "a band between lines": (
        "chart = go.Figure([go.Scatter(x=[1, 2], y=[3, 4]), go.Scatter(x=[1, 2], y=[1, 1], fill='tonexty')])",
        _series({"type": "line"}, {"type": "band", "y_low": [1.0, 1.0], "y_high": [3.0, 4.0]}),
    ),
    "steps": ("chart = go.Figure(go.Scatter(y=[1, 2], line_shape='hv'))", _series({"type": "step", "step": "post"})),
    "a pie sums its slices": (
        "chart = px.pie(names=['a', 'b', 'a'], values=[1, 3, 1], hole=0.5)",
        _series(
            {
                "type": "pie",
                "labels": ["a", "b"],
                "values": [2.0, 3.0],
                "colors": ["#EF553B", "#636efa"],
                "shares": False,
                "hole": 0.5,
            }
        ),
    ),
    "bins as plotly makes them": (
        "chart = px.histogram(x=[0.5, 1.5, 1.7, 2.5, 9.7])",
        _series({"type": "histogram", "norm": "count", "edges": [0.0, 5.0, 10.0], "counts": [4.0, 1.0]}),
    ),
    "bins of whole numbers begin half a unit below": (
        "chart = px.histogram(x=[1, 2, 2, 3, 3, 3, 4])",
        _series({"edges": [0.5, 1.5, 2.5, 3.5, 4.5], "counts": [1.0, 2.0, 3.0, 1.0]}),
    ),
    "bins that are asked for": (
        "chart = go.Figure(go.Histogram(x=[0, 1, 2, 5], xbins={'start': 0, 'end': 6, 'size': 2}, histnorm='percent'))",
        _series({"edges": [0.0, 2.0, 4.0, 6.0], "counts": [50.0, 25.0, 25.0], "norm": "percent"}),
    ),
    "histograms share their bins and are stacked": (
        "chart = px.histogram(df, x='v', color='c', nbins=3)",
        _series(
            {"name": "x", "edges": [-0.5, 1.5, 3.5, 5.5, 7.5], "counts": [1.0, 2.0, 0.0, 0.0]},
            {"name": "y", "counts": [0.0, 0.0, 2.0, 1.0], "base": [1.0, 2.0, 0.0, 0.0]},
            arrangement="stacked",
        ),
    ),
    "a histogram of names is bars": (
        "chart = px.histogram(df, x='r', y='v', histfunc='avg')",
        _series({"type": "bar", "x": ["a", "b", "c"], "y": [2.5, 3.5, 4.5]}),
    ),
    "a histogram of dates is not binned": (
        "chart = px.histogram(x=days)",
        _series({"type": "histogram", "unbinned": ["2024-01-31", "2024-02-01", "2024-02-02"], "edges": "missing"}),
    ),
    "boxes by plotly's quartiles": (
        "chart = px.box(x=['a'] * 5 + ['b'] * 3, y=[1, 2, 3, 4, 20, 1, 2, 3])",
        _series(
            {
                "type": "box",
                "x": ["a", "b"],
                "q1": [1.75, 1.25],
                "median": [3.0, 2.0],
                "q3": [8.0, 2.75],
                "low": [1.0, 1.0],
                "high": [8.0, 3.0],
                "outliers": [[20.0], []],
            }
        ),
    ),
    "boxes whose numbers are given": (
        "chart = go.Figure(go.Box(q1=[1], median=[2], q3=[3], lowerfence=[0], upperfence=[9]))",
        _series({"type": "box", "q1": [1], "low": [0], "high": [9]}),
    ),
    "a heatmap": (
        "chart = px.imshow([[1, 2], [3, 4]], x=['a', 'b'], y=['c', 'd'], labels={'color': 'z'})",
        _series(
            {
                "type": "heatmap",
                "x": ["a", "b"],
                "y": ["c", "d"],
                "values": [[1, 2], [3, 4]],
                "color_scale": {"label": "z"},
            }
        ),
    ),
    "a timeline is ranges": (
        "chart = px.timeline(pd.DataFrame({'s': ['2024-01-01'], 'e': ['2024-01-03'], 't': ['A']}), x_start='s', x_end='e', y='t')",
        _series({"type": "range", "y": ["A"], "x_low": ["2024-01-01"], "x_high": ["2024-01-03"]}),
    ),
    "facets have places and titles": (
        "chart = px.line(df, x='r', y='v', facet_col='c')",
        {"axes": [{"title": "c=x", "row": 0, "column": 0}, {"title": "c=y", "row": 0, "column": 1}]},
    ),
    "subplots, a second axis, and a pie": (
        """
from plotly.subplots import make_subplots
chart = make_subplots(1, 2, subplot_titles=("L", "R"), specs=[[{"secondary_y": True}, {"type": "pie"}]])
chart.add_trace(go.Bar(x=["a"], y=[1]), 1, 1)
chart.add_trace(go.Scatter(x=["a"], y=[50], name="rate"), 1, 1, secondary_y=True)
chart.add_trace(go.Pie(labels=["p", "q"], values=[1, 3]), 1, 2)
""",
        {
            "type": "mixed",
            "axes": [
                {"type": "bar", "title": "L", "row": 0, "column": 0},
                {"type": "line", "twin_of": 0, "shares": "x"},
                {"type": "pie", "title": "R", "row": 0, "column": 1},
            ],
        },
    ),
    "lines across are references": (
        """
chart = px.line(x=[1, 2], y=[3, 4])
chart.add_hline(y=3.5, line_color="red", annotation_text="goal")
chart.add_vrect(x0=1, x1=1.5, fillcolor="green")
""",
        {
            "axes": [
                {
                    "series_count": 1,
                    "references": [
                        {"axis": "y", "value": 3.5, "color": "red"},
                        {"axis": "x", "from": 1, "to": 1.5, "color": "green"},
                    ],
                    "texts": ["goal"],
                }
            ]
        },
    ),
    "ticks with labels, turned around": (
        "chart = px.line(x=[1, 2], y=[3, 4]).update_xaxes(tickvals=[1], ticktext=['one'], autorange='reversed', ticksuffix=' km')",
        _series({}, x={"unit": "km", "inverted": True, "ticks": [{"at": 1, "label": "one"}]}),
    ),
    "a polar line": (
        "chart = px.line_polar(r=[1, 2], theta=['a', 'b'])",
        _series({"type": "line", "x": ["a", "b"], "y": [1, 2]}, projection="polar"),
    ),
    "candles": (
        "chart = go.Figure(go.Candlestick(x=['2024-01-01'], open=[1], high=[3], low=[0], close=[2]))",
        _series({"type": "candlestick", "open": [1], "close": [2]}),
    ),
    "parts within parts": (
        "chart = px.sunburst(df, path=['c', 'r'], values='v')",
        {"type": "hierarchy", "axes": [{"series": [{"kind": "sunburst", "count": 8}]}]},
    ),
    "a single number": (
        "chart = go.Figure(go.Indicator(value=5, title='KPI', delta={'reference': 3}))",
        _series({"type": "indicator", "values": [5], "reference": 3}),
    ),
    "a table": (
        "chart = go.Figure(go.Table(header={'values': ['a', 'b']}, cells={'values': [[1], [2]]}))",
        _series({"type": "table", "rows": [["a", "b"], [1, 2]]}),
    ),
    "other kinds are unknown": (
        "chart = go.Figure(go.Sankey(node={'label': ['a']}, link={'source': [0], 'target': [0], 'value': [1]}))",
        _series({"type": "unknown", "kind": "sankey"}),
    ),
    "nothing at all": ("chart = go.Figure()", {"type": "empty", "axes": []}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_plotly_figure_is_described(case: str, reports: Mapping[str, Any], cut: Callable[[Any, Any], Any]):
    _, expected = CASES[case]

    assert cut(reports[case]["chart"], expected) == expected


def test_describing_imports_nothing(reports: Mapping[str, Any]):
    assert {name: report["imported"] for name, report in reports.items() if report["imported"]} == {}
