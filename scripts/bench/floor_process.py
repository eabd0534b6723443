"""The floor: code run by plain `exec` in an interpreter that is warm already, with no walls around it.

Runs under an environment's own Python, with nothing of bichat but its warm-up.  What goes into a zygote goes in here:
the same modules, in the same order, and the same first steps.  Reads JSON lines from stdin, answers with JSON lines.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import runpy
import sys
import time
from typing import Any


def main(warm_up_file: str, *modules: str) -> None:
    """Import `modules`, take the first steps that `warm_up_file` describes, then time one piece of code a line."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    runpy.run_path(warm_up_file)["warm_up"](_shell())
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_timed(json.loads(line)["code"])), flush=True)


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    return InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))


def _timed(code: str) -> dict[str, Any]:
    """How long `code` took, from its text to its end, and what it printed."""
    namespace = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        started = time.perf_counter()
        exec(code, namespace)  # noqa: S102  # that is what the floor is
        seconds = time.perf_counter() - started
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return {"seconds": seconds, "stdout": printed.getvalue()}


if __name__ == "__main__":
    main(*sys.argv[1:])
