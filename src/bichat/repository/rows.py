"""Records as rows and rows as records.  What goes in passes the one door where it is checked and made fit."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, Protocol, TypeVar

from bichat.errors import UserInputError
from bichat.repository import records
from bichat.repository.ids import check_id
from bichat.repository.moments import check_moment
from bichat.repository.quota import row_bytes
from bichat.repository.text import fit_mime_type, fit_name, fit_short, plain_json, restored, stored
from bichat.tenants import check_tenant

#: Fields that are another table's, or columns of another name.
_APART: Final = frozenset({"lease", "parts", "policy"})
#: Fields whose text may have any length.
_LONG: Final = frozenset({"title", "code", "stdout", "stderr", "url", "last_error"})
_SHA256_CHARS: Final = 64
_NUMBERS: Final = 1 << 63


class Owned(Protocol):
    """A record that is somebody's."""

    @property
    def id(self) -> str:
        """Its own."""
        ...

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...


_O = TypeVar("_O", bound=Owned)
_R = TypeVar("_R")


def admit(tenant: str, record: _O) -> _O:
    """`record` as every database gives it back: names cut, moments in UTC, JSON in JSON's own types.

    Raises:
        UserInputError: no such tenant can be, the record is another's, or something in it can be in no row.
        NotFoundError: it refers to what is no id.
    """
    check_tenant(tenant)
    if record.tenant != tenant:
        raise UserInputError("the record is another tenant's", stage="repository")
    return from_row(type(record), to_row(record), parts=admitted_parts(getattr(record, "parts", ())))


def admitted_parts(parts: tuple[records.Part, ...]) -> tuple[records.Part, ...]:
    """Parts of a message, likewise."""
    return tuple(from_row(records.Part, to_row(part)) for part in parts)


def to_row(record: Any) -> dict[str, Any]:
    """The columns of `record`, each with what may stand in it."""
    row = {
        spec.name: _column(spec.name, getattr(record, spec.name)) for spec in fields(record) if spec.name not in _APART
    }
    if hasattr(record, "lease"):
        row |= lease_columns(record.lease)
    return row


def counted_row(record: Any) -> dict[str, Any]:
    """The columns of a row that is inserted, with how much it takes where that is counted."""
    row = to_row(record)
    is_counted = isinstance(record, records.Conversation | records.Message | records.Run | records.Definition)
    return row | ({"row_bytes": row_bytes(record)} if is_counted else {})


def lease_columns(lease: records.Lease | None) -> dict[str, Any]:
    """The two columns of a lease."""
    if lease is None:
        return {"owner": None, "lease_until": None}
    return {"owner": stored(fit_short(lease.owner, "the owner")), "lease_until": check_moment(lease.until)}


def from_row(kind: type[_R], row: Mapping[Any, Any], **others: Any) -> _R:
    """A record of `kind` from its columns; `others` are the fields that lie elsewhere."""
    values: dict[str, Any] = {}
    for name, convert in _fields_of(kind).items():
        if name == "lease":
            values[name] = _lease(row)
        elif name in _APART:
            if others.get(name) is not None:
                values[name] = others[name]
        else:
            values[name] = convert(row[name])
    return kind(**values)


def _column(name: str, value: Any) -> Any:
    if isinstance(value, int) and not -_NUMBERS <= value < _NUMBERS:
        raise UserInputError(f"{name} is no number of 64 bits", stage="repository")
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, datetime):
        return check_moment(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return _text(name, value)
    if name == "files":
        return [plain_json(asdict(entry)) for entry in value]
    return plain_json(value)


def _text(name: str, text: str) -> str:
    if name in {"id", "tenant"} or (name.endswith("_id") and name != "subject_id"):
        return text if name == "tenant" else check_id(text, name.removesuffix("_id") or "id")
    if name == "name":
        return stored(fit_name(text))
    if name == "mime_type":
        return stored(fit_mime_type(text))
    if name.endswith("sha256") and len(stored(text)) > _SHA256_CHARS:
        raise UserInputError(f"{name} is no SHA-256", stage="repository")
    return stored(text if name in _LONG else fit_short(text, name))


def _lease(row: Mapping[Any, Any]) -> records.Lease | None:
    if row["lease_until"] is None:
        return None
    return records.Lease(owner=restored(row["owner"]), until=row["lease_until"])


@cache
def _fields_of(kind: type[Any]) -> dict[str, Any]:
    """How each field is read, by its name."""
    hints = typing.get_type_hints(kind)
    return {spec.name: _reader(spec.name, hints[spec.name]) for spec in fields(kind)}


def _reader(name: str, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    if hint == tuple[records.KeptFile, ...]:
        return _kept_files
    if typing.get_origin(hint) is tuple:
        return tuple
    if hint is str and name not in {"id", "tenant"}:
        return restored
    return _as_it_is


def _kept_files(entries: list[dict[str, Any]]) -> tuple[records.KeptFile, ...]:
    return tuple(records.KeptFile(**entry) for entry in entries)


def _as_it_is(value: Any) -> Any:
    return value
