"""A table's values as JSON has them, each bounded."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Characters of one text in a cell; a list or a structure beyond them becomes such a text.
_MAX_TEXT: Final = 1000
_MAX_ITEMS: Final = 100
_MAX_DEPTH: Final = 5
#: Whole numbers beyond it would lose digits in JavaScript, decimals of more digits in a double.
_MAX_INTEGER: Final = 2**53 - 1
_MAX_DIGITS: Final = 15


def is_missing(value: object) -> bool:
    """None, and what pandas has beside it: NaN and NaT are not even themselves, NA is nothing that can be asked."""
    if value is None or type(value).__name__ == "NAType":
        return True
    try:
        return isinstance(value, (float, decimal.Decimal, dt.date)) and value != value  # noqa: PLR0124
    except Exception:  # noqa: BLE001  # a guest's __ne__
        return False


def cell(value: Any) -> Any:
    """A value as JSON has it, bounded; one that cannot even be put into words says so."""
    try:
        return _plain(value)
    except Exception as error:  # noqa: BLE001  # a guest's own class
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _plain(value: Any, depth: int = 0) -> Any:
    for method in ("tolist", "to_list"):  # numpy's scalars and arrays; a polars series in a list column
        if hasattr(value, method):
            value = getattr(value, method)()
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth < _MAX_DEPTH:
        nested = _nested(value, depth + 1)  # pyright: ignore[reportUnknownArgumentType]
        return nested if depth or len(json.dumps(nested)) <= _MAX_TEXT else _cut(json.dumps(nested, ensure_ascii=False))
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if is_missing(value):
        return None
    match value:
        case bool():
            ready: Any = value
        case str():
            ready = _cut(str.__str__(value))
        case int():
            ready = int(value) if abs(value) <= _MAX_INTEGER else text_of(value)
        case float() | decimal.Decimal():
            ready = _number(value)
        case dt.date() | dt.time():
            ready = value.isoformat()
        case dt.timedelta():
            ready = _duration(value)
        case _:
            ready = text_of(value)
    return ready


def _nested(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = itertools.islice(value.items(), _MAX_ITEMS)
        return {text_of(key): _plain(item, depth) for key, item in items}
    return [_plain(item, depth) for item in itertools.islice(value, _MAX_ITEMS)]


def _number(value: float | decimal.Decimal) -> float | str:
    if not math.isfinite(value):
        # JSON has no word for it; these are read as the number by Python and by JavaScript.
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, decimal.Decimal) and len(value.as_tuple().digits) > _MAX_DIGITS:
        return str(value)
    return float(value)


def _duration(value: dt.timedelta) -> str:
    """As ISO 8601 has it."""
    seconds = abs(value).total_seconds() % 60
    minutes, days = int(abs(value).seconds // 60), abs(value).days
    sign = "-" if value < dt.timedelta() else ""
    return f"{sign}P{days}DT{minutes // 60}H{minutes % 60}M{seconds:g}S"


def text_of(value: object) -> str:
    """Its words, cut."""
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
