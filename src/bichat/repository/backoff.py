"""When a deletion that failed is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from bichat.repository.chat_repository import CLAIM_S, MAX_BACKOFF_S

CLAIM: Final = timedelta(seconds=CLAIM_S)
_FIRST_S: Final = 30.0
_MOST_DOUBLINGS: Final = 20
_ERROR_CHARS: Final = 500


def next_attempt_at(attempts: int, now: datetime) -> datetime:
    """The moment of the next attempt, after so many."""
    doublings = min(max(attempts - 1, 0), _MOST_DOUBLINGS)
    return now + timedelta(seconds=min(_FIRST_S * 2**doublings, MAX_BACKOFF_S))


def shortened(error: str) -> str:
    """The beginning of what went wrong: enough to know it again."""
    return error[:_ERROR_CHARS]
