"""Many at once: executions a second, sessions opened together, and what idle ones hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import anyio

from bench import tree
from bench.effort import Effort
from bench.samples import Samples
from bench.tasks import CHART, PRINT, Task
from bench.variants import verify
from bichat import CodeInterpreter
from bichat.session import Session
from bichat.settings.location import data_dir
from bichat.settings.settings import Caps, Settings
from bichat.sizes import GIB

#: So high that nothing ever waits: what is measured is the machine.
_CAPS: Final = Caps(
    sessions=100_000,
    tenant_sessions=100_000,
    executions=100_000,
    tenant_executions=100_000,
    memory_bytes=1_000_000 * GIB,
    tenant_memory_bytes=1_000_000 * GIB,
)
#: Twice as many as processors, so that none of those waits for the supervisor.
_WORKERS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One task, many times over, by a few workers."""

    task: str
    ready_sandboxes: int
    """Size of the pool meanwhile."""
    executions: int
    seconds: float
    """Until the last process of the last sandbox was gone."""
    own_processor_s: float
    """Processor time of this process meanwhile."""

    @property
    def per_s(self) -> float:
        """Executions a second."""
        return self.executions / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Sessions opened at once, with an empty pool."""

    sessions: int
    each: Samples
    """From asking to having one."""
    all_open: Samples
    """Until the last one was there."""
    all_answered: Samples
    """From handing a first `print(1)` to all of them to having the last answer."""
    held: tree.Held
    """What one holds, on average, before it has run anything."""
    held_after: tree.Held
    """The same after its first cell."""
    host_bytes: int
    """By how much less memory the host had to give after the first cell, for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Ready sandboxes, warmed up, that nobody uses."""

    sandboxes: int
    held: tree.Held
    """By one of them, on average."""
    zygote_bytes: int
    """PSS of what they are forked from, all processes together."""


def interpreter(ready_sandboxes: int) -> CodeInterpreter:
    """One with default limits, no caps to speak of, and a pool of this size."""
    return CodeInterpreter(settings=Settings(data_dir=data_dir(), caps=_CAPS, ready_sandboxes=ready_sandboxes))


async def throughput(interpreters: Mapping[int, CodeInterpreter], effort: Effort) -> tuple[Throughput, ...]:
    """Of `print(1)` and of the chart, by interpreters with pools of so many; nothing else is in a sandbox meanwhile."""
    return tuple(
        [
            await _throughput(own, task, effort.throughput[task.name], ready)
            for ready, own in interpreters.items()
            for task in (PRINT, CHART)
        ]
    )


async def opened_at_once(own: CodeInterpreter, effort: Effort) -> tuple[Opened, ...]:
    """For each number of sessions, by an interpreter without a pool."""
    await _open(own, 1)  # not counted
    return tuple(
        [_merged([await _open(own, count) for _ in range(times)]) for count, times in effort.opened_at_once.items()]
    )


async def idle(effort: Effort) -> Idle:
    """Of a pool of some size, full; nothing else is in a sandbox, and there is no other zygote."""
    async with interpreter(effort.idle) as own:
        await own.warm()
        held = tree.held(tree.sandboxed())
        zygotes = tree.held(tree.zygotes())
    return Idle(sandboxes=effort.idle, held=_each(held, effort.idle), zygote_bytes=zygotes.proportional_bytes)


async def _throughput(own: CodeInterpreter, task: Task, executions: int, ready: int) -> Throughput:
    left = iter(range(executions))

    async def work() -> None:
        for _ in left:
            verify(task, await own.run(task.code), "throughput")

    await own.run(task.code)
    await own.warm()
    await tree.settled()
    standing = len(tree.sandboxed())
    started, own_started = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as group:
        for _ in range(_WORKERS):
            group.start_soon(work)
    await tree.gone(but=standing)
    return Throughput(
        task=task.name,
        ready_sandboxes=ready,
        executions=executions,
        seconds=time.perf_counter() - started,
        own_processor_s=time.process_time() - own_started,
    )


async def _open(own: CodeInterpreter, count: int) -> Opened:
    sessions: list[Session] = []
    each = Samples()

    async def open_one() -> None:
        started = time.perf_counter()
        sessions.append(await own.open_session())
        each.seconds.append(time.perf_counter() - started)

    async def answer(session: Session) -> None:
        verify(PRINT, await session.run(PRINT.code), "a first cell")

    await tree.settled()
    before = frozenset(tree.sandboxed())
    available = tree.available_bytes()
    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(open_one)
    open_at = time.perf_counter()
    held = tree.held(frozenset(tree.sandboxed()) - before)
    asked_at = time.perf_counter()
    async with anyio.create_task_group() as group:
        for session in sessions:
            group.start_soon(answer, session)
    answered_at = time.perf_counter()
    held_after = tree.held(frozenset(tree.sandboxed()) - before)
    taken = available - tree.available_bytes()
    for session in sessions:
        await session.close()
    await tree.gone(but=len(before))
    return Opened(
        sessions=count,
        each=each,
        all_open=Samples([open_at - started]),
        all_answered=Samples([answered_at - asked_at]),
        held=_each(held, count),
        held_after=_each(held_after, count),
        host_bytes=taken // count,
    )


def _merged(rounds: list[Opened]) -> Opened:
    """Of the same number of sessions: all times, and the memory of the last."""
    last = rounds[-1]
    return Opened(
        sessions=last.sessions,
        each=Samples([seconds for one in rounds for seconds in one.each.seconds]),
        all_open=Samples([seconds for one in rounds for seconds in one.all_open.seconds]),
        all_answered=Samples([seconds for one in rounds for seconds in one.all_answered.seconds]),
        held=last.held,
        held_after=last.held_after,
        host_bytes=last.host_bytes,
    )


def _each(held: tree.Held, count: int) -> tree.Held:
    return tree.Held(proportional_bytes=held.proportional_bytes // count, private_bytes=held.private_bytes // count)
