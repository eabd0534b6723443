"""The rows behind a Vega-Lite view, and what its channels make of them: fields, bins, units of time, aggregates.

What is not understood here, an expression above all, is `Unresolved`: the view is then described without values.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from bichat.sandbox.guest.charts import aggregates, shape

#: Rows that are looked at; with more, a chart is described without values.
MAX_ROWS: Final = 20_000
_SEQUENCE: Final = "data"
#: Bins at most: a channel of positions, and one of rows, columns, sizes or colours.
_MAX_BINS: Final = 10
_MAX_OTHER_BINS: Final = 6
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_AGGREGATE_WORDS: Final = {"average": "Average", "distinct": "Distinct", "valid": "Valid", "count": "Count"}
_UNIT_WORDS: Final = re.compile(r"year|quarter|month|week|dayofyear|date|day|hours|minutes|seconds|milliseconds")

Row = Mapping[str, Any]


class Unresolved(Exception):  # noqa: N818  # not an error: the description says so and goes on
    """The values cannot be computed here; the message says for what."""


def rows_of(data: Any, datasets: Mapping[str, Any]) -> Sequence[Row]:
    """The rows of a data source that is in the chart itself."""
    if not isinstance(data, Mapping):
        raise Unresolved("data")
    values = data.get("values", datasets.get(str(data.get("name"))))
    if values is None and isinstance(data.get("sequence"), Mapping):
        values = _sequence(data["sequence"])
    if isinstance(values, Mapping):
        values = [values]
    if not isinstance(values, (list, tuple)):
        raise Unresolved("url" if "url" in data else "data")
    if len(values) > MAX_ROWS:
        raise Unresolved("rows")
    return [row if isinstance(row, Mapping) else {_SEQUENCE: row} for row in values]


def _sequence(described: Mapping[str, Any]) -> list[Row]:
    start, stop, step = described.get("start", 0), described["stop"], described.get("step", 1)
    name = str(described.get("as", _SEQUENCE))
    count = int((stop - start) / step + 1 - 1e-9)
    return [{name: shape.tidy(start + step * number)} for number in range(min(count, MAX_ROWS + 1))]


def transformed(rows: Sequence[Row], transforms: Iterable[Mapping[str, Any]]) -> Sequence[Row]:
    """The rows after the transforms that are understood: folds, aggregates, and filters of one field."""
    for transform in transforms:
        if "fold" in transform:
            key, value = transform.get("as", ("key", "value"))
            rows = [{**row, key: name, value: row.get(name)} for row in rows for name in transform["fold"]]
        elif "aggregate" in transform and isinstance(transform["aggregate"], list):
            rows = _aggregated(rows, transform)
        elif isinstance(transform.get("filter"), Mapping):
            keep = _predicate(transform["filter"])
            rows = [row for row in rows if keep(row)]
        else:
            raise Unresolved(next(iter(transform), "transform"))
    return rows


def _aggregated(rows: Sequence[Row], transform: Mapping[str, Any]) -> Sequence[Row]:
    groupby = list(transform.get("groupby", ()))
    groups = aggregates.grouped((tuple(shape.plain(row.get(name)) for name in groupby) for row in rows), rows)
    found: list[Row] = []
    for key, members in groups.items():
        row: dict[str, Any] = dict(zip(groupby, key, strict=True))
        for one in transform["aggregate"]:
            row[str(one["as"])] = _aggregate(one["op"], [member.get(one.get("field")) for member in members])
        found.append(row)
    return found


def _aggregate(name: Any, values: Sequence[Any]) -> float | None:
    try:
        return aggregates.aggregate(name, values)
    except (KeyError, TypeError):
        raise Unresolved(f"aggregate {name}") from None


def _predicate(described: Mapping[str, Any]) -> Callable[[Row], bool]:
    """A filter of one field by a constant."""
    comparisons: dict[str, Callable[[Any, Any], bool]] = {
        "equal": lambda value, bound: value == bound,
        "lt": lambda value, bound: value is not None and value < bound,
        "lte": lambda value, bound: value is not None and value <= bound,
        "gt": lambda value, bound: value is not None and value > bound,
        "gte": lambda value, bound: value is not None and value >= bound,
        "oneOf": lambda value, bound: value in bound,
        "range": lambda value, bound: value is not None and bound[0] <= value <= bound[1],
    }
    for name, holds in comparisons.items():
        if name in described and isinstance(described.get("field"), str) and "timeUnit" not in described:
            bound, field = described[name], str(described["field"])
            return lambda row: holds(row.get(field), bound)
    raise Unresolved("filter")


# ------------------------------------------------------------------------------------------------------- channels


class Channel(NamedTuple):
    """What a view shows by one of its means: x, y, colour, size."""

    name: str
    definition: Mapping[str, Any]

    @property
    def field(self) -> str | None:
        """The field, None of a count and of a constant."""
        found = self.definition.get("field")
        return found if isinstance(found, str) else None

    @property
    def operation(self) -> Any:
        """The aggregate, None where each row is shown."""
        return self.definition.get("aggregate")

    @property
    def is_binned(self) -> bool:
        """Whether its values are put into bins here."""
        return bool(self.definition.get("bin")) and self.definition["bin"] != "binned"

    @property
    def unit(self) -> str:
        """The unit of time that it is rounded to."""
        found = self.definition.get("timeUnit")
        unit = found.get("unit", "") if isinstance(found, Mapping) else found
        return str(unit or "").removeprefix("utc")

    @property
    def has_values(self) -> bool:
        """Whether it shows something of the data."""
        return self.field is not None or self.operation is not None

    @property
    def type(self) -> str:
        """`quantitative`, `temporal`, `ordinal` or `nominal`; as Vega-Lite guesses where it is not said."""
        found = self.definition.get("type")
        if found:
            return str(found)
        if self.operation or self.definition.get("bin") or isinstance(self.definition.get("datum"), (int, float)):
            return "quantitative"
        return "temporal" if self.unit else "nominal"

    @property
    def is_discrete(self) -> bool:
        """Whether it stands for names rather than amounts."""
        return self.type in ("nominal", "ordinal")

    @property
    def words(self) -> str:
        """What it shows, as `sum(amount)`."""
        if isinstance(self.operation, str):
            return f"{self.operation}({self.field or ''})"
        if self.field is None:
            return ""
        return f"bin({self.field})" if self.is_binned else f"{self.unit}({self.field})" if self.unit else self.field

    @property
    def title(self) -> str:
        """Its title, by default the one that Vega-Lite makes."""
        for holder in (self.definition.get("axis"), self.definition.get("legend"), self.definition):
            if isinstance(holder, Mapping) and "title" in holder:
                title = holder["title"]
                return " ".join(map(str, title)) if isinstance(title, list) else str(title or "")
        if isinstance(self.operation, str):
            if self.operation == "count":
                return "Count of Records"
            return f"{_AGGREGATE_WORDS.get(self.operation, self.operation.capitalize())} of {self.field}"
        if self.field is None:
            return ""
        if self.is_binned:
            return f"{self.field} (binned)"
        return f"{self.field} ({'-'.join(_UNIT_WORDS.findall(self.unit))})" if self.unit else self.field

    def value(self, row: Row) -> Any:
        """The value of a row, before bins and aggregates."""
        if "datum" in self.definition:
            return self.definition["datum"]
        value = _field_value(row, self.field) if self.field is not None else None
        if self.unit:
            return _rounded(value, self.unit)
        return _moment(value) if self.type == "temporal" else value


def _field_value(row: Row, field: str) -> Any:
    if field in row:
        return row[field]
    plain = re.sub(r"\\(.)", r"\1", field)
    if plain in row:
        return row[plain]
    value: Any = row
    for part in re.findall(r"[^.\[\]]+", field):
        value = value.get(part.strip("'\"")) if isinstance(value, Mapping) else None
    return value


def _moment(value: Any) -> Any:
    """A moment as ISO text; numbers are milliseconds since 1970."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return shape.plain((epoch + dt.timedelta(milliseconds=value)).replace(tzinfo=None))
    return shape.plain(value)


def _rounded(value: Any, unit: str) -> Any:
    """A moment rounded down to a unit of time, or the name of the part of it that the unit is."""
    shown = _moment(value)
    if shown is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(str(shown)).replace(tzinfo=None)
    except ValueError:
        raise Unresolved(f"timeUnit {unit}") from None
    cyclic: dict[str, Any] = {
        "month": _MONTHS[moment.month - 1],
        "quarter": f"Q{(moment.month + 2) // 3}",
        "day": _DAYS[moment.weekday()],
        "date": moment.day,
        "hours": moment.hour,
        "minutes": moment.minute,
    }
    if unit in cyclic:
        return cyclic[unit]
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    rounded: dict[str, dt.datetime] = {
        "year": midnight.replace(month=1, day=1),
        "yearquarter": midnight.replace(month=(moment.month - 1) // 3 * 3 + 1, day=1),
        "yearmonth": midnight.replace(day=1),
        "yearmonthdate": midnight,
        "yearmonthdatehours": moment.replace(minute=0, second=0, microsecond=0),
        "yearmonthdatehoursminutes": moment.replace(second=0, microsecond=0),
    }
    if unit not in rounded:
        raise Unresolved(f"timeUnit {unit}")
    return shape.plain(rounded[unit])


def natural_order(values: Iterable[Any]) -> list[Any]:
    """The distinct values in Vega's order: numbers by size, parts of the calendar by the calendar, the rest by letters."""
    distinct = list(dict.fromkeys(values))
    for calendar in (_MONTHS, ("Sun", *_DAYS[:-1])):
        if all(value in calendar for value in distinct):
            return sorted(distinct, key=calendar.index)
    try:
        return sorted(distinct)
    except TypeError:
        return sorted(distinct, key=str)


class Table:
    """The rows of a view as its channels show them: each a mapping from the names of channels to values."""

    def __init__(self, rows: Sequence[Row], channels: Sequence[Channel]) -> None:
        """Group and aggregate if a channel says so: by everything else that is shown, as Vega-Lite does."""
        self.bins: dict[str, aggregates.Bins] = {}
        shown = [channel for channel in channels if channel.has_values or "datum" in channel.definition]
        single = [channel for channel in shown if channel.operation is None]
        records = [{channel.name: channel.value(row) for channel in single} for row in rows]
        for channel in single:
            if channel.is_binned:
                self._bin(channel, records)
        measured = [channel for channel in shown if channel.operation is not None]
        self.records = self._grouped(rows, records, single, measured) if measured else records

    def _bin(self, channel: Channel, records: list[dict[str, Any]]) -> None:
        numbers = aggregates.numbers(record[channel.name] for record in records)
        if not numbers:
            raise Unresolved("bin")
        options = channel.definition["bin"]
        options = options if isinstance(options, Mapping) else {}
        if options.keys() - {"maxbins", "step"}:
            raise Unresolved("bin")
        usual = _MAX_BINS if channel.name in ("x", "y") else _MAX_OTHER_BINS
        bins = aggregates.vega_bins(numbers, int(options.get("maxbins", usual)), options.get("step"))
        self.bins[channel.name] = bins
        edges = bins.edges
        groups = bins.groups((record[channel.name] for record in records), records, is_closed=True)
        for record in records:
            record[channel.name] = None
        for low, high, members in zip(edges, edges[1:], groups, strict=False):
            for record in members:
                record[channel.name] = shape.tidy((low + high) / 2)

    @staticmethod
    def _grouped(
        rows: Sequence[Row], records: list[dict[str, Any]], single: list[Channel], measured: list[Channel]
    ) -> list[dict[str, Any]]:
        keys = [tuple(shape.plain(record[channel.name]) for channel in single) for record in records]
        groups = aggregates.grouped(keys, rows)
        if not single and not rows:
            groups = {(): []}
        found: list[dict[str, Any]] = []
        for key, members in groups.items():
            record: dict[str, Any] = dict(zip((channel.name for channel in single), key, strict=True))
            for channel in measured:
                values = [_field_value(row, channel.field) for row in members] if channel.field else members
                record[channel.name] = _aggregate(channel.operation, values)
            found.append(record)
        return found

    def column(self, name: str) -> list[Any]:
        """One channel's values."""
        return [record.get(name) for record in self.records]

    def first(self, count: int) -> list[dict[str, Any]]:
        """The first rows."""
        return list(islice(self.records, count))
