"""Data frames and series: schema, first rows and how many there are."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]

IMPORTS = "import datetime, decimal\nimport numpy as np\nimport pandas as pd\n"


def names(table):
    return [field["name"] for field in table["schema"]["fields"]]


def types(table):
    return {field["name"]: field["type"] for field in table["schema"]["fields"]}


@pytest.fixture
def table(run):
    """`table(code)`: what is said of the value of the cell."""

    def shown(code):
        result = run(IMPORTS + code)
        assert result.ok, result.error
        assert result.stderr == ""
        assert "text/plain" in result.results[0].data
        return result.results[0].table

    return shown


def test_a_frame_is_a_table_beside_its_other_forms(run):
    result = run(f"{IMPORTS}pd.DataFrame({{'region': ['north', None], 'sales': [1, 2]}})")

    assert set(result.results[0].data) == {"text/plain", "text/html", "application/vnd.dataresource+json"}
    assert result.results[0].table == {
        "schema": {"fields": [{"name": "region", "type": "string"}, {"name": "sales", "type": "integer"}]},
        "data": [{"region": "north", "sales": 1}, {"region": None, "sales": 2}],
        "row_count": 2,
        "column_count": 2,
        "truncated": False,
    }


def test_an_index_that_says_something_comes_first(table):
    grouped = table("pd.DataFrame({'a': ['x', 'x', 'y'], 'b': [1, 2, 4]}).groupby('a').b.sum()")

    assert grouped["schema"] == {
        "fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "integer"}],
        "primaryKey": ["a"],
    }
    assert grouped["data"] == [{"a": "x", "b": 3}, {"a": "y", "b": 4}]
    assert grouped["column_count"] == 1


def test_values_are_what_json_has_for_them(table):
    found = table(
        "pd.DataFrame({'nan': [np.nan, 1.5], 'inf': [np.inf, -np.inf], 'day': pd.to_datetime(['2024-01-02', None]),"
        " 'zone': pd.to_datetime(['2024-01-01'] * 2, utc=True), 'span': pd.to_timedelta(['1 days 02:00:03', None]),"
        " 'date': [datetime.date(2024, 1, 2), None], 'money': [decimal.Decimal('1.10'), None],"
        " 'exact': [decimal.Decimal('12345678901234567890.12')] * 2, 'big': [2**60, 1], 'na': pd.array([1, None], dtype='Int64'),"
        " 'raw': [b'\\x00a', b''], 'nested': [[1, {'k': np.float32(2)}], {1, 2}], 'kind': pd.Categorical(['u', 'v'])})"
    )

    assert found["data"][0] == {
        "nan": None,
        "inf": "Infinity",
        "day": "2024-01-02T00:00:00",
        "zone": "2024-01-01T00:00:00+00:00",
        "span": "P1DT2H0M3S",
        "date": "2024-01-02",
        "money": 1.1,
        "exact": "12345678901234567890.12",
        "big": str(2**60),
        "na": 1,
        "raw": "b'\\x00a'",
        "nested": [1, {"k": 2.0}],
        "kind": "u",
    }
    assert types(found) == {
        "nan": "number",
        "inf": "number",
        "day": "datetime",
        "zone": "datetime",
        "span": "duration",
        "date": "date",
        "money": "number",
        "exact": "number",
        "big": "integer",
        "na": "integer",
        "raw": "any",
        "nested": "array",
        "kind": "string",
    }


def test_names_are_text_and_each_is_one(table):
    found = table("pd.DataFrame([[1, 2, 3, 4]], columns=['a', 'a', 7, None])")
    levels = table("pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([('sales', 'sum'), ('sales', '')]))")

    assert names(found) == ["a", "a (2)", "7", "None"]
    assert list(found["data"][0].values()) == [1, 2, 3, 4]
    assert names(levels) == ["sales / sum", "sales"]


def test_levels_of_an_index_are_columns(table):
    found = table("pd.DataFrame({'v': [1]}, index=pd.MultiIndex.from_tuples([('x', 2)], names=['k', None]))")

    assert found["schema"]["primaryKey"] == ["k", "level_1"]
    assert found["data"] == [{"k": "x", "level_1": 2, "v": 1}]


@pytest.mark.parametrize("code", ["pd.DataFrame()", "pd.DataFrame(columns=['a'])", "pd.Series(dtype=float)"])
def test_empty_ones_are_tables_too(table, code):
    found = table(code)

    assert found["data"] == []
    assert (found["row_count"], found["truncated"]) == (0, False)


def test_many_rows_and_columns_are_counted_and_cut(table):
    found = table("pd.DataFrame(np.ones((5000, 300)))")

    assert (found["row_count"], found["column_count"], found["truncated"]) == (5000, 300, True)
    assert (len(found["data"]), len(names(found))) == (100, 100)


def test_long_texts_and_much_of_them_are_cut(table):
    found = table("pd.DataFrame({f'c{n}': ['x' * 5000] * 100 for n in range(50)})")

    assert len(json.dumps(found["data"])) <= 210_000
    assert found["truncated"] is True
    assert found["data"][0]["c0"] == "x" * 1000 + "..."


def test_a_cell_of_an_odd_class_costs_the_table_nothing(run):
    result = run(
        f"{IMPORTS}"
        "class Odd:\n"
        "    def __str__(self): raise ValueError\n"
        "    __repr__ = __str__\n"
        "pd.DataFrame({'a': [Odd(), 1], 'b': pd.Series([10**5000, 2], dtype=object)})"
    )

    assert result.ok
    assert result.results[0].table["data"] == [{"a": "<Odd: ValueError>", "b": "<int: ValueError>"}, {"a": 1, "b": 2}]


def test_polars_frames_and_series_are_tables(table):
    found = table("import polars as pl\npl.DataFrame({'a': [[1, 2], None], 'b': [datetime.date(2024, 1, 2), None]})")
    series = table("import polars as pl\npl.Series('n', [1.5, None])")

    assert found["data"] == [{"a": [1, 2], "b": "2024-01-02"}, {"a": None, "b": None}]
    assert types(found) == {"a": "array", "b": "date"}
    assert series["data"] == [{"n": 1.5}, {"n": None}]


def test_arrow_tables_are_tables(table):
    found = table("import pyarrow as pa\npa.table({'a': pa.array([1, 2], pa.timestamp('ns')), 'b': [{'k': 1}, None]})")

    assert found["data"][1] == {"a": "1970-01-01T00:00:00.000000002", "b": None}
    assert types(found) == {"a": "datetime", "b": "object"}


@pytest.mark.parametrize("memory", ["256m", "512m", "1g", "1100m", "2g"])
def test_arrow_tables_are_tables_whatever_the_memory(run_script, memory):
    result = run_script("import pyarrow as pa\npa.array(range(1000)).sum()", memory=memory)

    assert result.ok, result.error
    assert result.results[0].data["text/plain"] == "<pyarrow.Int64Scalar: 499500>"


def test_a_duckdb_relation_is_counted_up_to_a_million_rows(table):
    few = table("import duckdb\nduckdb.sql('select 1 a, 2.5::decimal(10, 2) b')")
    many = table("duckdb.sql('select * from range(1000000)')")
    uncounted = table("duckdb.sql('select * from range(1000001)')")

    assert few["data"] == [{"a": 1, "b": 2.5}]
    assert (few["row_count"], few["truncated"]) == (1, False)
    assert (many["row_count"], many["truncated"], len(many["data"])) == (1_000_000, True, 100)
    assert (uncounted["row_count"], uncounted["truncated"]) == (None, True)


def test_what_is_no_table_has_none(run):
    assert run("[1, 2]").results[0].table is None
