"""The ways to run a task that take turns: the floor, a cold Python, Jupyter's kernel, and bichat's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio
from jupyter_peer import JupyterPeer

from bench.tasks import OutputError, Task
from bichat import CodeInterpreter, ExecutionResult
from bichat.sandbox.environments import Environment
from bichat.sandbox.guest import warm_up
from bichat.sandbox.launch import guest_environment
from bichat.session import Session

FLOOR: Final = "floor: exec in a warm interpreter"
BARE: Final = "bare python"
KERNEL_COLD: Final = "ipykernel, cold start"
KERNEL_WARM: Final = "ipykernel, warm"
POOL: Final = "fresh session, from the pool"
DEMAND: Final = "fresh session, empty pool"
CELL: Final = "cell in an open session"
COMMAND: Final = "bichat run"

#: For what the last measurement left behind to go: a sandbox's tree takes some milliseconds to end.
_SETTLE_S: Final = 0.03
#: Around the code of a cell that says how long its own statements took.
_BEFORE: Final = "import time\n_started = time.perf_counter()\n"
_AFTER: Final = "\n_taken = time.perf_counter() - _started\n"


@dataclass(frozen=True, slots=True)
class Taken:
    """One measurement."""

    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds of it, by where they went, as far as the variant knows."""


class Variant(Protocol):
    """A way to run a task."""

    name: str
    is_dear: bool
    """Whether it takes so long that it takes only some of its turns."""

    async def measure(self, task: Task) -> Taken:
        """Run it once, look at what it produced, and clean up; only the running is timed.

        Raises:
            OutputError: it produced something else.
        """
        ...

    async def settle(self) -> None:
        """Wait until nothing of the last measurement goes on, and the next one may begin."""
        ...


class _Folder:
    """A variant that writes into a folder of its own, on a disk of the kind that sandboxes have where there is one."""

    name: str
    is_dear = False

    def __init__(self, environment: Environment, scratch: Path) -> None:
        self._environment = environment
        self._folder = Path(tempfile.mkdtemp(dir=scratch))
        self._variables = variables(environment, scratch)

    async def settle(self) -> None:
        """See `Variant.settle`."""
        await anyio.sleep(_SETTLE_S)

    def _run(self, command: Sequence[str | Path], variables: Mapping[str, str]) -> tuple[bytes, float]:
        """What a command printed, and how long it took."""
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self._folder, env=variables, capture_output=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise OutputError(f"{self.name} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout, seconds

    def _verify(self, task: Task, printed: bytes, folder: Path | None = None) -> None:
        produced = printed
        if task.output:
            file = (folder or self._folder) / task.output
            produced = file.read_bytes() if file.exists() else b""
            file.unlink(missing_ok=True)
        task.verify(produced, self.name)


class Floor(_Folder):
    """See `floor_process`."""

    name = FLOOR

    async def __aenter__(self) -> Self:
        script = Path(__file__).with_name("floor_process.py")
        self._process = subprocess.Popen(
            [self._environment.python, "-I", "-B", script, warm_up.__file__, *self._environment.preload],
            cwd=self._folder,
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        await anyio.to_thread.run_sync(self._answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.__exit__(kind, error, trace)

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        if self._process.stdin is None:
            raise AssertionError("it was opened with a pipe")
        self._process.stdin.write(json.dumps({"code": task.code}) + "\n")
        self._process.stdin.flush()
        answer = await anyio.to_thread.run_sync(self._answer)
        self._verify(task, answer["stdout"].encode())
        return Taken(answer["seconds"])

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise OutputError("the floor's process has ended")
        return json.loads(line)


class Bare(_Folder):
    """The environment's Python, started for the task."""

    name = BARE
    is_dear = True

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        script = self._folder / "task.py"
        script.write_text(task.code, encoding="utf-8")
        arguments = [script] if task.output else ["-c", task.code]
        printed, seconds = self._run([self._environment.python, *arguments], self._variables)
        self._verify(task, printed)
        return Taken(seconds)


class Command(_Folder):
    """The command line, started for the task."""

    name = COMMAND
    is_dear = True

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        script, out = self._folder / "task.py", self._folder / "out"
        script.write_text(task.code, encoding="utf-8")
        command = [Path(sys.executable).with_name("bichat"), "run", script, "--output-dir", out]
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        printed, seconds = self._run(command, inherited)
        self._verify(task, printed, out)
        return Taken(seconds)


class ColdKernel(_Folder):
    """A kernel started for the task."""

    name = KERNEL_COLD
    is_dear = True

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        peer = _peer(self._environment, self._variables)
        started = time.perf_counter()
        await peer.start()
        try:
            outcome = await peer.execute(task.code)
            seconds = time.perf_counter() - started
            self._verify(task, outcome.stdout.encode(), peer.work_folder)
        finally:
            await peer.shutdown()
        return Taken(seconds)


class WarmKernel(_Folder):
    """One kernel for all: what it ran before stays, and so does what that imported."""

    name = KERNEL_WARM

    async def __aenter__(self) -> Self:
        self._peer = _peer(self._environment, self._variables)
        await self._peer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._peer.shutdown()

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        started = time.perf_counter()
        outcome = await self._peer.execute(task.code)
        seconds = time.perf_counter() - started
        self._verify(task, outcome.stdout.encode(), self._peer.work_folder)
        return Taken(seconds)


class Fresh:
    """`CodeInterpreter.run`: a session for the task alone, from the pool where the interpreter has one."""

    is_dear = False

    def __init__(self, name: str, interpreter: CodeInterpreter) -> None:
        self.name = name
        self._interpreter = interpreter

    async def measure(self, task: Task) -> Taken:
        """See `Variant.measure`."""
        started = time.perf_counter()
        result = await self._interpreter.run(task.code)
        seconds = time.perf_counter() - started
        verify(task, result, self.name)
        return Taken(seconds, _stages(result, seconds))

    async def settle(self) -> None:
        """Until the pool is full again."""
        await self._interpreter.warm()
        await anyio.sleep(_SETTLE_S)


class Cell:
    """A cell in a session that has run others."""

    name = CELL
    is_dear = False

    def __init__(self, session: Session) -> None:
        self._session = session

    async def measure(self, task: Task) -> Taken:
        """The part `code` is what the cell itself saw pass from its first statement to its last.

        `overhead` is all the rest, and the parts after it are what that is made of.
        """
        code = _BEFORE + task.code + _AFTER
        started = time.perf_counter()
        result = await self._session.run(code)
        seconds = time.perf_counter() - started
        verify(task, result, self.name)
        within = float((await self._session.run("print(_taken)")).stdout)
        stages = _stages(result, seconds)
        stages["run"] -= within
        return Taken(seconds, {"code": within, "overhead": seconds - within, **stages})

    async def settle(self) -> None:
        """See `Variant.settle`."""
        await anyio.sleep(_SETTLE_S)


async def open_variants(
    exits: AsyncExitStack, environment: Environment, scratch: Path, *, pool: CodeInterpreter, demand: CodeInterpreter
) -> tuple[Variant, ...]:
    """All of them; those that are processes end with `exits`.

    Args:
        exits: bounds the processes.
        environment: whose Python all of them run.
        scratch: an empty folder.
        pool: an interpreter with a pool.
        demand: one without.
    """
    return (
        await exits.enter_async_context(Floor(environment, scratch)),
        Bare(environment, scratch),
        ColdKernel(environment, scratch),
        await exits.enter_async_context(WarmKernel(environment, scratch)),
        Fresh(POOL, pool),
        Fresh(DEMAND, demand),
        Cell(await exits.enter_async_context(pool.session())),
        Command(environment, scratch),
    )


def variables(environment: Environment, scratch: Path) -> dict[str, str]:
    """Environment variables for processes without walls: a guest's, with the writable folders in `scratch`.

    matplotlib keeps its list of fonts there, so that nobody pays for making it but the first, who is not counted.
    """
    names = ("HOME", "TMPDIR", "MPLCONFIGDIR")
    return {**guest_environment(environment), **dict.fromkeys(names, str(scratch))}


def _peer(environment: Environment, variables: Mapping[str, str]) -> JupyterPeer:
    """Plain: it shows figures as Jupyter does."""
    return JupyterPeer(environment.path, variables={"MPLCONFIGDIR": variables["MPLCONFIGDIR"]})


def verify(task: Task, result: ExecutionResult, variant: str) -> None:
    """Look at what came out.

    Raises:
        OutputError: something else than what must come out.
    """
    if not result.ok:
        raise OutputError(f"{task.name} by {variant} ended as {result.status}: {result.error}")
    produced = result.artifact(task.output).read_bytes() if task.output else result.stdout.encode()
    task.verify(produced, variant)


def _stages(result: ExecutionResult, seconds: float) -> dict[str, float]:
    timings = result.timings
    stages = {
        "admission": timings.queue_s,
        "sandbox": timings.sandbox_s,
        "run": timings.run_s,
        "capture": timings.capture_s,
    }
    return {**stages, "rest": seconds - sum(stages.values())}
