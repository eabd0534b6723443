"""The card that lies beside a file's bytes in a storage: what `stat` answers, as a JSON document."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from bichat.domain import StoredFile
from bichat.errors import StorageError

#: Names of the two parts of a stored file, below its key.
CONTENT = "content"
CARD = "card.json"
#: Longest card that is read: names are at most some kilobytes.
MAX_CARD_BYTES = 64 * 1024


def written(file: StoredFile) -> bytes:
    """The card of `file`."""
    return json.dumps({**asdict(file), "created_at": file.created_at.isoformat()}).encode("ascii")


def read(card: bytes, key: str) -> StoredFile:
    """The file that `card` tells of.

    Raises:
        StorageError: somebody has changed it: it is no card, or another file's.
    """
    try:
        fields: dict[str, Any] = json.loads(card)
        fields["created_at"] = datetime.fromisoformat(fields["created_at"])
        file = StoredFile(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise _spoilt(key) from error
    if file.key != key:
        raise _spoilt(key)
    return file


def _spoilt(key: str) -> StorageError:
    return StorageError(
        f"what the storage says of {key} is spoilt", stage="storage", remedy="Restore it from a backup, or delete it."
    )
