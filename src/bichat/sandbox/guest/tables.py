"""Data frames and series as tables of JSON: names, types, the first rows, and how much there is in all.

The form is that of the Frictionless "tabular data resource", as pandas writes it, with `row_count`, `column_count` and
`truncated` beside it.
"""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bichat.sandbox.guest.table_cells import cell, is_missing, text_of

MAX_ROWS: Final = 100
#: Rows of a relation, which nobody has counted yet, that are counted; of more it is not known how many there are.
_MAX_COUNTED: Final = 1_000_000
MAX_COLUMNS: Final = 100
#: Bytes of JSON that the rows take.
MAX_BYTES: Final = 200_000

#: Names of column types, as pandas, polars, Arrow and DuckDB write them in lower case, and the table's own.
_TYPES: Final = (
    (re.compile(r"(?!.*binary).*\[\d*\]$|list|large_list|array|fixed_size_list|map<"), "array"),
    (re.compile(r"u?int(eger)?\d*\b|(u?(big|huge|small|tiny))int|uinteger"), "integer"),
    (re.compile(r"float|double|real|decimal|numeric|half"), "number"),
    (re.compile(r"bool"), "boolean"),
    (re.compile(r"datetime|timestamp"), "datetime"),
    (re.compile(r"date"), "date"),
    (re.compile(r"duration|timedelta|interval$"), "duration"),
    (re.compile(r"time"), "time"),
    (re.compile(r"struct|map\("), "object"),
    (re.compile(r"str|large_string|utf8|varchar|uuid"), "string"),
)
#: The same for Python's values, where the column's type does not tell; the first that fits.
_VALUE_TYPES: Final = (
    (bool, "boolean"),
    (numbers.Integral, "integer"),
    ((numbers.Real, decimal.Decimal), "number"),
    (str, "string"),
    (dt.datetime, "datetime"),
    (dt.date, "date"),
    (dt.time, "time"),
    (dt.timedelta, "duration"),
    (Mapping, "object"),
    ((list, tuple, set, frozenset), "array"),
)


class _Column(NamedTuple):
    name: str
    type_name: str
    values: Sequence[Any]


class _Table(NamedTuple):
    columns: list[_Column]
    row_count: int | None
    column_count: int
    index_count: int = 0
    """How many of the first columns are the index."""


def describe(value: object) -> dict[str, Any] | None:
    """The table that `value` is; None where it is none."""
    for kind in type(value).__mro__:
        read = _READERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if read is not None:
            return _document(read(value))
    return None


def _document(table: _Table) -> dict[str, Any]:
    names = _unique([column.name for column in table.columns])
    fields = [{"name": name, "type": _field_type(column)} for name, column in zip(names, table.columns, strict=True)]
    schema: dict[str, Any] = {"fields": fields}
    if table.index_count:
        schema["primaryKey"] = names[: table.index_count]
    rows: list[dict[str, Any]] = []
    size = 0
    for row in itertools.islice(zip(*(column.values for column in table.columns), strict=True), MAX_ROWS):
        record = dict(zip(names, map(cell, row), strict=True))
        size += len(json.dumps(record))
        if size > MAX_BYTES:
            break
        rows.append(record)
    shown_columns = len(table.columns) - table.index_count
    return {
        "schema": schema,
        "data": rows,
        "row_count": table.row_count,
        "column_count": table.column_count,
        "truncated": table.row_count != len(rows) or table.column_count != shown_columns,
    }


def _unique(names: list[str]) -> list[str]:
    """The names, those that occur again with a number behind them: they are keys of the records."""
    taken = set(names)
    seen: set[str] = set()
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in seen or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name} ({number})"
        seen.add(candidate)
        unique.append(candidate)
    return unique


def _field_type(column: _Column) -> str:
    name = column.type_name.lower()
    for pattern, field_type in _TYPES:
        if pattern.match(name):
            return field_type
    kinds = {_value_type(value) for value in column.values if not is_missing(value)}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "any"


def _value_type(value: object) -> str:
    return next((name for kind, name in _VALUE_TYPES if isinstance(value, kind)), "any")


def _name(label: object) -> str:
    """A column's name; the levels of a compound one side by side."""
    if isinstance(label, tuple):
        return " / ".join(text_of(level) for level in label if level not in ("", None))  # pyright: ignore[reportUnknownVariableType]
    return text_of(label)


def _pandas_frame(frame: Any) -> _Table:
    head = frame.iloc[:MAX_ROWS, :MAX_COLUMNS]
    columns = [
        _Column(_name(label), str(dtype), list(head.iloc[:, number]))
        for number, (label, dtype) in enumerate(zip(head.columns, head.dtypes, strict=True))
    ]
    return _with_index(frame, columns, frame.shape[1])


def _pandas_series(series: Any) -> _Table:
    name = "values" if series.name is None else _name(series.name)
    return _with_index(series, [_Column(name, str(series.dtype), list(series.iloc[:MAX_ROWS]))], 1)


def _with_index(value: Any, columns: list[_Column], column_count: int) -> _Table:
    """The index as first columns, unless it only counts the rows."""
    index = value.index
    levels: list[_Column] = []
    is_count = type(index).__name__ == "RangeIndex" and index.name is None and (index.start, index.step) == (0, 1)
    if not is_count:
        head = index[:MAX_ROWS]
        for number, name in enumerate(index.names):
            level = head.get_level_values(number)
            label = f"level_{number}" if index.nlevels > 1 else "index"
            levels.append(_Column(label if name is None else _name(name), str(level.dtype), list(level)))
    return _Table([*levels, *columns], len(index), column_count, len(levels))


def _polars_frame(frame: Any) -> _Table:
    head = frame.head(MAX_ROWS)
    columns = [_Column(series.name, str(series.dtype), series.to_list()) for series in head.get_columns()[:MAX_COLUMNS]]
    return _Table(columns, frame.height, frame.width)


def _polars_series(series: Any) -> _Table:
    return _Table(
        [_Column(series.name or "values", str(series.dtype), series.head(MAX_ROWS).to_list())], len(series), 1
    )


def _arrow_table(table: Any) -> _Table:
    head = table.slice(0, MAX_ROWS)
    columns = [
        _Column(field.name, str(field.type), _arrow_values(head.column(number)))
        for number, field in enumerate(list(table.schema)[:MAX_COLUMNS])
    ]
    return _Table(columns, table.num_rows, table.num_columns)


def _arrow_values(column: Any) -> list[Any]:
    try:
        return column.to_pylist()
    except Exception:  # noqa: BLE001  # a value that Python has no type for: nanoseconds without pandas
        return [str(value) for value in column]


def _duckdb_relation(relation: Any) -> _Table:
    """The first rows of its result, and how many there are, which takes running its query once more."""
    rows = relation.limit(MAX_ROWS + 1).fetchall()
    count = len(rows)
    if count > MAX_ROWS:
        count = relation.limit(_MAX_COUNTED + 1).aggregate("count(*)").fetchone()[0]
    named = list(zip(relation.columns, relation.types, strict=True))
    columns = [
        _Column(name, str(kind), [row[number] for row in rows[:MAX_ROWS]])
        for number, (name, kind) in enumerate(named[:MAX_COLUMNS])
    ]
    return _Table(columns, count if count <= _MAX_COUNTED else None, len(named))


_READERS: Final[dict[tuple[str, str], Callable[[Any], _Table]]] = {
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): _polars_series,
    ("pyarrow", "Table"): _arrow_table,
    ("pyarrow", "RecordBatch"): _arrow_table,
    ("duckdb", "DuckDBPyRelation"): _duckdb_relation,
    ("_duckdb", "DuckDBPyRelation"): _duckdb_relation,
}
"""By the package and the name of a class, or of one that it is derived from."""
