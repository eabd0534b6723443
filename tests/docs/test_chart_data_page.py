"""The page on chart data names every bound with its value, and every type of series that the tests know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bichat.sandbox.guest.charts import shape

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "chart-data.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "src" / "bichat" / "sandbox" / "guest" / "charts").glob("*.py"))


@pytest.mark.parametrize("bound", [name for name in vars(shape) if name.startswith("MAX_")])
def test_a_bound_is_documented_with_its_value(bound: str):
    assert re.search(rf"^\| `{bound}` \| {getattr(shape, bound)}\b", PAGE, re.MULTILINE)


def test_every_type_of_series_is_documented():
    types = {found for source in SOURCES for found in re.findall(r'\btype="(\w+)"', source.read_text(encoding="utf-8"))}

    assert sorted(name for name in types if f"`{name}`" not in PAGE) == []
