"""Values as JSON has them, and bounds on everything that a chart's description holds."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

#: Axes of one chart; of more, the first.
MAX_AXES: Final = 50
#: Series of all axes together; of more, the first.
MAX_SERIES: Final = 200
#: Values of one series; of more points, so many evenly spread, the first and the last among them.
MAX_POINTS: Final = 1000
#: Values of all series together, shared out evenly between them.
MAX_TOTAL_POINTS: Final = 10_000
#: Outliers of one box.
MAX_OUTLIERS: Final = 100
#: Categories, ticks and references of an axis, entries of a legend, texts.
MAX_LABELS: Final = 200
#: Characters of one text.
MAX_TEXT: Final = 200
_MIDNIGHT: Final = re.compile(r"(?<=^\d{4}-\d\d-\d\d)T00:00:00(\.0+)?$")
#: Significant digits of numbers that are computed from what is drawn.
_DIGITS: Final = 14
#: Bytes of JSON; of more, the largest series keep no values.
MAX_BYTES: Final = 1_000_000


def put(document: dict[str, Any], key: str, values: Sequence[Any]) -> None:
    """Set `document[key]` to the values, or to the first of too many."""
    document[key] = list(values[:MAX_LABELS])
    if len(values) > MAX_LABELS:
        document[f"{key}_count"] = len(values)
        document["truncated"] = True


def legend(title: str, entries: Sequence[tuple[str, str | None]]) -> dict[str, Any] | None:
    """The description of a legend with labels and colours; None of one without entries."""
    if not entries:
        return None
    document: dict[str, Any] = {"title": text(title)}
    named = [
        {"label": text(label), "color": text(color)} if color else {"label": text(label)} for label, color in entries
    ]
    put(document, "entries", named)
    return document


def common_type(types: Iterable[str]) -> str:
    """The one type of all; `mixed` where there are several."""
    distinct = set(types)
    # A band goes with what it surrounds.
    if len(distinct) > 1:
        distinct.discard("band")
    return distinct.pop() if len(distinct) == 1 else "mixed"


def unit_of(label: str) -> str:
    """What stands in brackets at the end of an axis's label: `kg` of `Weight (kg)`."""
    for opening, closing in ("()", "[]"):
        if label.endswith(closing) and opening in label:
            unit = label[label.rindex(opening) + 1 : -1].strip()
            if 0 < len(unit) <= 20:
                return unit
    return ""


def axis_document(label: str, scale: str, *, unit: str | None = None, **rest: Any) -> dict[str, Any]:
    """The description of one axis; without `unit` the label tells it.  Of the rest, what is None or empty is left out."""
    document: dict[str, Any] = {"label": text(label), "scale": scale}
    unit = unit_of(label) if unit is None else unit
    if unit:
        document["unit"] = text(unit)
    for key in ("categories", "ticks"):
        values = rest.pop(key, None)
        if values:
            put(document, key, values)
    document.update({key: value for key, value in rest.items() if value is not None and value is not False})
    return document


# ------------------------------------------------------------------------------------------------------ values


def spread(count: int, limit: int) -> Sequence[int]:
    """Numbers of so many of `count` points, evenly spread, with the first and the last."""
    if count <= limit:
        return range(count)
    return [number * (count - 1) // (limit - 1) for number in range(limit)]


def taken(values: Any, numbers: Sequence[int]) -> Any:
    """Those of `values` that have these numbers."""
    if isinstance(numbers, range) and len(numbers) == len(values):
        return values
    if is_array(values):
        return values[list(numbers)]
    return [values[number] for number in numbers]


def is_array(value: object) -> bool:
    """Whether it is one of numpy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def plain_values(values: Any) -> list[Any]:
    """A column as JSON has it."""
    if is_array(values):
        if values.dtype.kind == "M":
            return iso_dates(values)
        is_plain = values.dtype.kind == "f" and bool(sys.modules["numpy"].isfinite(values).all())
        values = values.tolist()
        if is_plain:
            return values
    return [plain(value) for value in values]


def plain(value: Any) -> Any:
    """A value as JSON has it: a date as ISO text, null for what is missing or without bounds, text for the rest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # plotly writes nanoseconds, and midnights, that matplotlib's dates have not.
        return text(_MIDNIGHT.sub("", value) if value[10:11] == "T" else value)
    if isinstance(value, (int, float, decimal.Decimal)):
        return int(value) if isinstance(value, int) else float(value) if math.isfinite(value) else None
    if isinstance(value, (dt.date, dt.time)):
        # NaT, which is a date by its kind, is not itself.
        return _MIDNIGHT.sub("", value.isoformat()) if value == value else None  # noqa: PLR0124
    if isinstance(value, (list, tuple)) or is_array(value):
        return plain_values(value)
    return _of_a_library(value)


def _of_a_library(value: Any) -> Any:
    """One of numpy's scalars, nothing in the words of pandas or numpy, or the text of anything else."""
    if type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return None
    if not hasattr(value, "tolist") or not hasattr(value, "dtype"):
        return text(value)
    if value.dtype.kind == "M":
        return iso_dates(sys.modules["numpy"].array([value]))[0]
    item = value.tolist()
    return None if hasattr(item, "tolist") else plain(item)


def iso_dates(values: Any) -> list[str | None]:
    """Numpy's dates as ISO text: days where all are at midnight, to the second or finer where they are not."""
    numpy = sys.modules["numpy"]
    if not len(values):
        return []
    moments = values.astype("datetime64[us]")
    known = moments[~numpy.isnat(moments)]
    for unit in ("D", "s", "ms"):
        if (known.astype(f"datetime64[{unit}]") == known).all():
            moments = moments.astype(f"datetime64[{unit}]")
            break
    return [None if shown == "NaT" else shown for shown in numpy.datetime_as_string(moments).tolist()]


def text(value: object) -> str:
    """A text of bounded length."""
    shown = str.__str__(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"


def tidy(number: float) -> float:
    """A number that was computed from what is drawn, without the last digits, which are noise."""
    return float(f"{number:.{_DIGITS}g}")


def tidy_values(numbers: Iterable[Any]) -> list[float]:
    """All of them tidy, each as fine as the largest of them is."""
    values = [float(number) for number in numbers]
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if not largest:
        return values
    digits = _DIGITS - 1 - math.floor(math.log10(largest))
    return [tidy(round(value, digits)) if math.isfinite(value) else value for value in values]
