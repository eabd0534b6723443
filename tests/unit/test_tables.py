"""Tables that code displayed, as text of a given width, whatever the code put into them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from bichat.cli import tables


def _table(rows: list[Any], *fields: tuple[str, str], **more: Any) -> dict[str, Any]:
    schema = {"fields": [{"name": name, "type": kind} for name, kind in fields]}
    counts = {"row_count": len(rows), "column_count": len(fields)}
    return {"schema": schema | more.pop("schema", {}), "data": rows} | counts | more


def _drawn(value: object) -> list[str]:
    table = tables.read(value)
    assert table is not None
    stream = io.StringIO()
    tables.draw(table, stream)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_numbers_stand_right_with_the_decimals_that_their_column_needs():
    rows = [{"n": 1, "x": 1.0, "s": "a"}, {"n": 1000, "x": 0.125, "s": "bc"}, {"n": None, "x": 1e20, "s": None}]

    assert _drawn(_table(rows, ("n", "integer"), ("x", "number"), ("s", "string"))) == [
        "   n       x   s",
        "───────────────────",
        "   1   1.000   a",
        "1000   0.125   bc",
        "null   1e+20   null",
    ]


def test_days_are_shown_without_midnight():
    days = [{"day": "2025-01-31T00:00:00"}, {"day": None}]
    moments = [{"day": "2025-01-31T00:00:00"}, {"day": "2025-01-31T12:30:00"}]

    assert _drawn(_table(days, ("day", "datetime")))[2:] == ["2025-01-31", "null"]
    assert _drawn(_table(moments, ("day", "datetime")))[2:] == ["2025-01-31 00:00:00", "2025-01-31 12:30:00"]


def test_an_index_without_a_name_has_no_heading():
    table = _table(
        [{"index": "sum", "x": 1}],
        ("index", "string"),
        ("x", "integer"),
        schema={"primaryKey": ["index"]},
        column_count=1,
    )

    assert _drawn(table) == ["      x", "───────", "sum   1"]


def test_rows_and_columns_that_do_not_fit_are_counted():
    names = [f"column_{number}" for number in range(40)]
    rows = [dict.fromkeys(names, "x") for _ in range(30)]
    drawn = _drawn(_table(rows, *((name, "string") for name in names), row_count=12_345))

    assert drawn[0].startswith("column_0   column_1 ")
    assert drawn[0].endswith(" column_39")
    assert "…" in drawn[0]
    assert max(map(len, drawn)) <= 160
    assert drawn[-1] == "[12,345 rows x 40 columns]"


def test_rows_that_nobody_has_counted_are_more_than_those_that_came():
    table = _table([{"x": 1}] * 100, ("x", "integer"), row_count=None)

    assert _drawn(table)[-1] == "[more than 100 rows x 1 columns]"


def test_columns_that_did_not_come_are_marked_at_the_end():
    drawn = _drawn(_table([{"x": 1}], ("x", "integer"), column_count=200))

    assert drawn == ["x   …", "─────", "1   …", "[1 rows x 200 columns]"]


def test_a_table_without_rows_shows_its_columns():
    assert _drawn(_table([], ("a", "string"), ("b", "string"))) == ["a   b", "─────", "[0 rows x 2 columns]"]


def test_long_and_wicked_texts_stay_on_their_line():
    drawn = _drawn(_table([{"a\x1b[2J": "x" * 500}, {"a\x1b[2J": "two\nlines\u202e"}], ("a\x1b[2J", "string")))

    assert drawn == [r"a\x1b[2J", "─" * 60, "x" * 59 + "…", r"two\nlines\u202e"]


def test_wide_characters_take_their_room():
    drawn = _drawn(_table([{"城市": "北京", "n": 1}, {"城市": "x", "n": 2}], ("城市", "string"), ("n", "integer")))

    assert drawn[2:] == ["北京   1", "x      2"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "table",
        {"schema": None, "data": []},
        {"schema": {"fields": []}, "data": []},
        {"schema": {"fields": "ab"}, "data": []},
        {"schema": {"fields": [{"name": "a"}]}, "data": {"a": 1}},
    ],
)
def test_what_is_no_table_is_not_drawn(value):
    assert tables.read(value) is None


def test_a_table_that_makes_little_sense_is_drawn_as_far_as_it_does():
    value = {"schema": {"fields": [None, {"name": ["x"], "type": 5}]}, "data": [7, {"None": True}], "row_count": "many"}

    assert _drawn(value)[2:] == ["null   null", "true   null", "[more than 2 rows x 2 columns]"]
