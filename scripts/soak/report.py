"""What a soak came to, as tables and as a page of the documents."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from bench.machine import Machine
from bench.table import Table

from bichat.sizes import MIB
from soak.soak import Soaked

#: Kept to be used again: how many more there may be depends on what ended at the same time.
_REUSED: Final = {"threads": 4, "control_groups": 4}
#: How much more memory may be held at the end than in the middle.
_GROWTH: Final = {"server_bytes": 16 * MIB, "zygote_bytes": 4 * MIB}
_SLOWER: Final = 1.5
#: Of fewer in each tenth a median says nothing.
_ENOUGH: Final = 10
RULE: Final = """\
Flat means, all of it:

- At the end there are no more descriptors, processes and temporary files than at the start or in the middle, and at most 4 more threads and control groups, which are kept to be used again.
- From the middle to the end the server grew by less than 16 MiB, and the largest process that sandboxes are forked from by less than 4 MiB.
- For each kind with 10 executions in a tenth, the median of the last tenth is at most 1.5 times that of the first.
"""
HEAD: Final = """\
# Soak

`make soak` runs thousands of mixed executions in one server, by two tenants at a time, says what grew, and writes this page.

```bash
make soak
make soak N=200
```

The first runs 5,000 executions, which takes some minutes; with `N=` there are so many, and the page goes to `build/soak.md` instead.
Each execution is checked: what was printed, which files came out, and its status.
"""


def verdict(soaked: Soaked) -> list[str]:
    """What is not flat, in words; empty where all is."""
    start, middle, end = map(asdict, soaked.looks)
    found: list[str] = []
    for name, held in end.items():
        if name in _GROWTH:
            bound = middle[name] + _GROWTH[name]
        else:
            bound = max(start[name], middle[name]) + _REUSED.get(name, 0)
        if held > bound:
            found.append(f"{_words(name)}: {held:,} at the end, above {bound:,}")
    for kind, (first, last) in soaked.latencies.items():
        if min(len(first), len(last)) >= _ENOUGH and last.median_ms > _SLOWER * first.median_ms:
            found.append(f"{kind}: {last.median_ms:.1f} ms in the last tenth, {first.median_ms:.1f} ms in the first")
    return found


def tables(soaked: Soaked) -> tuple[Table, Table]:
    """Latency, and what was held."""
    start, middle, end = map(asdict, soaked.looks)
    latency = Table(
        title="Latency",
        sentences=("In milliseconds, by kind, in the first and in the last tenth of all executions.",),
        header=("", "n first", "p50 first", "p95 first", "n last", "p50 last", "p95 last"),
        rows=[
            (
                kind,
                *(
                    text
                    for tenth in tenths
                    for text in (
                        (str(len(tenth)), f"{tenth.median_ms:.1f}", f"{tenth.quantile_ms(0.95):.1f}")
                        if len(tenth)
                        else ("0", "-", "-")
                    )
                ),
            )
            for kind, tenths in soaked.latencies.items()
        ],
    )
    held = Table(
        title="What is held",
        sentences=("When nothing runs: at the start (after 40 executions), in the middle, at the end; memory in MiB.",),
        header=("", "start", "middle", "end"),
        rows=[(_words(name), *(_amount(name, look[name]) for look in (start, middle, end))) for name in start],
    )
    return latency, held


def page(soaked: Soaked, machine: Machine) -> str:
    """The page of the documents."""
    faults = verdict(soaked)
    ran = f"{soaked.executions:,} executions in {soaked.seconds:.0f} s, measured on {machine.measured_at} UTC with bichat {machine.bichat}, Linux {machine.kernel}, on {machine.processors} processors with load {machine.load[0]:.1f} at the start."
    lines = ["Flat."] if not faults else ["Not flat:", "", *(f"- {fault}" for fault in faults)]
    sections = (HEAD, "## Verdict", *("\n".join(lines), ran), RULE, *(table.written() for table in tables(soaked)))
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def _words(name: str) -> str:
    return {"server_bytes": "server, resident", "zygote_bytes": "zygote, resident"}.get(name, name.replace("_", " "))


def _amount(name: str, value: int) -> str:
    return f"{value / MIB:.1f}" if name in _GROWTH else str(value)
