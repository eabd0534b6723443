"""The code interpreter: code and files in, result and files out, each execution in a sandbox of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Final, Self, TypedDict, Unpack

import anyio
import anyio.to_thread

from bichat.domain import ExecutionResult, Limits, Timings
from bichat.errors import LimitError, UserInputError
from bichat.events import Completed, Event, Stderr, Stdout
from bichat.sandbox.environments import Environment, EnvironmentStore
from bichat.sandbox.inputs import InputFile, InputSource, check_inputs
from bichat.sandbox.launch import Launched
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor
from bichat.settings.location import make_data_dir
from bichat.settings.settings import Settings, load_settings
from bichat.sizes import KIB, MIB, format_size, parse_size

#: Longest source text of one execution.
MAX_CODE_BYTES: Final = 4 * MIB
#: Longest names and values of an execution's environment variables together.
MAX_VARIABLES_BYTES: Final = 8 * KIB

logger = logging.getLogger(__name__)

Progress = Callable[[str, str], None]
"""Told what a long step is doing: the stage, and a detail of it."""


class RunOptions(TypedDict, total=False):
    """What an execution may be given beside its code.  None, like leaving it out, takes the default."""

    files: Mapping[str, InputSource] | None
    """What `/mnt/data`, the working directory, holds at the start, by name: a path, bytes, or a stream."""
    timeout_s: float | None
    """Wall-clock seconds, 300 by default; then the code is killed: status `timeout`."""
    memory: str | int | None
    """A size such as `"1g"`, or bytes; 1 GiB by default."""
    environment: str | None
    """The package set to run with, `data` by default; built now if it never was."""
    limits: Limits | None
    """All limits at once; `timeout_s` and `memory` go before it."""
    variables: Mapping[str, str] | None
    """Environment variables for the code, beside those that every sandbox has."""
    name: str | None
    """What tracebacks call the code; `main.py` by default."""


class CodeInterpreter:
    """Runs Python in isolation.  `async with` bounds its processes: on leaving, every one of them is gone.

    One interpreter serves many executions at a time; each has a fresh sandbox that no other ever uses.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        preload: bool = True,
        progress: Progress | None = None,
        launched: Launched | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            settings: where the data directory is, limits and bounds; read from `BICHAT_*` variables by default.
            preload: import an environment's libraries once, beside the first executions, so that all later ones find
                them imported; costs some seconds of one processor and a quarter of a gigabyte.
            progress: told what is being done while an environment is built for its first use.
            launched: a launcher that is already on its way; used when its environment is asked for.
        """
        self._settings = settings or load_settings()
        self._preload = preload
        self._progress = progress
        self._launched = launched
        self._store = EnvironmentStore(self._settings.data_dir)
        self._supervisors: dict[str, Supervisor] = {}
        self._opening = anyio.Lock()
        self._exits = AsyncExitStack()
        self._is_open = False
        #: Killed, and not yet known to be gone: the caller has its answer before the kernel is done.
        self._ending: list[NamespaceSandbox] = []

    async def __aenter__(self) -> Self:
        await self._exits.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_open = False
        while self._ending:
            await self._ending.pop().close()
        self._supervisors.clear()
        await self._exits.aclose()

    async def warm(self, environment: str | None = None) -> None:
        """Wait until the environment's libraries are imported, building it first where it never was.

        A server calls this before it takes requests; code that runs earlier imports what it needs by itself.

        Raises:
            As `run`.
        """
        await (await self._supervisor(environment or self._settings.environment)).warmed()

    async def run(self, code: str, **options: Unpack[RunOptions]) -> ExecutionResult:
        """Run `code`, up to 4 MiB of Python, in a fresh sandbox and return all that came out of it.

        Args:
            code: Python source.
            **options: see `RunOptions`: `files`, `timeout_s`, `memory`, `environment`, `limits`, `variables`, `name`.

        Raises:
            UserInputError: unusable code, files or names.
            LimitError: above a limit, or a limit above the operator's bound.
            NotFoundError: no environment of that name.
            SandboxUnavailableError: this host cannot give a sandbox; the code has not run.
            EnvironmentBuildError: the environment could not be built.
            StorageError: the files that came out could not be kept.
        """
        result: ExecutionResult | None = None
        async with aclosing(self.stream(code, **options)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    result = event.result
        if result is None:
            raise AssertionError("a stream ends with Completed")
        return result

    async def stream(self, code: str, **options: Unpack[RunOptions]) -> AsyncGenerator[Event]:
        """As `run`, with `Stdout` and `Stderr` as they are printed; the last event is `Completed`.

        A caller that is cancelled ends the code; one that stops iterating does too, at once if it closes the stream
        (`contextlib.aclosing`).
        """
        started = time.perf_counter()
        _check_options(options)
        limits = self._limits(options)
        variables = options.get("variables") or {}
        _check_code(code)
        _check_variables(variables)
        inputs = await anyio.to_thread.run_sync(check_inputs, options.get("files") or {}, limits)
        supervisor = await self._supervisor(options.get("environment") or self._settings.environment)
        sandbox = await supervisor.open(limits, variables=variables)
        execution = _Execution(sandbox, code, options.get("name") or "main.py", inputs, limits.timeout_s, started)
        try:
            async with aclosing(execution.events()) as events:
                async for event in events:
                    yield event
        finally:
            await self._end(sandbox)

    async def _end(self, sandbox: NamespaceSandbox) -> None:
        """Kill it without waiting for that, and let go of those of which nothing is left by now."""
        sandbox.end()
        self._ending.append(sandbox)
        gone = [ending for ending in self._ending if ending.gone]
        # Taken off the list before the first await: others end theirs meanwhile.
        self._ending = [ending for ending in self._ending if ending not in gone]
        for ending in gone:
            await ending.close()

    def _limits(self, options: RunOptions) -> Limits:
        limits = options.get("limits") or self._settings.limits
        timeout_s, memory = options.get("timeout_s"), options.get("memory")
        if timeout_s is not None:
            limits = replace(limits, timeout_s=timeout_s)
        if memory is not None:
            limits = replace(limits, memory_bytes=parse_size(memory))
        return limits.within(self._settings.bounds)

    async def _supervisor(self, name: str) -> Supervisor:
        if not self._is_open:
            raise RuntimeError(
                "use it inside `async with CodeInterpreter() as interpreter:`, which ends what it starts"
            )
        async with self._opening:
            supervisor = self._supervisors.get(name)
            if supervisor is None:
                supervisor = await self._exits.enter_async_context(await self._new_supervisor(name))
                self._supervisors[name] = supervisor
        return supervisor

    async def _new_supervisor(self, name: str) -> Supervisor:
        make_data_dir(self._settings.data_dir)
        launched = None
        if self._launched is not None and self._launched.environment.name == name:
            launched, self._launched = self._launched, None
        environment = launched.environment if launched else await anyio.to_thread.run_sync(self._environment, name)
        spool_folder = make_data_dir(self._settings.data_dir / "spool")
        if self._preload:
            return Supervisor(environment, spool_folder=spool_folder, launched=launched)
        # One execution, and somebody waits for it: nothing preloaded, no standing back.
        return Supervisor(environment, spool_folder=spool_folder, launched=launched, preload=(), niceness=0)

    def _environment(self, name: str) -> Environment:
        found = self._store.find(name)
        if found is None:
            logger.info("building the environment %s, which takes a minute or two", name)
            found = self._store.build(name, progress=self._progress)
        return found


class _Execution:
    """One execution on its way from an open sandbox to its result."""

    def __init__(
        self,
        sandbox: NamespaceSandbox,
        code: str,
        name: str,
        inputs: tuple[InputFile, ...],
        timeout_s: float,
        started: float,
    ) -> None:
        self._sandbox = sandbox
        self._code = code
        self._name = name
        self._inputs = inputs
        self._timeout_s = timeout_s
        self._started = started

    async def events(self) -> AsyncGenerator[Event]:
        sandbox_at = time.perf_counter()
        await self._sandbox.put(self._inputs)
        input_at = time.perf_counter()
        ended: Ended | None = None
        run = self._sandbox.execute(self._code, name=self._name, timeout_s=self._timeout_s, final=True)
        async with aclosing(run) as events:
            async for event in events:
                match event:
                    case Stdout() | Stderr():
                        yield event
                    case Ended():
                        ended = event
        if ended is None:
            raise AssertionError("Sandbox.execute ends with Ended")
        run_at = time.perf_counter()
        captured = await self._sandbox.capture()
        now = time.perf_counter()
        timings = Timings(
            sandbox_s=sandbox_at - self._started,
            input_s=input_at - sandbox_at,
            run_s=run_at - input_at,
            capture_s=now - run_at,
            total_s=now - self._started,
        )
        result = ExecutionResult(
            status=ended.status,
            stdout=ended.stdout.text,
            stderr=ended.stderr.text,
            stdout_omitted_bytes=ended.stdout.omitted_bytes,
            stderr_omitted_bytes=ended.stderr.omitted_bytes,
            error=ended.error,
            artifacts=captured.artifacts,
            refused=captured.refused,
            isolation=self._sandbox.isolation,
            timings=timings,
        )
        yield Completed(result)


def _check_options(options: RunOptions) -> None:
    """A misspelt option would otherwise be a limit that silently does not hold."""
    unknown = options.keys() - RunOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(RunOptions.__annotations__)
        raise TypeError(f"there is no option {min(unknown)!r}; there are: {known}")


def _check_code(code: str) -> None:
    if not isinstance(code, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise UserInputError(
            f"the code must be text, not {type(code).__name__}", stage="input", remedy="Pass a str of Python source."
        )
    if not code.strip():
        raise UserInputError("there is no code to run", stage="input", remedy="Pass Python source.")
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > MAX_CODE_BYTES:
        raise LimitError(
            f"the code is {format_size(size)} long, above the limit of {format_size(MAX_CODE_BYTES)}",
            stage="input",
            remedy="Pass data as a file, and read it in the code.",
        )


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
