"""What the terminal says of displayed values."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import anyio
import pytest

from bichat.cli.showing import Screen
from bichat.domain import CHART_TYPE, Result
from bichat.events import Displayed, Event


async def displayed(chart: Any) -> AsyncGenerator[Event]:
    yield Displayed(Result(data={CHART_TYPE: chart, "text/plain": "<plotly figure: bar>"}))


def words(chart: Any, capsys: pytest.CaptureFixture[str]) -> str:
    with suppress(AssertionError):  # there is no end
        anyio.run(Screen().follow, displayed(chart))
    return capsys.readouterr().out


def test_a_chart_without_an_image_is_told_in_words_with_how_to_see_it(capsys):
    series = [{"name": "2024", "type": "bar", "count": 3}, {"name": "", "type": "line", "count": 1}]
    chart = {"library": "plotly", "type": "mixed", "title": "Sales", "axes": [{"series": series}]}

    said = words(chart, capsys)

    assert said.splitlines()[:3] == ["plotly mixed chart: Sales", "  2024: 3 points", "  line: 1 points"]
    assert "write_html" in said


def test_of_many_series_the_first_are_named(capsys):
    chart = {
        "library": "vega-lite",
        "type": "line",
        "title": "",
        "axes": [{"series": [{"name": "s", "count": 1}] * 25}],
    }

    assert "  and 15 more" in words(chart, capsys).splitlines()


@pytest.mark.parametrize("axes", [None, 3, [1], [{"series": 5}], [{"series": [None]}], "text"])
def test_a_chart_that_makes_no_sense_is_shown_as_far_as_it_does(capsys, axes):
    assert words({"library": 1, "type": [], "axes": axes, "title": None}, capsys).startswith("1")
