"""Tables that code displayed, drawn for a terminal: as many rows and columns as fit, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO, cast

from bichat.cli import terminal
from bichat.names import printable

_ROWS: Final = 20
#: Longest text of one cell.
_CELL: Final = 60
_GAP: Final = 3
_MIDNIGHT: Final = " 00:00:00"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading and its first cells, as text."""

    heading: str
    is_number: bool
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, all equally long, and how many rows and columns it has in truth."""

    columns: tuple[Column, ...]
    row_count: str
    """As a number, or how many there are at least."""
    column_count: int


def read(value: object) -> Table | None:
    """The table in an `application/vnd.dataresource+json` value; None where that makes no sense: code made it."""
    match value:
        case {"schema": {"fields": [_, *_] as fields} as schema, "data": list(data)}:  # pyright: ignore[reportUnknownVariableType]  # JSON
            pass
        case _:
            return None
    rows = [_mapping(row) for row in cast("list[object]", data)[:_ROWS]]
    index = _mapping(cast("object", schema)).get("primaryKey")
    columns = tuple(_column(_mapping(field), rows, index) for field in cast("list[object]", fields))
    counts = cast("Mapping[str, object]", value)
    row_count, column_count = counts.get("row_count"), counts.get("column_count")
    return Table(
        columns,
        f"{row_count:,}" if isinstance(row_count, int) else f"more than {len(cast('list[object]', data)):,}",
        column_count if isinstance(column_count, int) else len(columns),
    )


def draw(table: Table, stream: TextIO) -> None:
    """Draw `table` as wide as the terminal, or 160 characters; what is left out is counted below it."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table as Drawn
    from rich.text import Text

    widths = [max(cell_len(text) for text in (column.heading, *column.cells)) + _GAP for column in table.columns]
    columns = _fitting(table, widths, terminal.width(stream))
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        drawn.add_column(Text(column.heading), justify="right" if column.is_number else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(Text(cell) for cell in row))
    terminal.draw(drawn, stream)
    rows = len(table.columns[0].cells)
    if not rows or f"{rows:,}" != table.row_count or columns != table.columns:
        terminal.show(f"[{table.row_count} rows x {table.column_count:,} columns]\n", stream)


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _column(field: Mapping[str, object], rows: Sequence[Mapping[str, object]], index: object) -> Column:
    name, kind = str(field.get("name")), field.get("type")
    values = [row.get(name) for row in rows]
    if kind == "number":
        cells = _numbers(values)
    elif kind == "datetime":
        cells = _moments(values)
    else:
        cells = [_text(value) for value in values]
    return Column(
        heading="" if name == "index" and index == ["index"] else _cut(name),
        is_number=kind in ("integer", "number"),
        cells=tuple(cells),
    )


def _numbers(values: Sequence[object]) -> list[str]:
    """With as many decimals as the column needs, but six at most."""
    plain = [value for value in values if isinstance(value, float) and _is_plain(value)]
    decimals = max((len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in plain), default=0)
    return [
        (f"{value:.{max(decimals, 1)}f}" if _is_plain(value) else f"{value:.6g}")
        if isinstance(value, float)
        else _text(value)
        for value in values
    ]


def _is_plain(value: float) -> bool:
    return value == 0 or 1e-4 <= abs(value) < 1e15


def _moments(values: Sequence[object]) -> list[str]:
    """Without the time of day where that is midnight in the whole column."""
    texts = [_text(value).replace("T", " ", 1) for value in values]
    if all(value is None or text.endswith(_MIDNIGHT) for value, text in zip(values, texts, strict=True)):
        return [text.removesuffix(_MIDNIGHT) for text in texts]
    return texts


def _text(value: object) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return printable(text if len(text) <= _CELL else f"{text[: _CELL - 1]}…")


def _fitting(table: Table, widths: Sequence[int], room: int) -> tuple[Column, ...]:
    """The first and the last columns, as many as have room, with a mark where others are left out."""
    columns = table.columns
    mark = Column("…", is_number=False, cells=("…",) * len(columns[0].cells))
    has_all = len(columns) >= table.column_count
    if has_all and sum(widths) - _GAP <= room:
        return columns
    left, right = 1, len(columns)
    room -= widths[0] + 1
    while left < right:
        takes_left = not has_all or left <= len(columns) - right
        room -= widths[left] if takes_left else widths[right - 1]
        if room < 0:
            break
        if takes_left:
            left += 1
        else:
            right -= 1
    return (*columns[:left], mark, *(columns[right:] if has_all else ()))
