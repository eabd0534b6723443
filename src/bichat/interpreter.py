"""The code interpreter: code and files in, result and files out, each execution in a sandbox of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict, Unpack
from weakref import WeakSet

import anyio
import anyio.to_thread

from bichat.admission import Admission, Claim
from bichat.domain import ExecutionResult, IsolationReport, Limits, Origin, Timings
from bichat.errors import LimitError, UserInputError
from bichat.events import Event
from bichat.sandbox.background import Background
from bichat.sandbox.environments import Environment, EnvironmentStore
from bichat.sandbox.inputs import InputSource, check_inputs
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.launch import Launched
from bichat.sandbox.pool import READY_BYTES, Activity
from bichat.sandbox.supervisor import Supervisor
from bichat.session import IDLE_BYTES, Session, check_code
from bichat.settings.location import make_data_dir
from bichat.settings.settings import Settings, load_settings
from bichat.sizes import KIB, MIB, format_size, parse_size
from bichat.tenants import LOCAL, check_tenant

if TYPE_CHECKING:  # only who asks for them pays for them
    from bichat.archive import Archive, Ledger
    from bichat.archive.archive import Restored
    from bichat.repository.chat_repository import ChatRepository
    from bichat.sandbox.denials import Denials
    from bichat.storage import FileStorage

#: Less than this leaves an interpreter nothing to compute with.
MIN_MEMORY_BYTES: Final = 16 * MIB
#: Longest names and values of an execution's environment variables together.
MAX_VARIABLES_BYTES: Final = 8 * KIB

logger = logging.getLogger(__name__)

Progress = Callable[[str, str], None]
"""Told what a long step is doing: the stage, and a detail of it."""


class _Options(TypedDict, total=False):
    """None, like leaving an option out, takes the default."""

    files: Mapping[str, InputSource] | None
    """What `/mnt/data`, the working directory, holds at the start, by name: a path, bytes, or a stream."""
    timeout_s: float | None
    """Wall-clock seconds of one execution, 300 by default; then it is interrupted, and killed if it does not heed that."""
    memory: str | int | None
    """A size such as `"1g"`, or bytes; 1 GiB by default, 16 MiB at least."""
    environment: str | None
    """The package set to run with, `data` by default; built now if it never was."""
    limits: Limits | None
    """All limits at once; `timeout_s` and `memory` go before it."""
    variables: Mapping[str, str] | None
    """Environment variables for the code, beside those that every sandbox has."""


class RunOptions(_Options, total=False):
    """What an execution may be given beside its code."""

    name: str | None
    """What tracebacks call the code; `main.py` by default."""


class SessionOptions(_Options, total=False):
    """What a session may be given at its opening."""

    tenant: str
    """Whose it is: caps hold for each tenant, and none can end another's sessions.  `"local"` by default."""
    user: str
    """Whose within the tenant, for the record; nobody's by default."""
    details: Mapping[str, Any] | None
    """What else is recorded with it, JSON: `SessionRecord.options["details"]`."""


class ReopenOptions(SessionOptions, total=False):
    """What a session may be given that is opened again."""

    resume: str | None
    """The id of a session that has ended (`Session.id`): its environment, limits and files come back, its variables do not."""


class ExecutionOptions(RunOptions, SessionOptions, total=False):
    """What an execution in a session of its own may be given."""

    origin: Origin | None
    """What asked for it, where a record is kept."""


class CodeInterpreter:
    """Runs Python in isolation.  `async with` bounds its processes: on leaving, every one of them is gone.

    One interpreter serves many sessions and executions at a time; each session has a fresh sandbox that no other ever
    uses.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        preload: bool = True,
        progress: Progress | None = None,
        launched: Launched | None = None,
        denials: Denials | None = None,
        storage: FileStorage | None = None,
        repository: ChatRepository | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            settings: where the data directory is, limits, bounds and caps; read from `BICHAT_*` variables by default.
            preload: import an environment's libraries once, beside the first executions, so that all later ones find
                them imported, and keep some sandboxes ready; costs some seconds of one processor and a quarter of a
                gigabyte.
            progress: told what is being done while an environment is built for its first use.
            launched: a launcher that is already on its way; used when its environment is asked for.
            denials: told of every system call that is refused to code; for diagnosis, for it slows those calls down.
            storage: where files that come out are kept, together with `repository`.
            repository: where sessions, executions and those files are recorded; the caller's to close.

        Raises:
            TypeError: one of `storage` and `repository` without the other.
        """
        if (storage is None) != (repository is None):
            raise TypeError(
                "storage and repository go together: no row is without its file, and no file without its row"
            )
        self._settings = settings or load_settings()
        self._preload = preload
        self._progress = progress
        self._launched = launched
        self._denials = denials
        self._store = EnvironmentStore(self._settings.data_dir)
        self._supervisors: dict[str, Supervisor] = {}
        self._opening: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._exits = AsyncExitStack()
        self._background = Background()
        self._sessions: WeakSet[Session] = WeakSet()
        self._admission = Admission(self._settings.caps, ready_bytes=self._ready_bytes, shrink=self._shrink)
        self._is_open = False
        self._kept_in = (storage, repository) if storage is not None and repository is not None else None
        self._archive: Archive | None = None

    async def __aenter__(self) -> Self:
        await self._exits.__aenter__()
        if self._kept_in is not None:
            from bichat.archive import Archive

            self._archive = await self._exits.enter_async_context(Archive(*self._kept_in))
        self._is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_open = False
        for session in tuple(self._sessions):
            session.end("closed")
        await self._background.close()
        self._supervisors.clear()
        await self._exits.aclose()

    async def warm(self, environment: str | None = None) -> None:
        """Wait until the environment's libraries are imported and sandboxes are ready, building it where it never was.

        A server calls this before it takes requests; code that runs earlier imports what it needs by itself.

        Raises:
            As `run`.
        """
        await (await self._supervisor(environment or self._settings.environment)).warmed()

    @property
    def isolation(self) -> IsolationReport | None:
        """What stands between code and host here; None until there was a sandbox."""
        return next((each.isolation for each in self._supervisors.values() if each.isolation is not None), None)

    @property
    def archive(self) -> Archive | None:
        """What keeps the files and the record; None where nothing is kept, and before it is entered."""
        return self._archive

    @asynccontextmanager
    async def session(self, **options: Unpack[ReopenOptions]) -> AsyncGenerator[Session]:
        """A session that ends on leaving: see `open_session`."""
        session = await self.open_session(**options)
        try:
            yield session
        finally:
            await session.close()

    async def open_session(self, **options: Unpack[ReopenOptions]) -> Session:
        """A fresh session.  It ends by `Session.close`, by itself when its time has come, or with the interpreter.

        Args:
            **options: see `ReopenOptions`: `files`, `timeout_s`, `memory`, `environment`, `limits`, `variables`,
                `tenant`, `user`, `resume`.

        Raises:
            CapacityError: no room within the time that a request waits.
            NotFoundError: `resume` is no session of the tenant's.
            ConflictError: the session to resume lives.
            As `run`.
        """
        _check_options(options, ReopenOptions)
        resumed = options.pop("resume", None)
        if resumed is not None:
            return await self._reopen(resumed, options)
        limits = self._limits(options)
        return await self._open(options, limits, Claim(sessions=1, memory_bytes=IDLE_BYTES), keep_inputs=True)

    async def _reopen(self, session_id: str, options: SessionOptions) -> Session:
        """As `open_session`, with what another session had; what is asked for goes before that."""
        if self._archive is None:
            raise UserInputError(
                "sessions are opened again from a record, and none is kept",
                stage="session",
                remedy="Give CodeInterpreter a storage and a repository.",
            )
        tenant = check_tenant(options.get("tenant", LOCAL))
        spool_folder = make_data_dir(make_data_dir(self._settings.data_dir) / "spool")
        async with self._archive.restored(tenant, session_id, spool_folder) as restored:
            asked: SessionOptions = {
                "environment": restored.session.environment,
                "limits": restored.limits,
                **{name: value for name, value in options.items() if value is not None},  # pyright: ignore[reportAssignmentType]  # the same options
            }
            limits = self._limits(asked)
            claim = Claim(sessions=1, memory_bytes=IDLE_BYTES)
            return await self._open(asked, limits, claim, restored=restored, keep_inputs=True)

    async def run(self, code: str, **options: Unpack[ExecutionOptions]) -> ExecutionResult:
        """Run `code`, up to 4 MiB of Python, in a fresh sandbox and return all that came out of it.

        Args:
            code: Python source.
            **options: see `ExecutionOptions`: `files`, `timeout_s`, `memory`, `environment`, `limits`, `variables`,
                `name`, `tenant`, `user`, `details`, `origin`.

        Raises:
            UserInputError: unusable code, files or names.
            LimitError: above a limit, or a limit above the operator's bound.
            NotFoundError: no environment of that name.
            CapacityError: no room within the time that a request waits; the code has not run.
            SandboxUnavailableError: this host cannot give a sandbox; the code has not run.
            EnvironmentBuildError: the environment could not be built.
            StorageError: the files that came out could not be kept.
        """
        session = await self._open_for(code, options)
        try:
            name = options.get("name") or "main.py"
            return await session.run(code, name=name, final=True, origin=options.get("origin"))
        finally:
            # Killed, not waited for: the caller has his answer before the kernel is done.
            session.end("closed")

    async def stream(self, code: str, **options: Unpack[ExecutionOptions]) -> AsyncGenerator[Event]:
        """As `run`, with everything as it happens; the last event is `Completed`.

        A caller that is cancelled, or closes the stream (`contextlib.aclosing`), ends the code.
        """
        session = await self._open_for(code, options)
        try:
            name, origin = options.get("name") or "main.py", options.get("origin")
            async with aclosing(session.stream(code, name=name, final=True, origin=origin)) as events:
                async for event in events:
                    yield event
        finally:
            session.end("closed")

    async def _open_for(self, code: str, options: ExecutionOptions) -> Session:
        """A session for one execution, which holds all that it may use from the start."""
        _check_options(options, ExecutionOptions)
        limits = self._limits(options)
        check_code(code)
        whole = Claim(sessions=1, executions=1, memory_bytes=limits.memory_bytes + limits.disk_bytes)
        return await self._open(options, limits, whole)

    async def _open(
        self,
        options: SessionOptions,
        limits: Limits,
        claim: Claim,
        *,
        restored: Restored | None = None,
        keep_inputs: bool = False,
    ) -> Session:
        started = time.perf_counter()
        tenant = check_tenant(options.get("tenant", LOCAL))
        variables = options.get("variables") or {}
        _check_variables(variables)
        files = options.get("files")
        inputs = await anyio.to_thread.run_sync(check_inputs, files, limits) if files else ()
        whole = Claim(sessions=1, memory_bytes=limits.memory_bytes + limits.disk_bytes)
        self._admission.check(whole)
        self._check_open()
        await self._admission.admit(tenant, claim, needed=claim if claim.executions else whole)
        try:
            admitted = time.perf_counter()
            supervisor = await self._supervisor(options.get("environment") or self._settings.environment)
            sandbox = await supervisor.open(limits, variables=variables)
        except BaseException:
            self._admission.release(tenant, claim)
            raise
        ledger: Ledger | None = None
        try:
            ready = time.perf_counter()
            if restored is not None:
                await sandbox.put(restored.inputs)
            await sandbox.put(inputs)
            ledger = await self._ledger(supervisor.environment, options, limits, restored)
            if ledger is not None and keep_inputs:
                for file in inputs:
                    if file.size_bytes > limits.artifact_bytes:
                        await ledger.miss(file.name, file.size_bytes)
                    else:
                        await ledger.put(await sandbox.open(file.name))
            self._check_open()
        except BaseException:
            self._admission.release(tenant, claim)
            with anyio.CancelScope(shield=True):
                await sandbox.close()
                if ledger is not None:
                    await ledger.end("closed")
            raise
        session = Session(
            sandbox,
            tenant=tenant,
            limits=limits,
            admission=self._admission,
            held=claim,
            background=self._background,
            timings=Timings(
                queue_s=admitted - started, sandbox_s=ready - admitted, input_s=time.perf_counter() - ready
            ),
            ledger=ledger,
            notice=restored.notice if restored else "",
        )
        self._sessions.add(session)
        return session

    async def _ledger(
        self, environment: Environment, options: SessionOptions, limits: Limits, restored: Restored | None
    ) -> Ledger | None:
        if self._archive is None:
            return None
        return await self._archive.begin_session(
            options.get("tenant", LOCAL),
            user=options.get("user", ""),
            details=options.get("details"),
            environment=environment.name,
            lock_hash=environment.lock_hash,
            limits=limits,
            restored=restored,
        )

    def _limits(self, options: SessionOptions) -> Limits:
        limits = options.get("limits") or self._settings.limits
        timeout_s, memory = options.get("timeout_s"), options.get("memory")
        if timeout_s is not None:
            limits = replace(limits, timeout_s=timeout_s)
        if memory is not None:
            limits = replace(limits, memory_bytes=parse_size(memory))
        if limits.memory_bytes < MIN_MEMORY_BYTES:
            raise LimitError(
                f"{format_size(limits.memory_bytes)} of memory are not enough for an interpreter",
                stage="limits",
                remedy=f"Ask for {format_size(MIN_MEMORY_BYTES)} at least.",
            )
        return limits.within(self._settings.bounds)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError(
                "use it inside `async with CodeInterpreter() as interpreter:`, which ends what it starts"
            )

    async def _supervisor(self, name: str) -> Supervisor:
        self._check_open()
        async with self._opening[name]:
            supervisor = self._supervisors.get(name)
            if supervisor is None:
                supervisor = await self._exits.enter_async_context(await self._new_supervisor(name))
                if not self._is_open:  # left meanwhile: nobody else would end it
                    await self._exits.aclose()
                self._check_open()
                self._supervisors[name] = supervisor
        return supervisor

    async def _new_supervisor(self, name: str) -> Supervisor:
        make_data_dir(self._settings.data_dir)
        launched = None
        if self._launched is not None and self._launched.environment.name == name:
            launched, self._launched = self._launched, None
        environment = launched.environment if launched else await anyio.to_thread.run_sync(self._environment, name)
        spool_folder = make_data_dir(self._settings.data_dir / "spool")
        minimum = Level(self._settings.isolation)
        if not self._preload:
            # One session, and somebody waits for it: nothing preloaded, no standing back.
            return Supervisor(
                environment,
                spool_folder=spool_folder,
                launched=launched,
                preload=(),
                minimum=minimum,
                niceness=0,
                denials=self._denials,
            )
        return Supervisor(
            environment,
            spool_folder=spool_folder,
            launched=launched,
            minimum=minimum,
            denials=self._denials,
            zygote_life_s=self._settings.zygote_life_s,
            ready=self._settings.ready_sandboxes,
            ready_limits=self._settings.limits,
            has_room=lambda: self._admission.has_room(READY_BYTES),
            activity=lambda: Activity(self._admission.executions, self._admission.admitted_at),
        )

    def _environment(self, name: str) -> Environment:
        found = self._store.find(name)
        if found is None:
            logger.info("building the environment %s, which takes a minute or two", name)
            found = self._store.build(name, progress=self._progress)
        return found

    def _ready_bytes(self) -> int:
        return sum(supervisor.ready_bytes for supervisor in self._supervisors.values())

    def _shrink(self) -> bool:
        return any(supervisor.shrink() for supervisor in self._supervisors.values())


def _check_options(options: _Options, kind: type[_Options]) -> None:
    """A misspelt option would otherwise be a limit that silently does not hold."""
    known = kind.__required_keys__ | kind.__optional_keys__
    unknown = options.keys() - known
    if unknown:
        raise TypeError(f"there is no option {min(unknown)!r}; there are: {', '.join(sorted(known))}")


def _check_variables(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if not _is_variable(name, value):
            raise UserInputError(
                f"{name!r} and its value cannot be an environment variable",
                stage="input",
                remedy="Both must be text without NUL; the name must not be empty and not hold '='.",
            )
    size = sum(len(name) + len(value) for name, value in variables.items())
    if size > MAX_VARIABLES_BYTES:
        raise LimitError(
            f"the environment variables are {format_size(size)} long, above the limit of "
            f"{format_size(MAX_VARIABLES_BYTES)}",
            stage="input",
            remedy="Pass data as a file, and read it in the code.",
        )


def _is_variable(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    try:
        (name + value).encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and "=" not in name and "\0" not in name + value


def run(code: str, *, progress: Progress | None = None, **options: Unpack[RunOptions]) -> ExecutionResult:
    """As `CodeInterpreter.run`, for scripts: one sandbox, nothing preloaded, everything gone on return."""

    async def once() -> ExecutionResult:
        async with CodeInterpreter(preload=False, progress=progress) as interpreter:
            return await interpreter.run(code, **options)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.run(once)
    # A notebook's cell, say: its loop is taken, so this gets a thread and a loop of its own.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(anyio.run, once).result()
