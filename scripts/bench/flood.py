"""What a flood of output costs the host: run as a process of its own, which has held nothing else.

`python -m bench.flood raised` prints one JSON object about 676 MB of output under limits that let it pass, and
`python -m bench.flood default` about the same code under the default limits, which kill it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from bench.tasks import OutputError
from bichat import CodeInterpreter, Limits, Status
from bichat.sizes import GIB, KIB

PRINTED_BYTES: Final = 676_000_000
_CODE: Final = """\
line = "x" * 9_999
for _ in range(67_600):
    print(line)
"""
#: Under which limits, and how the code must end then.
CASES: Final = {
    "raised": (Limits(output_kill_bytes=GIB), Status.COMPLETED),
    "default": (Limits(), Status.OUTPUT_LIMIT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Of one case."""

    case: str
    status: str
    seconds: float
    printed_bytes: int
    """As far as the host has read it."""
    growth_bytes: int
    """From before it to the highest that the host process held during it."""


async def measure(case: str) -> Flood:
    """The case `case`, in a process of its own.

    Raises:
        OutputError: the code ended otherwise than it must.
    """
    done = await anyio.run_process([sys.executable, "-m", "bench.flood", case], stderr=None, check=False)
    if done.returncode:
        raise OutputError(f"the flood under {case} limits could not be measured")
    return Flood(**json.loads(done.stdout))


async def _flood(case: str) -> dict[str, object]:
    limits, expected = CASES[case]
    async with CodeInterpreter(preload=False) as interpreter:
        await interpreter.run("print(1)")
        # The mark of the highest resident size starts again from the present one (proc(5)).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident("VmRSS")
        started = time.perf_counter()
        result = await interpreter.run(_CODE, limits=limits)
        seconds = time.perf_counter() - started
        growth = _resident("VmHWM") - before
    if result.status is not expected:
        raise OutputError(f"the flood ended as {result.status}: {result.error}")
    return {
        "case": case,
        "status": result.status.value,
        "seconds": seconds,
        "printed_bytes": len(result.stdout.encode()) + result.stdout_omitted_bytes,
        "growth_bytes": growth,
    }


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps(anyio.run(_flood, sys.argv[1])))
