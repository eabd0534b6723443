"""Moments: aware, in UTC, to the microsecond, on every database."""

from __future__ import annotations

from datetime import UTC, datetime

from bichat.errors import UserInputError


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def check_moment(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        UserInputError: it is naive: nobody can know which moment it is.
    """
    if moment.tzinfo is None:
        raise UserInputError(
            f"{moment.isoformat()} names no moment: it has no time zone",
            stage="repository",
            remedy="Use aware datetimes, such as datetime.now(UTC).",
        )
    return moment.astimezone(UTC)
