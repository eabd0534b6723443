"""What the walls cost: a fresh session of both levels, and with single layers left out, from an empty pool."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.samples import Samples
from bench.tasks import OutputError
from bichat.domain import Limits
from bichat.errors import SandboxUnavailableError
from bichat.sandbox.environments import Environment
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer, Level
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor

NAMESPACES: Final = "level namespaces"
NO_FILTER: Final = "level namespaces, without the list of calls"
LANDLOCK: Final = "level landlock"
UNWALLED: Final = "no walls: a fork, and its answer"

_ARRANGEMENTS: Final = {
    NAMESPACES: ALL_LAYERS,
    NO_FILTER: ALL_LAYERS - {Layer.SECCOMP},
    LANDLOCK: Level.LANDLOCK.layers,
    UNWALLED: Level.LANDLOCK.layers - {Layer.SECCOMP, Layer.LANDLOCK, Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP},
}


async def fresh_sessions(environment: Environment, scratch: Path, times: int) -> Mapping[str, Samples]:
    """By arrangement: from asking for a sandbox to the end of `print(1)` in it; in turns, `times` of each.

    An arrangement that this host, or its environment's place, does not allow is left out.

    Raises:
        OutputError: a sandbox printed something else.
    """
    found: dict[str, Samples] = {}
    async with AsyncExitStack() as exits:
        supervisors: dict[str, Supervisor] = {}
        for name, layers in _ARRANGEMENTS.items():
            own = Supervisor(environment, spool_folder=scratch, layers=layers)
            await exits.enter_async_context(own)
            try:
                await own.warmed()
                await _fresh(own)
            except SandboxUnavailableError:
                continue
            supervisors[name] = own
            found[name] = Samples()
        for _ in range(times):
            for name, own in supervisors.items():
                found[name].seconds.append(await _fresh(own))
    return found


async def _fresh(supervisor: Supervisor) -> float:
    began = time.perf_counter()
    sandbox = await supervisor.open(Limits())
    try:
        async for event in sandbox.execute("print(1)", name="main.py", timeout_s=30):
            if isinstance(event, Ended):
                took = time.perf_counter() - began
                if event.stdout.text != "1\n":
                    raise OutputError(f"a sandbox printed {event.stdout.text!r}: {event.status}")
                return took
    finally:
        await sandbox.close()
    raise OutputError("an execution did not end")
