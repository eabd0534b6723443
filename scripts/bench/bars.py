"""The figures to hold, and how far what was measured keeps to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.crowd import Throughput
from bench.isolation import LANDLOCK, NAMESPACES, NO_FILTER, UNWALLED
from bench.latency import Latency, ratio
from bench.measured import PROCESSORS, Measured
from bench.tasks import CHART, PRINT, TASKS
from bench.variants import BARE, CELL, DEMAND, FLOOR, KERNEL_COLD, POOL

_MB = 1_000_000
_CHART_BY_FLOOR = 1.15
_PRINT_MS = 2.0
_BY_BARE = 5.0
_BY_KERNEL = 8.0
_OVERHEAD_MS = 2.0
_PER_S = {PRINT.name: 80.0, CHART.name: 8.0}
_IDLE_BYTES = 30 * _MB
_GROWTH_BYTES = 5 * _MB
_CANCEL_MS = 100.0
_WALLS_MS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One figure."""

    name: str
    bar: str
    measured: str
    share: float
    """How much of the bar is used up: above 1 it is missed, whichever way the bar goes."""
    meaning: str
    """What it says, in a sentence."""
    composition: str
    """What the measured value is made of."""

    @property
    def is_met(self) -> bool:
        """Whether what was measured keeps to it."""
        return self.share <= 1


def bars(measured: Measured) -> tuple[Bar, ...]:
    """Every figure, in the order of the table."""
    return (
        *_latency(measured),
        *_cells(measured),
        *_throughputs(measured),
        _idle(measured),
        *_floods(measured),
        _cancel(measured),
        *_walls(measured),
    )


def _latency(measured: Measured) -> tuple[Bar, ...]:
    found = measured.latencies
    chart, printed = found[CHART.name], found[PRINT.name]
    by_floor = ratio(found, CHART, POOL, FLOOR)
    by_kernel = ratio(found, CHART, KERNEL_COLD, POOL)
    by_bare = ratio(found, CHART, BARE, POOL)
    demand_by_bare = ratio(found, PRINT, DEMAND, BARE)
    return (
        Bar(
            name="bar chart, fresh session from the pool, against the floor",
            bar=f"<= {_CHART_BY_FLOOR} x",
            measured=f"{by_floor:.2f} x ({_ms(chart[POOL])} against {_ms(chart[FLOOR])})",
            share=by_floor / _CHART_BY_FLOOR,
            meaning="Isolation and a fresh interpreter cost next to nothing beside the drawing itself.",
            composition=_parts(chart[POOL]),
        ),
        Bar(
            name="`print(1)`, fresh session from the pool",
            bar=f"<= {_PRINT_MS:g} ms",
            measured=_ms(printed[POOL]),
            share=printed[POOL].samples.median_ms / _PRINT_MS,
            meaning="What `CodeInterpreter.run` adds to code that does nothing, from the call to its result.",
            composition=_parts(printed[POOL]),
        ),
        Bar(
            name="`print(1)`, fresh session with an empty pool, against a bare Python",
            bar="<= 1 x",
            measured=f"{demand_by_bare:.2f} x ({_ms(printed[DEMAND])} against {_ms(printed[BARE])})",
            share=demand_by_bare,
            meaning="A sandbox made on demand is no slower than `python -c 'print(1)'`, which has no walls.",
            composition=_parts(printed[DEMAND]),
        ),
        Bar(
            name="bar chart, fresh session from the pool, against a kernel started cold",
            bar=f">= {_BY_KERNEL:g} x faster",
            measured=f"{by_kernel:.1f} x ({_ms(chart[POOL])} against {_ms(chart[KERNEL_COLD])})",
            share=_BY_KERNEL / by_kernel,
            meaning="A Jupyter kernel for each answer is how many others keep users apart.",
            composition=_parts(chart[POOL]),
        ),
        Bar(
            name="bar chart, fresh session from the pool, against a bare Python started cold",
            bar=f">= {_BY_BARE:g} x faster",
            measured=f"{by_bare:.1f} x ({_ms(chart[POOL])} against {_ms(chart[BARE])})",
            share=_BY_BARE / by_bare,
            meaning="Starting `python chart.py`, without walls, pays for the imports every time.",
            composition=_parts(chart[POOL]),
        ),
    )


def _cells(measured: Measured) -> tuple[Bar, ...]:
    found: list[Bar] = []
    for task in TASKS:
        cell = measured.latencies[task.name][CELL]
        overhead = cell.parts["overhead"].median_ms
        found.append(
            Bar(
                name=f"cell in an open session over the code itself: {task.name}",
                bar=f"<= {_OVERHEAD_MS:g} ms",
                measured=f"{overhead:.2f} ms",
                share=overhead / _OVERHEAD_MS,
                meaning="From the call to the result, less what passed between the cell's first statement and its last.",
                composition="beside the code itself, " + _in_words({**cell.parts_ms, "code": 0, "overhead": 0}),
            )
        )
    return tuple(found)


def _throughputs(measured: Measured) -> tuple[Bar, ...]:
    return tuple(
        Bar(
            name=f"throughput on {PROCESSORS} processors: {one.task}",
            bar=f">= {_PER_S[one.task]:g} /s",
            measured=f"{one.per_s:.1f} /s",
            share=_PER_S[one.task] / one.per_s,
            meaning="Each in a sandbox of its own, until the kernel has ended the last process; without a pool, "
            "which moves work out of the way and saves none.",
            composition=_throughput_parts(one),
        )
        for one in measured.throughputs
        if not one.ready_sandboxes
    )


def _idle(measured: Measured) -> Bar:
    idle = measured.idle
    return Bar(
        name="idle warmed sandbox",
        bar=f"<= {_IDLE_BYTES / _MB:.0f} MB PSS",
        measured=f"{idle.held.proportional_bytes / _MB:.1f} MB",
        share=idle.held.proportional_bytes / _IDLE_BYTES,
        meaning=f"What one of {idle.sandboxes} ready sandboxes holds, shared pages counted in parts.",
        composition=f"{idle.held.private_bytes / _MB:.1f} MB are its own, most of it written by the warm-up; the rest is "
        f"its part of what it shares with the zygote, which gets smaller with every further sandbox",
    )


def _floods(measured: Measured) -> tuple[Bar, ...]:
    return tuple(
        Bar(
            name=f"growth of the host process on 676 MB of output, {one.case} limits",
            bar=f"< {_GROWTH_BYTES / _MB:.0f} MB",
            measured=f"{one.growth_bytes / _MB:.1f} MB",
            share=one.growth_bytes / _GROWTH_BYTES,
            meaning=f"From before the execution to the highest during it; it ended as `{one.status}`.",
            composition=f"{one.printed_bytes / _MB:.0f} MB were read in {one.seconds:.1f} s",
        )
        for one in measured.floods
    )


def _cancel(measured: Measured) -> Bar:
    slowest = max(measured.cancels, key=lambda kind: measured.cancels[kind].quantile_ms(1))
    longest = measured.cancels[slowest].quantile_ms(1)
    return Bar(
        name="cancel, the slowest of all",
        bar=f"<= {_CANCEL_MS:g} ms",
        measured=f"{longest:.1f} ms",
        share=longest / _CANCEL_MS,
        meaning="From cancelling the task that waits for endless code to having read, by another cell, a variable from before it.",
        composition=f"the slowest kind of code was: {slowest}; its median is {measured.cancels[slowest].median_ms:.1f} ms",
    )


def _walls(measured: Measured) -> tuple[Bar, ...]:
    pairs = (
        ("the list of calls", NAMESPACES, NO_FILTER),
        ("level namespaces", NAMESPACES, UNWALLED),
        ("level landlock", LANDLOCK, UNWALLED),
    )
    found = measured.walls
    return tuple(
        Bar(
            name=f"fresh session, {name}",
            bar=f"<= {_WALLS_MS:g} ms",
            measured=f"{found[one].median_ms - found[base].median_ms:+.2f} ms",
            share=(found[one].median_ms - found[base].median_ms) / _WALLS_MS,
            meaning=f"How much later a fresh session answers, from an empty pool: {one}, against {base}.",
            composition=f"{found[one].median_ms:.2f} ms against {found[base].median_ms:.2f} ms",
        )
        for name, one, base in pairs
        if one in found and base in found
    )


def _ms(latency: Latency) -> str:
    return f"{latency.samples.median_ms:.1f} ms"


def _parts(latency: Latency) -> str:
    return _in_words(latency.parts_ms)


def _in_words(parts: Mapping[str, float]) -> str:
    """Medians, the longest first."""
    longest = sorted(parts, key=lambda name: -parts[name])
    return ", ".join(f"{name} {parts[name]:.2f} ms" for name in longest if parts[name])


def _throughput_parts(one: Throughput) -> str:
    each = 1000 * one.seconds / one.executions
    own = 1000 * one.own_processor_s / one.executions
    return (
        f"{each:.1f} ms for each on all processors together, in which the supervisor had one of them for {own:.1f} ms; "
        f"the rest is the sandbox's: its forks, its walls, its code and its end"
    )
