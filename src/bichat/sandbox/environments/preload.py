"""Says what importing modules costs and which threads they leave behind.

Run by an environment's own Python at build time, one process a trial: `python -I preload.py MODULE...`, or
`python -I preload.py --modules-of DISTRIBUTION...` for the modules that distributions bring.  Writes JSON to its
standard output; what the modules print goes to stderr.  Standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time


def threads() -> list[str]:
    """Kernel names of this process's threads but the main one."""
    names = []
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
                names.append(file.read().strip())
    return sorted(names)


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def imported(modules: list[str]) -> dict[str, object]:
    """Import `modules`, one after the other, and say what that took."""
    started = time.perf_counter()
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException as error:  # any library's import may raise anything
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 3), "rss_bytes": resident_bytes(), "threads": threads()}


def modules_of(distributions: list[str]) -> dict[str, object]:
    """The public top-level modules that `distributions` (normalised names) have installed."""
    from importlib.metadata import packages_distributions

    found = []
    for module, owners in packages_distributions().items():
        names = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
        if module.isidentifier() and not module.startswith("_") and names.intersection(distributions):
            found.append(module)
    return {"modules": sorted(set(found) - {"test", "tests", "doc", "docs", "example", "examples"})}


def main(arguments: list[str]) -> None:
    """Report on what the arguments ask for."""
    report_to = os.dup(1)
    os.dup2(2, 1)
    report = modules_of(arguments[1:]) if arguments[0] == "--modules-of" else imported(arguments)
    os.write(report_to, json.dumps(report).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # a thread that a module left behind may never end
