"""`python -m bench`: see `make bench`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console

from bench.effort import FULL, QUICK, TRIAL
from bench.measured import Measured, measure
from bench.report import document, page, tables
from bench.tasks import OutputError
from bichat.sandbox.environments import EnvironmentStore
from bichat.settings.location import data_dir

_ROOT: Final = Path(__file__).parents[2]
#: For files of variants that have no disk of their own: in memory, as a sandbox's is, where the host has that.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # folders in it are made with random names
_EFFORTS: Final = {"full": FULL, "quick": QUICK, "trial": TRIAL}


def main() -> None:
    """Measure, print the tables, and write the page."""
    chosen = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        measured = _measured(chosen.effort, console)
    except OutputError as error:
        sys.exit(f"nothing was measured: {error}")
    for table in tables(measured):
        console.print(table.drawn())
    out = chosen.out or (_ROOT / ("docs" if chosen.effort == "full" else "build") / "benchmarks.md")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(measured), encoding="utf-8")
    console.print(f"written to {out}")
    if chosen.json:
        chosen.json.write_text(json.dumps(document(measured), indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--effort", choices=_EFFORTS, default="full", help="how much is measured")
    parser.add_argument(
        "--out", type=Path, help="the page; docs/benchmarks.md by default, and build/benchmarks.md when not in full"
    )
    parser.add_argument("--json", type=Path, help="a file for every single measurement")
    return parser


def _measured(effort: str, console: Console) -> Measured:
    store = EnvironmentStore(data_dir())
    environment = store.find("data") or store.build("data")

    def say(stage: str) -> None:
        console.print(f"==> {stage}")

    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        return anyio.run(measure, environment, _EFFORTS[effort], Path(scratch), say)


if __name__ == "__main__":
    main()
