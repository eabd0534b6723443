"""Ids of rows: UUIDs of version 7 (RFC 9562), which sort by the time at which they were made."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Final

from bichat.errors import NotFoundError

_RANDOM_BITS: Final = 62
#: The last of the year 9998.
_LAST_MS: Final = 253_370_764_799_999
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """An id that nobody has yet, greater than every one that this process made before.

    60 bits of time in some 250 ns, of which no two of one process are the same, and 62 random ones.
    """
    global _last  # noqa: PLW0603  # one clock for the process
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    with _lock:
        _last = max(_last + 1, milliseconds << 12 | (nanoseconds << 12) // 1_000_000)
        moment = _last
    value = (moment >> 12) << 80 | 7 << 76 | (moment & 0xFFF) << 64 | 0b10 << _RANDOM_BITS
    return str(uuid.UUID(int=value | secrets.randbits(_RANDOM_BITS)))


def moment_of(row_id: str) -> datetime:
    """When an id of `new_id` was made, to the millisecond; the beginning of 1970 of one that it did not make."""
    milliseconds = uuid.UUID(row_id).int >> 80
    if milliseconds > _LAST_MS:
        milliseconds = 0
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def check_id(text: str, kind: str) -> str:
    """`text` as our rows have it, once it is known to be an id at all.

    Raises:
        NotFoundError: it is none, so there is no `kind` of it.
    """
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise missing(kind) from error


def missing(kind: str) -> NotFoundError:
    """There is no such thing, or it is another tenant's: which of the two is not said."""
    return NotFoundError(f"there is no such {kind}", stage="repository")
