"""The time from asking to having the answer in hand, of everything that can run a task, in one loop."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.effort import Effort
from bench.samples import Samples
from bench.tasks import Task
from bench.variants import Variant


@dataclass(slots=True)
class Latency:
    """Of one task by one variant."""

    samples: Samples = field(default_factory=Samples)
    parts: dict[str, Samples] = field(default_factory=dict[str, Samples])
    """By where the time went."""

    @property
    def parts_ms(self) -> dict[str, float]:
        """The median of each part."""
        return {name: part.median_ms for name, part in self.parts.items()}


Latencies = Mapping[str, Mapping[str, Latency]]
"""By the names of task and variant."""


async def take_turns(task: Task, variants: Sequence[Variant], effort: Effort) -> dict[str, Latency]:
    """Measure `task` by each of `variants` in turn, the first of one round the last of the next.

    A machine that is busy is busy for all of them.

    Raises:
        OutputError: one of them did not do the task.
    """
    found = {variant.name: Latency() for variant in variants}
    for number in range(effort.rounds[task.name] + 1):
        first = number % len(variants)
        for variant in (*variants[first:], *variants[:first]):
            # The very first turn of everybody is not counted, and the next one is everybody's again.
            if variant.is_dear and (number - 1) % effort.dear_every and number:
                continue
            taken = await variant.measure(task)
            await variant.settle()
            if number:
                found[variant.name].samples.seconds.append(taken.seconds)
                for name, seconds in taken.parts.items():
                    found[variant.name].parts.setdefault(name, Samples()).seconds.append(seconds)
    return found


def ratio(latencies: Latencies, task: Task, variant: str, base: str) -> float:
    """How many times as long `variant` takes as `base`, by medians."""
    found = latencies[task.name]
    return statistics.median(found[variant].samples.seconds) / statistics.median(found[base].samples.seconds)
