"""What clients of other servers have in common: one execution from its record to its clean-up."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from uuid import UUID

import anyio

from bichat.archive import Archive
from bichat.clients import messages, uploads
from bichat.clients.job import Job
from bichat.clients.keeping import Keeper, Recorded, Unrecorded
from bichat.clients.loading import Loaded, Loader
from bichat.clients.options import ClientOptions
from bichat.clients.trail import Broom, InDatabase, InMemory, Thing, Trail, fresh_marker, things_of
from bichat.clients.wire import Answer, Json, Server, check_client, mapping_in, path
from bichat.domain import CodeError, ExecutionResult, IsolationReport, Status, Timings
from bichat.errors import (
    CodeFailedError,
    CodeTimeoutError,
    ExecutorError,
    OutputsNotKeptError,
    RemoteServiceError,
    UserInputError,
)
from bichat.executor import CodeInterpreterResult, CodeRequest, RemoteObject
from bichat.repository.records import CodeInterpreterOutput
from bichat.sandbox.background import Background
from bichat.sandbox.inputs import InputSource
from bichat.session import check_code
from bichat.storage import FileStorage
from bichat.tenants import LOCAL, check_tenant

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from bichat.repository.chat_repository import ChatRepository

#: The model that runs code to the letter, where a server has it.
LOCAL_PYTHON: Final = "local-python"
#: States in which a run may still do something.
_ACTIVE: Final = frozenset({"queued", "in_progress", "cancelling"})
_SWEEP_EVERY_S: Final = 60.0
_ISOLATION: Final = IsolationReport(level="remote", lacks=("what stands around the code, its server alone knows",))

logger = logging.getLogger(__name__)


class RemoteExecutor(ABC):
    """Implements `Executor` on another server.

    With a repository it is used inside `async with`, which keeps its leases and deletes behind the calls what could not
    be deleted at once, also what processes left that are gone.  Without one nothing needs to be entered.
    """

    kind: ClassVar[str]
    """What executions are called by in the record: `assistants`, `responses`."""
    _order: ClassVar[Sequence[str]]
    """Kinds of things that are made, those first that must be deleted first."""

    def __init__(
        self,
        client: AsyncOpenAI,
        storage: FileStorage,
        *,
        repository: ChatRepository | None = None,
        options: ClientOptions | None = None,
        tenant: str = LOCAL,
    ) -> None:
        """Nothing is asked of the server yet.

        Args:
            client: of the official package, with address and key; its owner closes it.  The synchronous one is refused: a
                call that blocks a thread can be neither cancelled nor timed out.
            storage: where files that come out are kept.
            repository: where executions and outputs are recorded, and what is still to be deleted on the server.
            options: model, times and bounds.
            tenant: whose executions are that are asked for without a tenant.

        Raises:
            UserInputError: no such client or tenant can be.
        """
        check_client(client)
        self._options = options or ClientOptions()
        self._server = Server(client, self._options)
        self._storage = storage
        self._repository = repository
        self._tenant = check_tenant(tenant)
        self._archive: Archive | None = None
        self._exits = AsyncExitStack()
        self._background = Background()
        self._left: dict[str, list[Thing]] = {}
        self._has_local_python: bool | None = None

    async def __aenter__(self) -> Self:
        if self._repository is not None:
            self._archive = await self._exits.enter_async_context(Archive(self._storage, self._repository))
            self._background.start(self._sweep_for_ever)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._background.close()
        self._archive = None
        await self._exits.aclose()

    # ----------------------------------------------------------------------------------------------------- what is asked

    async def execute(self, request: CodeRequest) -> CodeInterpreterResult:
        """See `Executor.execute`.

        Where the server has `local-python`, and no other model is chosen, the code runs to the letter.  Else a model is
        asked to run it unchanged: `is_verbatim` says whether it did.
        """
        check_code(request.code)
        messages.check_text(request.code + request.description)
        files = await uploads.checked(request.files)
        job = Job(
            tenant=check_tenant(request.tenant),
            user=request.user,
            message_id=request.message_id,
            text=messages.asking_for(request.code, description=request.description),
            code=request.code,
            description=request.description,
            model=await self._model(is_code=True),
            files=files,
            timeout_s=self._timeout(request.timeout_s),
        )
        return (await self._carried_out(job))[0]

    async def ask(
        self,
        text: str,
        *,
        message_id: UUID | str | None = None,
        files: Mapping[str, InputSource] | None = None,
        tenant: str | None = None,
        user: str = "",
        timeout_s: float | None = None,
    ) -> CodeInterpreterResult:
        """Say `text` to the server: words, from which a model makes code; or code, in a block or all of it.

        Args:
            text: what is said.
            message_id: as `CodeRequest.message_id`.
            files: as `CodeRequest.files`.
            tenant: whose it is; the client's own if None.
            user: as `CodeRequest.user`.
            timeout_s: as `CodeRequest.timeout_s`.

        Raises:
            As `Executor.execute`.
        """
        return (await self._carried_out(await self._job_of(text, message_id, files, tenant, user, timeout_s)))[0]

    async def execute_code_interpreter(
        self, message_id: UUID | str | None, user_message: str
    ) -> list[CodeInterpreterOutput]:
        """What came out of what `user_message` asks for, stored; each with its address.

        Args:
            message_id: the message that it is done for; where there is a repository, one that is there.
            user_message: as `ask`.

        Raises:
            RemoteServiceError: the server did not do its part, or a file could not be loaded from it.
            CodeFailedError: the code failed.
            CodeTimeoutError: it took longer than it may.
            OutputsNotKeptError: not everything that came out could be stored.
            UserInputError, NotFoundError, DatabaseError: it could not be begun; see `Executor.execute`.
        """
        result, loaded = await self._carried_out(await self._job_of(user_message, message_id, None, None, "", None))
        _check_good(result, loaded)
        return list(result.outputs)

    async def sweep(self, now: datetime | None = None) -> int:
        """Delete what is left on the server from executions that are over, of this process or of others on the database.

        Only what is due by `now`, or the present, is tried; for how many executions all is gone now.

        Raises:
            DatabaseError: the database does not do its part.
        """
        count = 0
        for marker, things in tuple(self._left.items()):
            left, _ = await self._broom.sweep(marker, things, within_s=self._options.cleanup_s)
            self._left[marker] = [(each.kind, each.id) for each in left]
            if not left:
                del self._left[marker]
                count += 1
        if self._archive is None:
            return count
        leftovers, moment = self._archive.repository.leftovers, now or datetime.now(UTC)
        while claimed := await leftovers.claim(self._server.name, moment):
            for row in claimed:
                left, _ = await self._broom.sweep(row.id, things_of(row), within_s=self._options.cleanup_s)
                if left:
                    noted = [{"kind": each.kind, "id": each.id} for each in left]
                    await leftovers.failed(row.tenant, row.id, noted, left[0].reason, moment)
                else:
                    await leftovers.done(row.tenant, row.id)
                    count += 1
        return count

    # ------------------------------------------------------------------------------------------- what each server's way is

    @abstractmethod
    async def _prepare(self, job: Job, trail: Trail) -> None:
        """Make what the run needs."""

    @abstractmethod
    async def _start(self, job: Job, trail: Trail) -> None:
        """Begin the run; it is begun once, whatever fails."""

    @abstractmethod
    async def _look(self, job: Job, until: float | None) -> Answer:
        """The run as it is."""

    @abstractmethod
    async def _cancel(self, job: Job) -> None:
        """Ask for its end."""

    @abstractmethod
    async def _collect(self, job: Job, trail: Trail, run: Json) -> None:
        """Note in `job` what came out."""

    @abstractmethod
    def _where(self, thing: Thing) -> str:
        """The path by which it is deleted."""

    @abstractmethod
    async def _find(self, kind: str, marker: str) -> list[Thing] | None:
        """See `Broom.find`."""

    async def _inside(self, thing: Thing) -> list[Thing]:  # noqa: ARG002  # most things have nothing that outlives them
        """See `Broom.inside`."""
        return []

    # ------------------------------------------------------------------------------------------------------- the way of it

    async def _carried_out(self, job: Job) -> tuple[CodeInterpreterResult, Loaded]:
        """The result, and what could not be loaded.

        Raises:
            RemoteServiceError: the run could not be had, or failed.
        """
        keeper, trail = await self._begun(job)
        loader = Loader(self._server, self._options)
        failure: ExecutorError | None = None
        status = Status.COMPLETED
        try:
            try:
                status = await self._run(job, trail)
            except RemoteServiceError as error:
                failure = error
            started = time.perf_counter()
            await self._load(job, loader, is_over=failure is None)
            job.times["capture"] = time.perf_counter() - started
            result = self._result(job, loader.loaded, status, failure)
            if failure is not None and not (job.cells or result.artifacts):
                with anyio.CancelScope(shield=True):
                    await keeper.give_up(result.status)
                outputs: tuple[CodeInterpreterOutput, ...] = ()
            else:
                result, outputs = await keeper.conclude(result)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await keeper.give_up(Status.CANCELLED)
                await self._cleaned(job, trail)
            raise
        left: list[RemoteObject] = []
        with anyio.CancelScope(shield=True):
            left = await self._cleaned(job, trail)
        whole = CodeInterpreterResult(
            execution=replace(result, timings=_timings(job)),
            outputs=outputs,
            cells=tuple(cell.code for cell in job.cells),
            is_verbatim=bool(job.code) and [cell.code.strip() for cell in job.cells] == [job.code.strip()],
            text="\n\n".join(job.said),
            usage=job.usage,
            container_id=job.container_id,
            leftovers=tuple(left),
        )
        if failure is not None:
            raise _finished(failure, job, whole)
        return whole, loader.loaded

    async def _begun(self, job: Job) -> tuple[Keeper, Trail]:
        if self._repository is None:
            marker = fresh_marker()
            return Unrecorded(self._storage, job), Trail(marker, InMemory(self._left, marker))
        if self._archive is None:
            raise UserInputError(
                "a client with a repository is used inside 'async with'",
                stage="settings",
                remedy="Write: async with AssistantsClient(...) as assistants.",
            )
        keeper = await Recorded.begin(self._archive, job, environment=self.kind)
        try:
            record, marker = await InDatabase.begin(self._archive, job.tenant, self._server.name)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await keeper.give_up(Status.CANCELLED)
            raise
        return keeper, Trail(marker, record)

    async def _run(self, job: Job, trail: Trail) -> Status:
        """How the run ended, once all that came out of it is noted in `job`."""
        started = time.perf_counter()
        await self._prepare(job, trail)
        job.times["sandbox"] = time.perf_counter() - started
        started = time.perf_counter()
        job.is_started = True
        await self._start(job, trail)
        run, is_late = await self._awaited(job)
        job.times["run"] = time.perf_counter() - started
        try:
            await self._collect(job, trail, run)
            job.is_collected = job.is_over
        except RemoteServiceError as error:
            if not is_late:
                raise
            job.notes.append(f"What it printed and left until then could not be had: {error.message}")
        return _status(job, run, is_late=is_late)

    async def _awaited(self, job: Job) -> tuple[Json, bool]:
        """The run at its end, and whether its time was over before.

        Raises:
            RemoteServiceError: nobody knows what became of it.
        """
        deadline = anyio.current_time() + job.timeout_s
        failure: RemoteServiceError | None = None
        has_answered = False
        with anyio.move_on_after(job.timeout_s):
            while failure is None:
                try:
                    answer = await self._look(job, deadline)
                except RemoteServiceError as error:
                    error.ran = None
                    if not error.is_retryable or (error.retry_after_s or 0) > deadline - anyio.current_time() > 0:
                        raise
                    failure = error
                    continue
                has_answered = True
                if str(answer.body.get("status")) not in _ACTIVE:
                    job.is_over = True
                    return answer.body, False
                await anyio.sleep(answer.poll_after_s or self._options.poll_interval_s)
        run = await self._cancelled(job)
        if run is None and (failure is not None or not has_answered):
            raise failure or RemoteServiceError(
                f"the server did not say within {job.timeout_s:g} s what became of the run", is_retryable=True
            )
        return run or {}, run is None or run.get("status") != "completed"

    async def _cancelled(self, job: Job) -> Json | None:
        """The run, once it has ended because nobody wants it any more; None where nobody knows.

        A run that does not end although it is to is given back as it is.
        """
        job.is_unwanted = True
        last: Json | None = None
        with anyio.move_on_after(self._options.cleanup_s):
            try:
                await self._cancel(job)
            except RemoteServiceError as error:
                logger.info("a run could not be cancelled, and may have ended: %s", error)
            try:
                while True:
                    answer = await self._look(job, None)
                    last = answer.body
                    if str(last.get("status")) not in _ACTIVE:
                        job.is_over = True
                        return last
                    await anyio.sleep(answer.poll_after_s or self._options.poll_interval_s)
            except RemoteServiceError as error:
                logger.warning("a run that is not wanted any more cannot be looked at: %s", error)
        return last

    async def _load(self, job: Job, loader: Loader, *, is_over: bool) -> None:
        if is_over or job.remote_files:
            await loader.load(job.remote_files)
        for url in job.images:
            loader.keep_image(url)

    async def _cleaned(self, job: Job, trail: Trail) -> list[RemoteObject]:
        """What is left, once the run is over and all is deleted that can be."""
        if "run" in job.ids and not job.is_over and not job.is_unwanted:
            await self._cancelled(job)
        left, lost = await self._broom.sweep(
            trail.marker, trail.things, within_s=self._options.cleanup_s, is_known=job.is_collected
        )
        for each in (*left, *lost):
            logger.warning("a %s is left on the server: %s", each.kind, each.reason)
        await trail.close(left)
        return [*left, *lost]

    @property
    def _broom(self) -> Broom:
        async def delete(thing: Thing) -> None:
            await self._server.delete(self._where(thing))

        return Broom(order=self._order, delete=delete, find=self._find, inside=self._inside)

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception:
                logger.exception("what is left on the server could not be deleted")
            await anyio.sleep(_SWEEP_EVERY_S)

    async def _job_of(
        self,
        text: str,
        message_id: UUID | str | None,
        files: Mapping[str, InputSource] | None,
        tenant: str | None,
        user: str,
        timeout_s: float | None,
    ) -> Job:
        if not text.strip():
            raise UserInputError("there is nothing to do: the message is empty", stage="input")
        messages.check_text(text)
        checked = await uploads.checked(files or {})
        said, is_code = messages.as_said(text)
        return Job(
            tenant=check_tenant(self._tenant if tenant is None else tenant),
            user=user,
            message_id=None if message_id is None else str(message_id),
            text=said,
            model=await self._model(is_code=is_code),
            files=checked,
            timeout_s=self._timeout(timeout_s),
        )

    def _timeout(self, asked: float | None) -> float:
        if asked is None:
            return self._options.timeout_s
        if not 0 < asked < float("inf"):
            raise UserInputError(f"timeout_s must be above zero and finite, got {asked!r}", stage="input")
        return asked

    async def _model(self, *, is_code: bool) -> str:
        if self._options.model:
            return self._options.model
        if is_code and await self._knows_local_python():
            return LOCAL_PYTHON
        from bichat.settings.settings import openai_model

        return openai_model()

    async def _knows_local_python(self) -> bool:
        known = self._has_local_python
        if known is None:
            try:
                found = await self._server.get(path("models", LOCAL_PYTHON), stage="run")
                known = found.body.get("id") == LOCAL_PYTHON
            except RemoteServiceError as error:
                if error.status_code != 404:
                    return False  # asked again the next time
                known = False
            self._has_local_python = known
        return known

    def _result(self, job: Job, loaded: Loaded, status: Status, failure: ExecutorError | None) -> ExecutionResult:
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
            timings=_timings(job),
            notice=" ".join((*job.notes, *loaded.notes)),
        )


def _status(job: Job, run: Json, *, is_late: bool) -> Status:
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


def _finished(failure: ExecutorError, job: Job, result: CodeInterpreterResult) -> ExecutorError:
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


def _check_good(result: CodeInterpreterResult, loaded: Loaded) -> None:
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


def _timings(job: Job) -> Timings:
    seconds: dict[str, Any] = {f"{name}_s": value for name, value in job.times.items()}
    return Timings(**seconds, total_s=time.perf_counter() - job.began)


def _line(logs: str) -> str:
    return logs if not logs or logs.endswith("\n") else f"{logs}\n"
