"""What clients of other servers have in common: one execution from its record to its clean-up."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Self
from uuid import UUID

import anyio

from bichat.archive import Archive
from bichat.clients import messages, outcomes, uploads
from bichat.clients.answers import Json, path
from bichat.clients.job import Job
from bichat.clients.keeping import Keeper, Recorded, Unrecorded
from bichat.clients.loading import Loaded, Loader
from bichat.clients.options import ClientOptions
from bichat.clients.trail import Broom, InDatabase, InMemory, Thing, Trail, fresh_marker, things_of
from bichat.clients.watching import Watch
from bichat.clients.wire import Answer, Server, check_client
from bichat.domain import Status
from bichat.errors import (
    ExecutorError,
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
_SWEEP_EVERY_S: Final = 60.0

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
        outcomes.check_good(result, loaded)
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
            result = outcomes.result_of(job, loader.loaded, status, failure)
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
            execution=replace(result, timings=outcomes.timings_of(job)),
            outputs=outputs,
            cells=tuple(cell.code for cell in job.cells),
            is_verbatim=bool(job.code) and [cell.code.strip() for cell in job.cells] == [job.code.strip()],
            text="\n\n".join(job.said),
            usage=job.usage,
            container_id=job.container_id,
            leftovers=tuple(left),
        )
        if failure is not None:
            raise outcomes.finished(failure, job, whole)
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
        run, is_late = await self._watch(job).ended()
        job.times["run"] = time.perf_counter() - started
        try:
            await self._collect(job, trail, run)
            job.is_collected = job.is_over
        except RemoteServiceError as error:
            if not is_late:
                raise
            job.notes.append(f"What it printed and left until then could not be had: {error.message}")
        return outcomes.status_of(job, run, is_late=is_late)

    async def _load(self, job: Job, loader: Loader, *, is_over: bool) -> None:
        if is_over or job.remote_files:
            await loader.load(job.remote_files)
        for url in job.images:
            loader.keep_image(url)

    async def _cleaned(self, job: Job, trail: Trail) -> list[RemoteObject]:
        """What is left, once the run is over and all is deleted that can be."""
        if "run" in job.ids and not job.is_over and not job.is_unwanted:
            await self._watch(job).cancelled()
        left, lost = await self._broom.sweep(
            trail.marker, trail.things, within_s=self._options.cleanup_s, is_known=job.is_collected
        )
        for each in (*left, *lost):
            logger.warning("a %s is left on the server: %s", each.kind, each.reason)
        await trail.close(left)
        return [*left, *lost]

    def _watch(self, job: Job) -> Watch:
        return Watch(job, self._options, look=partial(self._look, job), cancel=partial(self._cancel, job))

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
