"""What is made of an execution at another server once it is over: a status, a result, or an error that has what survived."""

from __future__ import annotations

import time
from typing import Any, Final

from bichat.clients import messages
from bichat.clients.answers import Json, mapping_in
from bichat.clients.job import Job
from bichat.clients.loading import Loaded
from bichat.domain import CodeError, ExecutionResult, IsolationReport, Status, Timings
from bichat.errors import (
    CodeFailedError,
    CodeTimeoutError,
    ExecutorError,
    OutputsNotKeptError,
    RemoteServiceError,
)
from bichat.executor import CodeInterpreterResult

_ISOLATION: Final = IsolationReport(level="remote", lacks=("what stands around the code, its server alone knows",))


def result_of(job: Job, loaded: Loaded, status: Status, failure: ExecutorError | None) -> ExecutionResult:
    """What is known of the execution, before anything of it is stored."""
    logs = "".join(_line(cell.logs) for cell in job.cells)
    error = messages.error_in(job.cells[-1].logs) if job.cells else None
    if failure is not None:
        status = Status.SESSION_LOST if job.is_started else Status.CANCELLED
        error = CodeError(name=type(failure).__name__, message=failure.message)
    elif status is Status.TIMEOUT:
        error = CodeError(name="Timeout", message=f"the code did not end within {job.timeout_s:g} s")
    elif status is Status.CANCELLED:
        error = CodeError(name="Cancelled", message="the run was cancelled on its server")
    elif error is not None:
        status = Status.ERROR
    return ExecutionResult(
        status=status,
        stdout=logs,
        error=error,
        artifacts=tuple(sorted(loaded.artifacts, key=lambda artifact: artifact.name)),
        refused=tuple(loaded.refused),
        isolation=_ISOLATION,
        timings=timings_of(job),
        notice=" ".join((*job.notes, *loaded.notes)),
    )


def status_of(job: Job, run: Json, *, is_late: bool) -> Status:
    """How the code ended, by the state of the run at its end.

    Raises:
        RemoteServiceError: the run itself failed, or it ran no code that was to be run.
    """
    state = str(run.get("status"))
    if is_late or state == "expired":
        return Status.TIMEOUT
    if state == "cancelled":
        return Status.CANCELLED
    if state == "incomplete":
        reason = mapping_in(run.get("incomplete_details")).get("reason")
        job.notes.append(f"The run ended before its answer was complete: {reason or 'the server does not say why'}.")
    elif state != "completed":
        told = mapping_in(run.get("last_error") or run.get("error"))
        code = str(told.get("code") or "")
        raise RemoteServiceError(
            f"the run ended as {state or 'nothing that is known'}: {told.get('message') or 'the server does not say why'}"[
                :500
            ],
            stage="run",
            remedy="Look at what the server says.",
            is_retryable=code in ("server_error", "rate_limit_exceeded"),
            ran=bool(job.cells),
        )
    if job.code and not job.cells:
        raise RemoteServiceError(
            "the model answered without running the code",
            stage="run",
            remedy="Choose another model, or a server that has local-python.",
            is_retryable=True,
            ran=False,
        )
    return Status.COMPLETED


def finished(failure: ExecutorError, job: Job, result: CodeInterpreterResult) -> ExecutorError:
    """The failure with all that is known in the end."""
    if not job.is_started:
        failure.ran = False
    elif job.cells:
        failure.ran = True
    elif failure.stage == "collect":
        failure.ran = None
    if job.cells or result.execution.artifacts:
        failure.survived = result
    for left in result.leftovers:
        failure.add_note(f"A {left.kind} is left on the server ({left.id or 'its id is not known'}): {left.reason}")
    return failure


def check_good(result: CodeInterpreterResult, loaded: Loaded) -> None:
    """Nothing, when the code completed and all that came out of it is stored.

    Raises:
        CodeTimeoutError, CodeFailedError, RemoteServiceError, OutputsNotKeptError: as they say.
    """
    execution, error = result.execution, result.execution.error
    said = f"{error.name}: {error.message}" if error else execution.status.value
    if execution.status is Status.TIMEOUT:
        raise CodeTimeoutError(said, remedy="Make the code shorter, or raise timeout_s.", ran=True, survived=result)
    if execution.status is Status.CANCELLED:
        raise RemoteServiceError(said, is_retryable=True, ran=True, survived=result)
    if not execution.ok:
        raise CodeFailedError(said[:500], remedy="Mend the code.", ran=True, survived=result)
    for failure in loaded.failures:
        if isinstance(failure, RemoteServiceError):
            failure.ran, failure.survived = True, result
            raise failure
    for artifact in execution.artifacts:
        if artifact.not_kept:
            raise _not_kept(artifact.name, artifact.not_kept, result)
    for refused in execution.refused:
        raise _not_kept(refused.name, refused.reason, result)


def _not_kept(name: str, why: str, result: CodeInterpreterResult) -> OutputsNotKeptError:
    return OutputsNotKeptError(
        f"'{name}' could not be kept: {why}"[:500],
        stage="storage",
        remedy="Make room or mend the storage; the bytes that came are in the error's result.",
        is_retryable=False,
        ran=True,
        survived=result,
    )


def timings_of(job: Job) -> Timings:
    """What it took so far."""
    seconds: dict[str, Any] = {f"{name}_s": value for name, value in job.times.items()}
    return Timings(**seconds, total_s=time.perf_counter() - job.began)


def _line(logs: str) -> str:
    return logs if not logs or logs.endswith("\n") else f"{logs}\n"
