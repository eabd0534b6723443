"""Charts of altair, and Vega-Lite itself: what it computes in the page is computed here, with the same numbers.

Bins and stacks were compared with the scene that Vega itself makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

PREAMBLE = """
import altair as alt, pandas as pd
df = pd.DataFrame({"r": ["a", "b", "c", "a", "b", "c"], "c": ["x", "x", "x", "y", "y", "y"], "v": [1.0, 2, 3, 4, 5, 6]})
df["d"] = pd.date_range("2024-01-15", periods=6, freq="20D")
base = alt.Chart(df)
"""


def _series(*series: dict[str, Any], **axes: Any) -> dict[str, Any]:
    """What is expected of a chart with one axes: its series, and what else is said of the axes."""
    return {"axes": [{"series": list(series), **axes}]}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sums by colour are stacked from the last name on": (
        "chart = base.mark_bar().encode(x='r:N', y=alt.Y('sum(v):Q', title='Amount (EUR)'), color='c:N').properties(title='T')",
        {
            "library": "vega-lite",
            "type": "bar",
            "title": "T",
            "truncated": False,
            "axes": [
                {
                    "arrangement": "stacked",
                    "x": {"label": "r", "scale": "category", "categories": ["a", "b", "c"]},
                    "y": {"label": "Amount (EUR)", "scale": "linear", "unit": "EUR"},
                    "series": [
                        {
                            "type": "bar",
                            "name": "x",
                            "color": "#4c78a8",
                            "x": ["a", "b", "c"],
                            "y": [1.0, 2.0, 3.0],
                            "base": [4.0, 5.0, 6.0],
                            "fields": {"x": "r", "y": "sum(v)", "color": "c"},
                            "count": 3,
                        },
                        {"name": "y", "color": "#f58518", "y": [4.0, 5.0, 6.0], "base": "missing"},
                    ],
                    "legend": {
                        "title": "c",
                        "entries": [{"label": "x", "color": "#4c78a8"}, {"label": "y", "color": "#f58518"}],
                    },
                }
            ],
        },
    ),
    "means that lie, in order of length": (
        "chart = base.mark_bar().encode(y=alt.Y('r:N', sort='-x'), x='mean(v):Q')",
        _series(
            {"type": "barh", "y": ["c", "b", "a"], "x": [4.5, 3.5, 2.5]},
            x={"label": "Mean of v", "scale": "linear"},
            y={"label": "r", "categories": ["c", "b", "a"]},
        ),
    ),
    "bars side by side": (
        "chart = base.mark_bar().encode(x='r:N', xOffset='c:N', y='sum(v):Q', color='c:N')",
        _series({"base": "missing"}, {"base": "missing"}, arrangement="grouped"),
    ),
    "shares of the whole": (
        "chart = base.mark_bar().encode(x='c:N', y=alt.Y('sum(v):Q', stack='normalize'), color='r:N')",
        _series({"y": [0.16666666666667, 0.26666666666667]}, {"name": "b"}, {"y": [0.5, 0.4], "base": "missing"}),
    ),
    "rows of one bar are stacked": (
        "chart = base.mark_bar().encode(x='c:N', y='v:Q')",
        _series({"y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "base": [0.0, 1.0, 3.0, 0.0, 4.0, 9.0]}),
    ),
    "lines over dates": (
        "chart = base.mark_line().encode(x='d:T', y='v:Q', color='c:N')",
        _series(
            {"type": "line", "x": ["2024-01-15", "2024-02-04", "2024-02-24"]},
            {"name": "y"},
            x={"label": "d", "scale": "date"},
        ),
    ),
    "sums by month": (
        "chart = base.mark_line().encode(x='yearmonth(d):T', y='sum(v):Q')",
        _series(
            {"x": ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"], "y": [1.0, 5.0, 4.0, 11.0]},
            x={"label": "d (year-month)", "scale": "date", "unit": "missing"},
        ),
    ),
    "months of any year": (
        "chart = base.mark_bar().encode(x='month(d):O', y='count()')",
        _series({"x": ["Jan", "Feb", "Mar", "Apr"], "y": [1.0, 2.0, 1.0, 2.0]}, y={"label": "Count of Records"}),
    ),
    "steps": (
        "chart = base.mark_line(interpolate='step-after').encode(x='v', y='v')",
        _series({"type": "step", "step": "post"}),
    ),
    "points with values and sizes": (
        "chart = base.mark_circle().encode(x='v', y='v', color='v', size='v')",
        _series(
            {
                "type": "scatter",
                "values": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "size": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "color_scale": {"label": "v"},
            }
        ),
    ),
    "bins as Vega makes them": (
        "chart = base.mark_bar().encode(x=alt.X('v:Q', bin=True), y='count()')",
        _series(
            {
                "type": "histogram",
                "norm": "count",
                "edges": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0],
                "counts": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0],
            },
            x={"label": "v (binned)", "scale": "linear", "unit": "missing"},
        ),
    ),
    "bins by colour": (
        "chart = base.mark_bar().encode(x=alt.X('v:Q', bin=alt.Bin(step=2)), y='count()', color='c')",
        _series(
            {"edges": [0.0, 2.0, 4.0, 6.0], "counts": [1.0, 2.0, 0.0]},
            {"counts": [0.0, 0.0, 3.0]},
        ),
    ),
    "a ring": (
        "chart = base.mark_arc(innerRadius=75).encode(theta='sum(v)', color='c')",
        _series(
            {
                "type": "pie",
                "labels": ["x", "y"],
                "values": [6.0, 15.0],
                "colors": ["#4c78a8", "#f58518"],
                "shares": False,
                "hole": 0.5,
            },
            x="missing",
        ),
    ),
    "cells": (
        "chart = base.mark_rect().encode(x='r', y='c', color='sum(v)')",
        _series(
            {"type": "heatmap", "x": ["a", "b", "c"], "y": ["x", "y"], "values": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}
        ),
    ),
    "boxes": (
        "chart = base.mark_boxplot().encode(x='c', y='v')",
        _series(
            {
                "type": "box",
                "x": ["x", "y"],
                "q1": [1.5, 4.5],
                "median": [2.0, 5.0],
                "q3": [2.5, 5.5],
                "low": [1.0, 4.0],
                "high": [3.0, 6.0],
            }
        ),
    ),
    "stacked areas": (
        "chart = base.mark_area().encode(x='r', y='v', color='c')",
        _series({"type": "area", "base": [4.0, 5.0, 6.0]}, {"base": "missing"}),
    ),
    "a band from one field to another": (
        "chart = alt.Chart(pd.DataFrame({'x': [1, 2], 'a': [5, 6], 'b': [3, 4]})).mark_area().encode(x='x', y='a', y2='b')",
        _series({"type": "band", "x": [1, 2], "y_low": [3, 4], "y_high": [5, 6]}),
    ),
    "a rule is a reference": (
        "chart = base.mark_bar().encode(x='r', y='sum(v)') + base.mark_rule(color='red').encode(y='mean(v)')",
        {"type": "bar", "axes": [{"series_count": 1, "references": [{"axis": "y", "value": 3.5, "color": "red"}]}]},
    ),
    "a rule at a constant": (
        "chart = base.mark_point().encode(x='v', y='v') + alt.Chart().mark_rule().encode(x=alt.datum(3))",
        {"axes": [{"series": [{"type": "scatter"}], "references": [{"axis": "x", "value": 3}]}]},
    ),
    "labels are texts": (
        "bars = base.mark_bar().encode(x='r', y='sum(v)'); chart = bars + bars.mark_text().encode(text='sum(v)')",
        {"axes": [{"series_count": 1, "texts": ["5.0", "7.0", "9.0"]}]},
    ),
    "layers with an axis each": (
        "chart = alt.layer(base.mark_bar().encode(x='r', y='sum(v)'), base.mark_line().encode(x='r', y='count()')).resolve_scale(y='independent')",
        {"axes": [{"type": "bar"}, {"type": "line", "twin_of": 0, "shares": "x", "series": [{"y": [2.0, 2.0, 2.0]}]}]},
    ),
    "side by side": (
        "p = base.mark_point().encode(x='v', y='v'); chart = (p | p) & p",
        {"axes": [{"row": 0, "column": 0}, {"row": 0, "column": 1}, {"row": 1, "column": 0}]},
    ),
    "facets": (
        "chart = base.mark_point().encode(x='v', y='v', row='c')",
        {
            "axes": [
                {"title": "x", "row": 0, "series": [{"x": [1.0, 2.0, 3.0]}]},
                {"title": "y", "row": 1, "series": [{"x": [4.0, 5.0, 6.0]}]},
            ]
        },
    ),
    "facets in columns": (
        "chart = base.mark_point().encode(x='v', y='v').facet('r:N', columns=2)",
        {"axes": [{"title": "a"}, {"title": "b", "column": 1}, {"title": "c", "row": 1, "column": 0}]},
    ),
    "repeated for each field": (
        "chart = base.mark_bar().encode(x=alt.X(alt.repeat('column'), type='nominal'), y='count()').repeat(column=['r', 'c'])",
        {"axes": [{"series": [{"y": [2.0, 2.0, 2.0]}]}, {"x": {"label": "c"}, "series": [{"y": [3.0, 3.0]}]}]},
    ),
    "folded columns": (
        "chart = alt.Chart(pd.DataFrame({'x': [1, 2], 'a': [3, 4], 'b': [5, 6]})).transform_fold(['a', 'b']).mark_line().encode(x='x:Q', y='value:Q', color='key:N')",
        _series({"name": "a", "y": [3, 4]}, {"name": "b", "y": [5, 6]}),
    ),
    "filtered and aggregated rows": (
        "chart = base.transform_filter(alt.FieldGTPredicate('v', 2)).transform_aggregate(t='sum(v)', groupby=['c']).mark_bar().encode(x='c:N', y='t:Q')",
        _series({"x": ["x", "y"], "y": [3.0, 15.0]}),
    ),
    "an expression is not computed": (
        "chart = base.transform_calculate(z='datum.v * 2').mark_bar().encode(x='r:N', y='sum(z):Q')",
        {
            "truncated": True,
            "axes": [
                {
                    "y": {"label": "Sum of z"},
                    "series": [
                        {
                            "type": "bar",
                            "unresolved": "calculate",
                            "fields": {"x": "r", "y": "sum(z)"},
                            "count": 6,
                            "y": "missing",
                        }
                    ],
                }
            ],
        },
    ),
    "data elsewhere": (
        "chart = alt.Chart('cars.csv').mark_point().encode(x='a:Q', y='b:Q')",
        _series({"type": "scatter", "unresolved": "url", "fields": {"x": "a", "y": "b"}}),
    ),
    "a log scale with limits": (
        "chart = base.mark_line().encode(x='v', y=alt.Y('v', scale=alt.Scale(type='log', domain=[1, 100])))",
        _series({}, y={"label": "v", "scale": "log", "limits": [1, 100]}),
    ),
    "colours of the chart's own": (
        "chart = base.mark_bar().encode(x='r', y='v', color=alt.Color('c', scale=alt.Scale(domain=['y', 'x'], range=['red', 'blue'])))",
        _series({"name": "y", "color": "red"}, {"name": "x", "color": "blue"}),
    ),
    "Vega-Lite without altair": (
        """
chart = {
    "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
    "data": {"values": [{"a": "p", "b": 1}, {"a": "q", "b": None}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "nominal"}, "y": {"field": "b", "type": "quantitative"}},
}
""",
        _series({"type": "bar", "x": ["p", "q"], "y": [1, None]}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_vega_chart_is_described(case: str, reports: Mapping[str, Any], cut: Callable[[Any, Any], Any]):
    _, expected = CASES[case]

    assert cut(reports[case]["chart"], expected) == expected
