"""`python -m soak`: see `make soak`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import anyio
from bench.machine import Machine
from rich.console import Console

from bichat.sandbox.environments import EnvironmentStore
from bichat.settings.settings import load_settings
from soak.kinds import SoakError
from soak.report import page, tables, verdict
from soak.soak import soak

_ROOT: Final = Path(__file__).parents[2]
_WHOLE: Final = 5_000


def main() -> None:
    """Run them, print the tables, write the page; exit code 1 where something is not flat."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--executions", type=int, default=_WHOLE, help="how many")
    executions = max(20, parser.parse_args().executions)
    settings = load_settings()
    store = EnvironmentStore(settings.data_dir)
    machine = Machine.look(store.find("data") or store.build("data"))
    try:
        soaked = anyio.run(soak, settings, executions)
    except* SoakError as errors:
        sys.exit(f"the soak broke off: {errors.exceptions}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables(soaked):
        console.print(table.drawn())
    out = _ROOT / ("docs" if executions >= _WHOLE else "build") / "soak.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(soaked, machine), encoding="utf-8")
    faults = verdict(soaked)
    console.print("flat" if not faults else "not flat: " + "; ".join(faults), f"written to {out}", sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
