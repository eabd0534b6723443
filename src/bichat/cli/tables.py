"""Tables that code displayed, drawn for a terminal: as many rows and columns as fit, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO, cast

from bichat.cli import terminal
from bichat.names import printable

_ROWS: Final = 20
#: Longest text of one cell.
_CELL: Final = 60
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading and its first cells, as text."""

    heading: str
    is_number: bool
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, all equally long, and how many rows it has in truth."""

    columns: tuple[Column, ...]
    total_rows: int


def read(bundle: object) -> Table | None:
    """The table in a `application/vnd.dataresource+json` value; None where that makes no sense: the code made it."""
    match bundle:
        case {"schema": {"fields": [_, *_] as fields}, "data": list(data)}:  # pyright: ignore[reportUnknownVariableType]  # JSON
            pass
        case _:
            return None
    rows = [cast("Mapping[str, Any]", row) for row in cast("list[object]", data)[:_ROWS] if isinstance(row, dict)]
    value = cast("Mapping[str, Any]", bundle)
    index = value["schema"].get("primaryKey")
    columns = tuple(_column(cast("object", field), rows, index) for field in fields)  # pyright: ignore[reportUnknownVariableType]
    total = value.get("total_rows")
    return Table(columns, max(total if isinstance(total, int) else 0, len(cast("list[object]", data))))


def draw(table: Table, stream: TextIO) -> None:
    """Draw `table` as wide as the terminal, or 160 characters; what is left out is counted below it."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table as Drawn
    from rich.text import Text

    widths = [max(cell_len(text) for text in (column.heading, *column.cells)) + _GAP for column in table.columns]
    columns = _fitting(table.columns, widths, terminal.width(stream))
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        drawn.add_column(Text(column.heading), justify="right" if column.is_number else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*(Text(cell) for cell in row))
    terminal.draw(drawn, stream)
    rows, count = len(table.columns[0].cells), len(table.columns)
    if rows < table.total_rows or len(columns) < count:
        terminal.show(f"[{table.total_rows:,} rows x {count:,} columns]\n", stream)


def _column(field: object, rows: Sequence[Mapping[str, Any]], index: object) -> Column:
    name = cast("Mapping[str, object]", field).get("name") if isinstance(field, dict) else None
    kind = cast("Mapping[str, object]", field).get("type") if isinstance(field, dict) else None
    key = name if isinstance(name, str) else json.dumps(name)
    return Column(
        heading="" if key == "index" and index == ["index"] else _text(key),
        is_number=kind in ("integer", "number"),
        cells=tuple(_text(row.get(key)) for row in rows),
    )


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            text = value
        case float():
            text = _number(value)
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= _CELL else f"{text[: _CELL - 1]}…")


def _number(value: float) -> str:
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.6g}"
    return f"{value:.6f}".rstrip("0").removesuffix(".")


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[Column]:
    """The first and the last columns, as many as have room, with a mark where others are left out."""
    if sum(widths) - _GAP <= room:
        return list(columns)
    left, right = 0, len(columns)
    room -= 1 + _GAP
    while left < right:
        takes_left = left <= len(columns) - right
        room -= widths[left] if takes_left else widths[right - 1]
        if room < 0:
            break
        if takes_left:
            left += 1
        else:
            right -= 1
    mark = Column("…", is_number=False, cells=("…",) * len(columns[0].cells))
    return [*columns[:left], mark, *columns[right:]] if left else [*columns[:1], *([mark] if len(columns) > 1 else [])]
