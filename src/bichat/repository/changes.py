"""What may become of a run, a session and an execution: the rules that every repository keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from bichat.errors import ConflictError
from bichat.repository.moments import utc_now
from bichat.repository.records import RUNNING, ExecutionRecord, Json, Lease, Run, RunState, SessionRecord

#: What a run fails with whose owner let its lease run out.
OWNER_LOST: Final[Json] = {
    "code": "owner_lost",
    "message": "the process that worked on it is gone",
    "stage": "run",
    "remedy": "Ask again.",
}


class _Leased(Protocol):
    @property
    def lease(self) -> Lease | None: ...


def check_owner(record: _Leased, owner: str | None) -> None:
    """Nothing, when `owner` holds the lease of `record`, or is None.

    Raises:
        ConflictError: somebody else does, or nobody.
    """
    if owner is not None and (record.lease is None or record.lease.owner != owner):
        raise ConflictError(
            "its lease has passed to somebody else, or has ended",
            stage="repository",
            remedy="Stop working on it.",
        )


def check_saving(run: Run, owner: str | None) -> None:
    """Nothing, when the run, as it is recorded, may still change.

    Raises:
        ConflictError: it is over, or `owner` does not hold it.
    """
    if run.state.is_final:
        raise over()
    check_owner(run, owner)


def over() -> ConflictError:
    """The error for what has ended and stays as it is."""
    return ConflictError("it is over already", stage="repository")


def saved(before: Run, wanted: Run) -> Run:
    """The run that was `before`, with what `wanted` changes.  Who wants it cancelled is not forgotten."""
    ends = wanted.state.is_final
    is_cancelling = before.state is RunState.CANCELLING and not ends
    return replace(
        before,
        state=RunState.CANCELLING if is_cancelling else wanted.state,
        error=wanted.error,
        usage=wanted.usage,
        metadata=wanted.metadata,
        started_at=wanted.started_at,
        ended_at=(wanted.ended_at or utc_now()) if ends else None,
        lease=None if ends else before.lease,
    )


def handed_over(before: Run, lease: Lease, state: RunState, owner: str) -> Run:
    """The run that was `before`, from now on in the hands of another owner.

    Raises:
        ConflictError: it is over, `owner` does not hold it, or somebody wants it cancelled.
    """
    check_saving(before, owner)
    if before.state is RunState.CANCELLING:
        raise ConflictError("somebody wants it cancelled", stage="repository", remedy="End it.")
    started_at = before.started_at or (utc_now() if state is RunState.RUNNING else None)
    return replace(before, state=state, lease=lease, started_at=started_at)


def cancelled(before: Run) -> Run:
    """The run that was `before`, once somebody wants it cancelled."""
    if before.state.is_final:
        return before
    if before.state is RunState.WAITING:
        return replace(before, state=RunState.CANCELLED, ended_at=utc_now(), lease=None)
    return replace(before, state=RunState.CANCELLING)


def check_newest(runs: Sequence[Run], wanted: str) -> None:
    """Nothing, when the newest of a conversation's `runs` is the `wanted` one.

    Raises:
        ConflictError: it is another one, or there is none.
    """
    if [run.id for run in runs[:1]] != [wanted]:
        raise ConflictError(
            "the conversation has a newer run", stage="repository", remedy="Go on in a new conversation."
        )


def check_over(run: Run) -> None:
    """Nothing, when the run has ended.

    Raises:
        ConflictError: it has not.
    """
    if not run.state.is_final:
        raise ConflictError("it is not over", stage="repository", remedy="Cancel it first, or wait for its end.")


def saved_session(before: SessionRecord, wanted: SessionRecord) -> SessionRecord:
    """The session that was `before`, with what `wanted` changes."""
    return replace(
        before,
        conversation_id=wanted.conversation_id,
        options=wanted.options,
        files=wanted.files,
        end_reason=wanted.end_reason,
        expires_at=wanted.expires_at,
        last_used_at=wanted.last_used_at,
        ended_at=wanted.ended_at,
        lease=before.lease if wanted.ended_at is None else None,
    )


def finished(before: ExecutionRecord, wanted: ExecutionRecord) -> ExecutionRecord:
    """The execution that was `before`, as it has ended.

    Raises:
        ConflictError: it had ended already.
    """
    if before.status != RUNNING:
        raise over()
    return replace(
        before,
        status=wanted.status,
        stdout=wanted.stdout,
        stderr=wanted.stderr,
        stdout_omitted_bytes=wanted.stdout_omitted_bytes,
        stderr_omitted_bytes=wanted.stderr_omitted_bytes,
        error=wanted.error,
        results=wanted.results,
        timings=wanted.timings,
        isolation=wanted.isolation,
        ended_at=wanted.ended_at or utc_now(),
        lease=None,
    )
