"""All that one run of the benchmark finds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import crowd, flood
from bench.cancelling import cancel
from bench.crowd import Idle, Opened, Throughput
from bench.effort import Effort
from bench.flood import Flood
from bench.latency import Latencies, Latency, take_turns
from bench.machine import Machine
from bench.samples import Samples
from bench.tasks import TASKS
from bench.variants import open_variants
from bichat import CodeInterpreter
from bichat.sandbox.environments import Environment
from bichat.settings.location import data_dir
from bichat.settings.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Values, as they were taken."""

    machine: Machine
    latencies: Latencies
    cancels: Mapping[str, Samples]
    """By kind of code."""
    throughputs: tuple[Throughput, ...]
    opened: tuple[Opened, ...]
    idle: Idle
    floods: tuple[Flood, ...]


async def measure(
    environment: Environment, effort: Effort, scratch: Path, say: Callable[[str], None] = lambda _: None
) -> Measured:
    """Take everything, one after the other; `say` is told what is under way.

    Raises:
        OutputError: something did not do what it is measured at.
    """
    machine = Machine.look(environment)
    say("starting interpreters, the floor and a kernel")
    async with AsyncExitStack() as exits:
        pool = await exits.enter_async_context(CodeInterpreter(settings=Settings(data_dir=data_dir())))
        demand = await exits.enter_async_context(
            CodeInterpreter(settings=Settings(data_dir=data_dir(), ready_sandboxes=0))
        )
        await pool.warm()
        await demand.warm()
        variants = await open_variants(exits, environment, scratch, pool=pool, demand=demand)
        latencies: dict[str, Mapping[str, Latency]] = {}
        for task in TASKS:
            say(f"{task.name}: {effort.rounds[task.name]} turns of {len(variants)} variants")
            latencies[task.name] = await take_turns(task, variants, effort)
        say("cancelling")
        cancels = await cancel(pool, effort.cancels)
    say("throughput")
    throughputs = await crowd.throughput(effort)
    say("sessions opened at once")
    opened = await crowd.opened_at_once(effort)
    say("memory of idle sandboxes")
    idle = await crowd.idle(effort)
    say(f"{flood.PRINTED_BYTES // 1_000_000} MB of output")
    floods = tuple([await flood.measure(case) for case in flood.CASES])
    return Measured(
        machine=machine,
        latencies=latencies,
        cancels=cancels,
        throughputs=throughputs,
        opened=opened,
        idle=idle,
        floods=floods,
    )
