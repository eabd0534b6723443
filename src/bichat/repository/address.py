"""Addresses of databases: what `BICHAT_DATABASE_URL` may say, and how one is shown without its password."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

from bichat.errors import DatabaseError

_FORMS: Final = (
    "BICHAT_DATABASE_URL is sqlite+aiosqlite:////path/to/bichat.db (four slashes) "
    "or postgresql+psycopg://user:password@host/database."
)
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def default_address(data_dir: Path) -> str:
    """The embedded database in the data directory, whatever that is called."""
    return f"sqlite+aiosqlite:///{quote(str(data_dir / 'bichat.db'))}"


def driver_of(address: str) -> str:
    """The driver that speaks to the database at `address`: `sqlite+aiosqlite` or `postgresql+psycopg`.

    Raises:
        DatabaseError: the address has another scheme, or none.  It is not shown: nobody knows where its password is.
    """
    scheme, found, _ = address.partition("://")
    if not found or scheme not in _DRIVERS:
        raise unusable("it begins with no scheme that is known here")
    return _DRIVERS[scheme]


def unusable(reason: str, *, shown: str = "") -> DatabaseError:
    """The error for an address that leads to no database; `shown` is without its password."""
    place = f"at {shown}" if shown else "there"
    return DatabaseError(f"no database {place}: {reason}", stage="settings", remedy=_FORMS)
