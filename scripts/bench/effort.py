"""How much is measured: all of it, enough for a glance, or enough to see that it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.tasks import CHART, GROUP, PRINT, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Numbers of measurements."""

    rounds: Mapping[str, int]
    """Turns of each task, by its name; one more goes before them and is not counted."""
    dear_every: int
    """Variants that take long take every so-manieth turn."""
    throughput: Mapping[str, int]
    """Executions of each task in one go."""
    opened_at_once: Mapping[int, int]
    """How often so many sessions are opened at once."""
    idle: int
    """Ready sandboxes that are weighed."""
    cancels: int
    """Cancelled executions of each kind."""
    walls: int
    """Fresh sessions of each arrangement of walls."""
    kept: int
    """Cells of each kind, kept and not."""
    served: int
    """Responses, and cells to compare them with."""


def _by_name(counts: Mapping[Task, int]) -> dict[str, int]:
    return {task.name: count for task, count in counts.items()}


FULL: Final = Effort(
    rounds=_by_name({PRINT: 200, GROUP: 60, CHART: 60}),
    dear_every=5,
    throughput=_by_name({PRINT: 400, CHART: 60}),
    opened_at_once={1: 20, 10: 5, 100: 1},
    idle=30,
    cancels=20,
    walls=100,
    kept=60,
    served=100,
)
QUICK: Final = Effort(
    rounds=_by_name({PRINT: 20, GROUP: 6, CHART: 8}),
    dear_every=6,
    throughput=_by_name({PRINT: 60, CHART: 12}),
    opened_at_once={1: 5, 10: 1, 100: 1},
    idle=30,
    cancels=3,
    walls=20,
    kept=10,
    served=20,
)
TRIAL: Final = Effort(
    rounds=_by_name({PRINT: 1, GROUP: 1, CHART: 1}),
    dear_every=1,
    throughput=_by_name({PRINT: 4, CHART: 2}),
    opened_at_once={1: 1, 2: 1},
    idle=1,
    cancels=1,
    walls=1,
    kept=1,
    served=1,
)
