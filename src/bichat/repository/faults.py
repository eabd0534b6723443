"""What drivers raise, in our words: never with a password, always with what to do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from bichat.errors import BichatError, ConflictError, DatabaseError, NotFoundError
from bichat.names import printable

_REASON_CHARS: Final = 300
_REACH: Final = "See that the database of BICHAT_DATABASE_URL is up, and that this user may use it."
#: By what the driver says, in lower case: what to do about it.
_REMEDIES: Final = {
    "locked": "Another program holds the database for longer than we wait: end it, then try again.",
    "deadlock": "Nothing has changed: try again.",
    "in use": "Too much is going on at once: try again.",
    "lock timeout": "Another transaction holds it for longer than we wait: try again.",
    "full": "Make room on the database's disk, then try again.",
    "no space": "Make room on the database's disk, then try again.",
    "readonly": "Let this user write to the database file and its folder.",
    "read-only": "Let the database take writes again.",
    "unable to open": "See that the folder of the database exists, and that this user may read and write there.",
    "not a database": "Restore the file from a backup, or move it away: a new one is made.",
    "malformed": "Restore the file from a backup.",
    "password": "Correct user and password in BICHAT_DATABASE_URL.",
    "does not exist": "Create the database and its user, or correct BICHAT_DATABASE_URL.",
    "no such table": "Run `bichat db upgrade`.",
}


@contextmanager
def in_words(url: sa.URL) -> Generator[None]:
    """Within, what the driver of `url` raises becomes an error of ours.

    Raises:
        NotFoundError: a row was to belong to one that is not there, or that went away meanwhile.
        ConflictError: there is such a row already.
        DatabaseError: anything else.
    """
    try:
        yield
    except BichatError:
        raise
    except exc.IntegrityError as error:
        raise _broken_rule(error, url) from error
    except exc.SQLAlchemyError as error:
        raise database_error(error, url) from error
    except OSError as error:
        raise database_error(error, url) from error


def database_error(error: Exception, url: sa.URL) -> DatabaseError:
    """`error` in one line: the driver's reason, where, and what to do."""
    reason = _reason(error, url)
    known = (remedy for words, remedy in _REMEDIES.items() if words in reason.lower())
    return DatabaseError(
        f"the database {url.render_as_string(hide_password=True)}: {reason}",
        stage="database",
        remedy=next(known, _REACH),
    )


def _broken_rule(error: exc.IntegrityError, url: sa.URL) -> BichatError:
    origin: Any = error.orig
    rule = f"{getattr(origin, 'sqlstate', '')} {origin}".lower()
    if "23503" in rule or "foreign key" in rule:
        return NotFoundError("what this belongs to is not there, or no longer", stage="repository")
    if "23505" in rule or "unique" in rule:
        if "bichat_runs_one_active" in rule or "bichat_runs.conversation_id" in rule:
            return ConflictError(
                "the conversation has a run already that is not over",
                stage="repository",
                remedy="Wait for it, or cancel it.",
            )
        return ConflictError("there is one already with this id or key", stage="repository", remedy="Make a new one.")
    return database_error(error, url)


def _reason(error: Exception, url: sa.URL) -> str:
    if isinstance(error, exc.TimeoutError):
        return "all connections are in use"
    origin = getattr(error, "orig", None) or error
    text = " ".join(str(origin).split()) or type(origin).__name__
    if url.password:
        text = text.replace(str(url.password), "***")
    return printable(text)[:_REASON_CHARS]
