"""What was measured, as tables for a terminal, as a page of the documents, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from bench.bars import Bar, bars
from bench.crowd import Opened
from bench.isolation import UNWALLED
from bench.keeping import KEPT, NOT_KEPT
from bench.latency import Latencies, Latency
from bench.measured import PROCESSORS, Measured
from bench.samples import Samples
from bench.serving import IDLE_STREAMS, Serving
from bench.table import Table
from bench.tasks import TASKS, Task
from bench.variants import BARE, CELL, COMMAND, DEMAND, FLOOR, KERNEL_COLD, KERNEL_WARM, POOL
from bichat.sizes import GIB

_MB: Final = 1_000_000

_MEANINGS: Final = {
    FLOOR: "`exec` of the code in an interpreter of the same environment, with the same modules imported and the same "
    "first steps taken, and no walls; timed from within, so that handing the code over costs nothing.",
    POOL: "`CodeInterpreter.run` with a ready sandbox in the pool, from the call to the result with its files read.",
    DEMAND: "The same with `BICHAT_READY_SANDBOXES=0`: the sandbox is made after the call.",
    CELL: "`Session.run` in a session that has run others; what it ran before stays.",
    COMMAND: "The command `bichat run FILE`, from its start to its exit; nothing is warm before it.",
    BARE: "The environment's `python FILE` (`python -c 'print(1)'` for the first task), started for each; no walls.",
    KERNEL_COLD: "ipykernel in the same environment, driven by jupyter_client: start a kernel, run the code, no walls.",
    KERNEL_WARM: "The same with one kernel that goes on running; what it ran before stays.",
}
_ORDER: Final = tuple(_MEANINGS)
HEAD: Final = """\
# Benchmarks

`make bench` measures what a session costs on your machine and writes this page.

```bash
make bench
make bench QUICK=1
make bench JSON=build/bench.json
```

The first takes about five minutes; with `QUICK=1` it takes about one, and writes to `build/benchmarks.md` instead.
`JSON=` names a file that gets every single measurement.

Everything takes turns in one loop, so that a machine that is busy for a while is busy for all.
What is compared are medians of one run; times of different machines, or of different runs, say little.
Every measurement checks what was produced (the printed line, the table's rows, the image's size) outside of the time.
Code in sandboxes runs at nice +10: on a machine with other work to do it waits where the floor does not.
What grows over thousands of executions, and what does not, is on the page [Soak](soak.md).
"""


def tables(measured: Measured) -> tuple[Table, ...]:
    """All of them, in order."""
    found = bars(measured)
    return (
        _bars(found),
        *(_latency(measured.latencies, task) for task in TASKS),
        _stages(measured.latencies),
        _throughput(measured),
        _opened(measured.opened),
        _memory(measured),
        _cancels(measured),
        _walls(measured),
        _keeping(measured.keeping),
        _serving(measured.serving),
    )


def page(measured: Measured) -> str:
    """The page of the documents."""
    found = bars(measured)
    first, *rest = tables(measured)
    sections = [HEAD, _machine(measured), first.written(), _meanings(found), _misses(measured, found), _variants()]
    return "\n\n".join(section.strip("\n") for section in (*sections, *(table.written() for table in rest))) + "\n"


def document(measured: Measured) -> dict[str, Any]:
    """Everything, JSON-ready."""
    return {
        **asdict(measured),
        "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in bars(measured)],
    }


def _bars(found: tuple[Bar, ...]) -> Table:
    return Table(
        title="The bars",
        sentences=("The share says how much of the bar is used up: above 1.00 it is missed.",),
        header=("Figure", "Bar", "Measured", "Share", "Verdict"),
        rows=[
            (bar.name, bar.bar, bar.measured, f"{bar.share:.2f}", "met" if bar.is_met else "MISSED") for bar in found
        ],
    )


def _meanings(found: tuple[Bar, ...]) -> str:
    names: dict[str, list[str]] = {}
    for bar in found:
        names.setdefault(bar.meaning, []).append(bar.name)
    lines = (f"- {'; '.join(alike)}:\n  {meaning}" for meaning, alike in names.items())
    return "\n".join(["What each of them says:", "", *lines])


def _misses(measured: Measured, found: tuple[Bar, ...]) -> str:
    missed = [bar for bar in found if not bar.is_met]
    if not missed:
        return "## Misses\n\nNone: every bar is met."
    sentences = [
        f"- **{bar.name}**: {bar.measured}, {100 * (bar.share - 1):.0f} % above the bar.\n  Made of: {bar.composition}."
        for bar in missed
    ]
    machine = measured.machine
    if machine.load[0] > machine.processors / 2:
        sentences += [
            "",
            f"The machine was busy when this run began (load {machine.load[0]:.1f} on {machine.processors} processors): what waits for a processor is in these times.",
        ]
    return "\n".join(["## Misses", "", *sentences])


def _machine(measured: Measured) -> str:
    machine = measured.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return "\n".join(
        [
            "## The machine",
            "",
            f"- Measured on {machine.measured_at} UTC with bichat {machine.bichat}.",
            (
                f"- Bound to {machine.processors} of {machine.host_processors} processors ({machine.processor}), {machine.memory_bytes / GIB:.0f} GiB of memory, "
                f"Linux {machine.kernel}."
            ),
            f"- Load average at the start: {', '.join(f'{load:.2f}' for load in machine.load)}.",
            f"- Python {machine.python}; in the sandboxes {machine.environment_python} with {packages}.",
        ]
    )


def _variants() -> str:
    lines = [f"- **{name}**: {meaning}" for name, meaning in _MEANINGS.items()]
    return "\n".join(["## What is compared", "", *lines])


def _latency(latencies: Latencies, task: Task) -> Table:
    found = latencies[task.name]
    floor = found[FLOOR].samples.median_ms

    def row(name: str, latency: Latency) -> tuple[str, ...]:
        return (name, *_quantiles(latency.samples), f"{latency.samples.median_ms / floor:.2f}")

    return Table(
        title=f"Latency: {task.name}",
        sentences=(
            "From asking to having the answer, in milliseconds; the last column compares medians with the floor's.",
            "Of fewer than 100 measurements, p99 is the longest.",
        ),
        header=("", "n", "p50", "p95", "p99", "x floor"),
        rows=[row(name, found[name]) for name in _ORDER],
    )


def _stages(latencies: Latencies) -> Table:
    rows = [(task.name, name, latencies[task.name][name].parts_ms) for task in TASKS for name in (POOL, DEMAND)]
    names = list(rows[0][2])
    return Table(
        title="Where the time goes",
        sentences=(
            "Medians in milliseconds.",
            "Admission checks the request and waits for room; sandbox is until one takes code; run is from handing the code over to its end; capture reads the files that came out; the rest is the caller's side.",
        ),
        header=("", *names),
        rows=[(f"{task}, {name}", *(f"{parts[part]:.2f}" for part in names)) for task, name, parts in rows],
    )


def _throughput(measured: Measured) -> Table:
    return Table(
        title=f"Throughput on {PROCESSORS} processors",
        sentences=(
            "Executions a second of a few workers that run one after the other, each in a fresh sandbox, until the last process of the last one is gone.",
            "A pool is filled again meanwhile, with sandboxes that are warmed up: under full load that takes processor time from the answers.",
        ),
        header=("", "pool", "executions", "per second", "supervisor, ms each"),
        rows=[
            (
                one.task,
                str(one.ready_sandboxes),
                str(one.executions),
                f"{one.per_s:.1f}",
                f"{1000 * one.own_processor_s / one.executions:.2f}",
            )
            for one in measured.throughputs
        ],
    )


def _opened(opened: tuple[Opened, ...]) -> Table:
    return Table(
        title="Sessions opened at once",
        sentences=(
            "With an empty pool: every sandbox is made on demand; times in milliseconds, memory in MB for each session.",
            "Private memory is what no other process has, after opening and after a first `print(1)`; host is by how much less the host had to give then, kernel memory included.",
        ),
        header=(
            "sessions",
            "one: p50",
            "p95",
            "p99",
            "all open",
            "all answered",
            "private",
            "after a cell",
            "PSS",
            "host",
        ),
        rows=[
            (
                str(one.sessions),
                *_quantiles(one.each)[1:],
                f"{one.all_open.median_ms:.0f}",
                f"{one.all_answered.median_ms:.0f}",
                f"{one.held.private_bytes / _MB:.1f}",
                f"{one.held_after.private_bytes / _MB:.1f}",
                f"{one.held_after.proportional_bytes / _MB:.1f}",
                f"{one.host_bytes / _MB:.1f}",
            )
            for one in opened
        ],
    )


def _memory(measured: Measured) -> Table:
    idle = measured.idle
    return Table(
        title="Memory",
        sentences=("In MB.",),
        header=("", "MB"),
        rows=[
            (f"one of {idle.sandboxes} ready sandboxes, PSS", f"{idle.held.proportional_bytes / _MB:.1f}"),
            ("the same, private", f"{idle.held.private_bytes / _MB:.1f}"),
            ("zygote and porter, PSS beside those", f"{idle.zygote_bytes / _MB:.1f}"),
            *(
                (
                    (
                        f"growth of the host process while 676 MB are printed, {one.case} limits ({one.status} after "
                        f"{one.printed_bytes / _MB:.0f} MB and {one.seconds:.1f} s)"
                    ),
                    f"{one.growth_bytes / _MB:.1f}",
                )
                for one in measured.floods
            ),
        ],
    )


def _cancels(measured: Measured) -> Table:
    return Table(
        title="Cancelling",
        sentences=(
            "From cancelling the task that waits for the code to having read, by another cell of the session, a variable from before it; in milliseconds.",
        ),
        header=("code", "n", "p50", "p95", "p99"),
        rows=[(kind, *_quantiles(samples)) for kind, samples in measured.cancels.items()],
    )


def _walls(measured: Measured) -> Table:
    base = measured.walls.get(UNWALLED)
    return Table(
        title="What the walls cost",
        sentences=(
            "From asking for a sandbox, with none ready, to the end of `print(1)` in it; in milliseconds.",
            "A row that is missing could not be had: guests of a server that is root must be able to reach the environment.",
        ),
        header=("what stands around it", "n", "p50", "p95", "p99", "more than no walls (p50)"),
        rows=[
            (name, *_quantiles(samples), f"{samples.median_ms - base.median_ms:+.2f}" if base else "")
            for name, samples in measured.walls.items()
        ],
    )


def _keeping(found: Mapping[str, Mapping[str, Samples]]) -> Table:
    return Table(
        title="What keeping costs",
        sentences=(
            "A cell in an open session, from the call to its result, in milliseconds: as it is, and with the execution, its files and its notes in the audit log kept in a folder and a file of SQLite on one disk, each synced to it.",
        ),
        header=("what the cell leaves", "n", "not kept: p50", "p95", "kept: p50", "p95", "more (p50)", "x not kept"),
        rows=[
            (
                cell,
                *_quantiles(both[NOT_KEPT])[:3],
                *_quantiles(both[KEPT])[1:3],
                f"{both[KEPT].median_ms - both[NOT_KEPT].median_ms:+.2f}",
                f"{both[KEPT].median_ms / both[NOT_KEPT].median_ms:.2f}",
            )
            for cell, both in found.items()
        ],
    )


def _serving(found: Serving) -> Table:
    return Table(
        title="Over HTTP",
        sentences=(
            "`bichat serve` on loopback, asked by one client that keeps its connection; a response is stored with its items, its events and its execution, each synced to the disk.",
        ),
        header=("what", "measured"),
        rows=[
            ("`print(1)` in an open session, Python API, nothing kept, p50", f"{found.api.median_ms:.2f} ms"),
            ("the same in an open container by a response, p50", f"{found.http.median_ms:.2f} ms"),
            ("more by HTTP, with all that is stored", f"{found.http.median_ms - found.api.median_ms:+.2f} ms"),
            ("responses a second, four clients, 2 processors", f"{found.responses_per_s:.1f}"),
            (f"one of {found.events} events of a stream with live output", f"{found.event_ms:.3f} ms"),
            (f"one of {IDLE_STREAMS} idle streams, PSS of the server", f"{found.idle_bytes / 1024:.0f} KiB"),
        ],
    )


def _quantiles(samples: Samples) -> tuple[str, ...]:
    """How many, the median, and the 95th and 99th of a hundred."""
    return (str(len(samples)), *(f"{ms:.2f}" for ms in (samples.median_ms, *map(samples.quantile_ms, (0.95, 0.99)))))
