"""All that one run of the benchmark finds out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import crowd, flood, isolation
from bench.cancelling import cancel
from bench.crowd import Idle, Opened, Throughput
from bench.effort import Effort
from bench.flood import Flood
from bench.keeping import keep
from bench.latency import Latencies, Latency, take_turns
from bench.machine import Machine
from bench.samples import Samples
from bench.serving import Serving, serve
from bench.tasks import TASKS
from bench.variants import open_variants
from bichat.sandbox.environments import Environment
from bichat.settings.settings import Settings

#: The bars are for so many; this process and all that it starts are bound to them.
PROCESSORS: Final = 2


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
    walls: Mapping[str, Samples]
    """Fresh sessions by what stands around them; see `isolation.fresh_sessions`."""
    keeping: Mapping[str, Mapping[str, Samples]]
    """Cells by what they leave behind, and by whether that is kept; see `keeping.keep`."""
    serving: Serving


async def measure(
    environment: Environment, effort: Effort, scratch: Path, say: Callable[[str], None] = lambda _: None
) -> Measured:
    """Take everything, one after the other, on two processors; `say` is told what is under way.

    Raises:
        OutputError: something did not do what it is measured at.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    machine = Machine.look(environment)
    say("starting interpreters, the floor and a kernel")
    async with AsyncExitStack() as exits:
        sizes = (0, Settings().ready_sandboxes)
        interpreters = {ready: await exits.enter_async_context(crowd.interpreter(ready)) for ready in sizes}
        for own in interpreters.values():
            await own.warm()
        demand, pool = interpreters.values()
        async with AsyncExitStack() as peers:
            variants = await open_variants(peers, environment, scratch, pool=pool, demand=demand)
            latencies: dict[str, Mapping[str, Latency]] = {}
            for task in TASKS:
                say(f"{task.name}: {effort.rounds[task.name]} turns of {len(variants)} variants")
                latencies[task.name] = await take_turns(task, variants, effort)
        say("cancelling")
        cancels = await cancel(pool, effort.cancels)
        say("throughput")
        throughputs = await crowd.throughput(interpreters, effort)
        say("sessions opened at once")
        opened = await crowd.opened_at_once(demand, effort)
    say("what keeping costs")
    kept = await keep(effort.kept)
    say("over HTTP")
    served = await serve(effort.served)
    say("what the walls cost")
    walls = await isolation.fresh_sessions(environment, scratch, effort.walls)
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
        walls=walls,
        keeping=kept,
        serving=served,
    )
