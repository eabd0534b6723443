"""The page about the soak is one that a run of what is here has written."""

from __future__ import annotations

from pathlib import Path

from soak.report import HEAD, RULE

ROOT = Path(__file__).parents[2]


def test_the_page_is_written_by_a_run_of_what_is_here():
    page = (ROOT / "docs" / "soak.md").read_text(encoding="utf-8")

    assert page.startswith(HEAD)
    assert RULE.strip() in page
