"""API keys: made, known again, and never kept as they are."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bichat.repository.records import ApiKey

#: What every key begins with, so that scanners for leaked secrets can know it.
PREFIX: Final = "sk-bichat-"
#: Characters of a key that are kept to tell keys apart by.
_SHOWN: Final = len(PREFIX) + 6
#: Random bytes in a key.
_BYTES: Final = 32
#: No key is longer.
_MOST_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, which is known now and never again, and its record."""

    secret: str
    record: ApiKey

    def __repr__(self) -> str:
        return f"<NewKey {self.record.prefix}...>"


def new_key(tenant: str, *, user: str = "", name: str = "", expires_at: datetime | None = None) -> NewKey:
    """A key for a tenant, or for a user of it."""
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    record = ApiKey(
        tenant=tenant, user=user, name=name, prefix=secret[:_SHOWN], sha256=hash_of(secret), expires_at=expires_at
    )
    return NewKey(secret, record)


def hash_of(secret: str) -> str:
    """What is kept of a key.  It is as random as it is long: nothing slower than this is needed."""
    return hashlib.sha256(secret[:_MOST_CHARS].encode("utf-8", "surrogatepass")).hexdigest()


def is_good(key: ApiKey, now: datetime) -> bool:
    """Whether it lets anybody in."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
