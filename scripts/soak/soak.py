"""Many executions of all kinds, by two tenants at a time, in one interpreter."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count, cycle

import anyio
from bench.samples import Samples
from bench.tree import settled

from bichat import CodeInterpreter
from bichat.settings.settings import Settings
from soak.footprint import Footprint
from soak.kinds import KINDS, Tenant

_TENANTS = ("left", "right")
#: Turns that go before the first look: caches fill, threads start, groups are made.
_WARM_UP = 40


@dataclass(slots=True)
class Soaked:
    """What became of it."""

    executions: int = 0
    seconds: float = 0.0
    latencies: dict[str, tuple[Samples, Samples]] = field(default_factory=dict[str, tuple[Samples, Samples]])
    """By kind: in the first tenth, in the last tenth."""
    start: Footprint | None = None
    middle: Footprint | None = None
    end: Footprint | None = None

    @property
    def looks(self) -> tuple[Footprint, Footprint, Footprint]:
        """At the start, in the middle, at the end; nothing runs then."""
        if self.start is None or self.middle is None or self.end is None:
            raise RuntimeError("the soak has not come to its end")
        return self.start, self.middle, self.end


async def soak(settings: Settings, executions: int, kinds: Iterable[str] = tuple(KINDS)) -> Soaked:
    """`executions` of `kinds`, at least 20, in turns.

    Raises:
        SoakError: one came to something else than it must.
    """
    soaked = Soaked(executions, latencies={kind: (Samples(), Samples()) for kind in kinds})
    turns = cycle([kind for kind in soaked.latencies for _ in range(KINDS[kind][0])])
    tenth = max(1, executions // 10)
    async with CodeInterpreter(settings=settings) as interpreter:
        tenants = [Tenant(interpreter, name) for name in _TENANTS]

        async def look() -> Footprint:
            for tenant in tenants:
                await tenant.close()
            await interpreter.warm()
            await settled()
            return Footprint.look(settings.data_dir / "spool")

        async def run(first: int, last: int, *, warm_up: bool = False) -> None:
            numbers = count(first)

            async def work(tenant: Tenant) -> None:
                while (number := next(numbers)) < last:
                    kind = next(turns)
                    started = time.perf_counter()
                    await KINDS[kind][1](tenant)
                    seconds = time.perf_counter() - started
                    if not warm_up and (number < tenth or number >= executions - tenth):
                        soaked.latencies[kind][number >= tenth].seconds.append(seconds)

            async with anyio.create_task_group() as tasks:
                for tenant in tenants:
                    tasks.start_soon(work, tenant)

        await interpreter.warm()
        await run(0, _WARM_UP, warm_up=True)
        soaked.start = await look()
        started = time.perf_counter()
        await run(0, executions // 2)
        soaked.middle = await look()
        await run(executions // 2, executions)
        soaked.seconds = time.perf_counter() - started
        soaked.end = await look()
    return soaked
