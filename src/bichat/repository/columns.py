"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """`timestamptz`, and on SQLite text in UTC with six digits behind the second, which sorts as time does."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC; without a word of it where the database knows no time zones."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC, whatever the time zone of the connection."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


#: An id: `uuid`, and 32 hexadecimal digits on SQLite; text with dashes in Python.
Id = sa.Uuid(as_uuid=False)
#: A number that the database counts up itself.
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Name = sa.String(255)
Sha256 = sa.String(64)
TenantName = sa.String(64)


def json_column(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """`json`, which keeps what it was given to the letter; `jsonb` refuses NUL characters."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def id_column(name: str, target: str = "", *, nullable: bool = False) -> sa.Column[Any]:
    """An id; of a row of `target`, with which this row goes too."""
    keys = (sa.ForeignKey(f"{target}.id", ondelete="CASCADE"),) if target else ()
    return sa.Column(name, Id, *keys, nullable=nullable)
