"""What the sandbox costs: the demo's script by a bare Python, by `bichat run`, and by a warm `CodeInterpreter`.

Called by `make bench`.  The three take turns, and medians are compared: a busy machine is busy for all of them.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

from bichat import CodeInterpreter
from bichat.sandbox.environments import EnvironmentStore
from bichat.settings.location import data_dir

EXAMPLES = Path(__file__).parents[1] / "examples"
CODE = EXAMPLES / "sales_report.py"
SALES = EXAMPLES / "data" / "sales.csv"
ROUNDS = 10


def main() -> None:
    """Print the medians in milliseconds, and how they compare."""
    store = EnvironmentStore(data_dir())
    environment = store.find("data") or store.build("data")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(SALES, folder)
        os.chdir(folder)
        bare = [str(environment.path / "bin" / "python"), str(CODE)]
        ours = [str(Path(sys.executable).with_name("bichat")), "run", str(CODE), "--file", "sales.csv"]
        taken = anyio.run(_measure, bare, ours)
    base = statistics.median(taken["python FILE"])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name:<28}{1000 * median:8.0f} ms{median / base:8.2f} x")


async def _measure(bare: list[str], ours: list[str]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {"python FILE": [], "bichat run FILE": [], "warm CodeInterpreter.run": []}
    code = CODE.read_text(encoding="utf-8")
    async with CodeInterpreter() as interpreter:
        await interpreter.warm()
        for round_ in range(ROUNDS + 1):
            started = time.perf_counter()
            subprocess.run(bare, check=True, capture_output=True)
            bare_at = time.perf_counter()
            subprocess.run(ours, check=True, capture_output=True)
            ours_at = time.perf_counter()
            result = await interpreter.run(code, files={"sales.csv": SALES})
            warm_at = time.perf_counter()
            if not result.ok:
                raise SystemExit(result.stderr)
            if round_:  # the first one reads everything from the disk
                for name, seconds in zip(taken, (bare_at - started, ours_at - bare_at, warm_at - ours_at), strict=True):
                    taken[name].append(seconds)
    return taken


if __name__ == "__main__":
    main()
