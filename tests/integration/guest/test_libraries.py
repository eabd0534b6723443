"""Charts of plotly and altair: shown without a browser, as data that a page can draw."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]

PLOTLY = "application/vnd.plotly.v1+json"
VEGA_LITE = "application/vnd.vegalite.v6+json"
BAR = "import plotly.express as px\nfigure = px.bar(x=['a', 'b'], y=[1, 2], title='Sales')\n"
CHART = (
    "import altair as alt\nimport pandas as pd\n"
    "chart = alt.Chart(pd.DataFrame({'a': [1, 2], 'b': [3, 4]})).mark_bar().encode(x='a', y='b')\n"
)


def size(result):
    return sum(len(str(value)) for shown in result.results for value in shown.data.values())


@pytest.mark.parametrize("show", ["figure", "figure.show()", "display(figure)", "figure.show(renderer='browser')"])
def test_a_plotly_figure_is_shown_as_its_data(run, show):
    result = run(BAR + show)

    assert result.ok, result.error
    assert [shown.text for shown in result.results] == ["<plotly figure: bar, 'Sales'>"]
    assert result.results[0].data[PLOTLY]["layout"]["title"]["text"] == "Sales"
    assert "text/html" not in result.results[0].data
    assert size(result) < 100_000


def test_a_renderer_chosen_for_notebooks_changes_nothing(run):
    result = run(f"import plotly.io as pio\npio.renderers.default = 'notebook'\n{BAR}figure.show()\nfigure")

    assert [PLOTLY in shown.data for shown in result.results] == [True, True]
    assert size(result) < 100_000


def test_a_plotly_figure_given_as_data_is_shown(run):
    result = run("import plotly.io as pio\npio.show({'data': [{'type': 'bar', 'y': [1, 2]}]})")

    assert result.results[0].data[PLOTLY]["data"][0]["type"] == "bar"


def test_a_plotly_figure_that_is_too_large_says_so(run):
    result = run("import plotly.graph_objects as go\ngo.Figure(go.Scatter(y=list(map(str, range(2_000_000)))))")

    assert PLOTLY not in result.results[0].data
    assert "too large to be displayed" in result.results[0].text


@pytest.mark.parametrize("show", ["chart", "chart.show()", "display(chart)", "chart.display()"])
def test_an_altair_chart_is_shown_as_its_specification(run, show):
    result = run(CHART + show)

    assert result.ok, result.error
    assert result.results[0].data[VEGA_LITE]["mark"]["type"] == "bar"
    assert size(result) < 100_000


def test_an_altair_chart_is_drawn_where_the_code_asks_for_an_image(run):
    result = run(f"{CHART}alt.renderers.enable('png')\nchart")

    assert result.results[-1].data["image/png"].startswith(b"\x89PNG")
    assert VEGA_LITE in result.results[-1].data


def test_an_altair_chart_of_too_many_rows_says_what_to_do(run):
    result = run(
        "import altair as alt, pandas as pd\nalt.Chart(pd.DataFrame({'a': range(6000)})).mark_point().encode(x='a')"
    )

    assert "MaxRowsError" in result.stderr
