"""Which modules the zygote may import before it forks: found by trying each one.

Run by an environment's own Python at build time, one process a module: `python -I preload.py MODULE`.  Prints what
importing it cost and which threads it left behind, as JSON.  Standard library only.
"""

from __future__ import annotations

import importlib
import json
import os
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


def main(modules: list[str]) -> None:
    """Import `modules`, one after the other, and report."""
    started = time.perf_counter()
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException as error:  # any library's import may raise anything
        json.dump({"error": f"{type(error).__name__}: {error}"[:500]}, sys.__stdout__)
        return
    seconds = time.perf_counter() - started
    report = {"seconds": round(seconds, 3), "rss_bytes": resident_bytes(), "threads": threads()}
    json.dump(report, sys.__stdout__)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.__stdout__.flush()
    os._exit(0)  # a thread that the module left behind may never end
