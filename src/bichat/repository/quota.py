"""How much a tenant may keep, and what a reservation must have."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, TypeVar

from bichat.errors import LimitError, UserInputError
from bichat.repository.records import (
    CodeInterpreterOutput,
    Conversation,
    Definition,
    FileRecord,
    FileState,
    Message,
    Policy,
    Run,
    Usage,
)
from bichat.sizes import format_size

#: A thousand years.  What lies further back than the calendar reaches would break every tenant's pruning.
MAX_RETENTION_DAYS: Final = 365_250
#: What a row takes beside what its caller has put into it, its indexes included.
ROW_BYTES: Final = 512
#: What a column of 64 bits holds.
_MAX_QUOTA: Final = 2**63 - 1

_Kept = TypeVar("_Kept", CodeInterpreterOutput, FileRecord)


def check_policy(policy: Policy) -> Policy:
    """`policy` itself, once every bound in it is known to be none, or a number of 0 and above that a column holds.

    Raises:
        UserInputError: one is not, or the retention is above `MAX_RETENTION_DAYS`.
    """
    bounds = (
        (policy.retention_days, MAX_RETENTION_DAYS),
        (policy.quota_bytes, _MAX_QUOTA),
        (policy.quota_files, _MAX_QUOTA),
    )
    for value, most in bounds:
        if value is not None and not 0 <= value <= most:
            raise UserInputError(
                f"a tenant's policy is of numbers from 0 to {most:,}, not {value}",
                stage="repository",
                remedy="Leave out what is not to be bounded.",
            )
    return policy


def check_quota(policy: Policy, usage: Usage, *, size_bytes: int, files: int) -> None:
    """Nothing, when so much more is within the quota.

    Raises:
        LimitError: it is above; says what is kept, what was asked for and what there is room for.
    """
    if policy.quota_files is not None and usage.files + files > policy.quota_files:
        raise _above(f"{usage.files:,} files are kept already, of {policy.quota_files:,}")
    kept = usage.size_bytes + usage.row_bytes
    if policy.quota_bytes is not None and kept + size_bytes > policy.quota_bytes:
        raise _above(
            f"{format_size(size_bytes)} more are above the {format_size(policy.quota_bytes)} "
            f"of which {format_size(kept)} are kept already"
        )


def check_rows(policy: Policy, usage: Usage) -> None:
    """Nothing, when what is kept is within the quota of bytes, rows that have just been added among it.

    Raises:
        LimitError: it is above.
    """
    kept = usage.size_bytes + usage.row_bytes
    if policy.quota_bytes is not None and kept > policy.quota_bytes:
        raise _above(f"with this, {format_size(kept)} would be kept, of {format_size(policy.quota_bytes)}")


def row_bytes(record: Conversation | Message | Run | Definition) -> int:
    """About how many bytes of a database a record takes: what its caller can make as long as he likes, and a row."""
    match record:
        case Conversation():
            said: Any = [record.title, dict(record.metadata)]
        case Message():
            said = [dict(record.metadata), [dict(part.content) for part in record.parts]]
        case Run():
            said = [dict(record.metadata), dict(record.request)]
        case Definition():
            said = dict(record.content)
    return ROW_BYTES + len(json.dumps(said))


def reserved(record: _Kept) -> _Kept:
    """`record` as it is before its bytes are there.

    Raises:
        UserInputError: it has no lease, so nobody would ever know that its owner is gone; or its size is below 0.
    """
    if record.lease is None:
        raise UserInputError("a reservation needs a lease", stage="repository")
    if record.size_bytes < 0:
        raise UserInputError("no file has fewer than 0 bytes", stage="repository")
    return replace(record, state=FileState.PENDING)


def _above(reason: str) -> LimitError:
    return LimitError(
        f"the tenant's quota is used up: {reason}",
        stage="quota",
        remedy="Delete files, responses and conversations that nobody needs, or have the operator raise the quota.",
    )
