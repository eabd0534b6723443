"""Which modules of a new environment the zygote may import before it forks: each is tried, and judged by the trial.

A thread that a module starts at import is missing in every fork, and what waits for it then waits for ever.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from bichat.sandbox.environments.environment import Preload, Progress
from bichat.sandbox.environments.programs import leashed
from bichat.sandbox.environments.recipe import Recipe, pinned_versions
from bichat.sandbox.environments.variables import GUEST_VARIABLES, PRELOAD_VARIABLES

#: What the zygote imports for everybody, if it turns out to be harmless: what most code uses, dearest first gain.
CANDIDATES: Final = (
    "numpy",
    "pandas",
    "pyarrow",
    "PIL.Image",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "matplotlib_inline.backend_inline",
    "scipy.stats",
    "seaborn",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "sklearn.cluster",
    "sklearn.model_selection",
    "sklearn.metrics",
    "openpyxl",
    "IPython.core.interactiveshell",
    "duckdb",
    "polars",
    "statsmodels.api",
)
_TRIAL_S: Final = 120
_SCRIPT: Final = Path(__file__).with_name("preload.py")


def try_modules(folder: Path, recipe: Recipe, progress: Progress) -> tuple[Preload, ...]:
    """Each candidate that the environment in `folder` holds, imported alone in a fresh interpreter of it.

    Candidates are ours, and the top-level modules of what an operator asked for.
    """
    packages = pinned_versions(recipe.lock)
    candidates = [module for module in CANDIDATES if _distribution_of(module) in packages]
    tops = {module.partition(".")[0] for module in candidates}
    added = [name for name in recipe.requested if name in packages]
    if added:
        modules = _report(folder, "--modules-of", *added).get("modules", ())
        candidates += [module for module in modules if module not in tops]
    return tuple(_judge(folder, module, progress) for module in candidates)


def import_together(folder: Path, tried: tuple[Preload, ...], progress: Progress) -> tuple[tuple[str, ...], int]:
    """The modules that may all be imported in one interpreter, and its memory then; the last ones go if they may not."""
    modules = [candidate.module for candidate in tried if not candidate.refused]
    while modules:
        progress("trying imports", "all together")
        report = _report(folder, *modules)
        if not report.get("error") and not report.get("threads"):
            return tuple(modules), report["rss_bytes"]
        modules.pop()
    return (), 0


def _judge(folder: Path, module: str, progress: Progress) -> Preload:
    progress("trying imports", module)
    report = _report(folder, module)
    threads = tuple(report.get("threads", ()))
    refused = report.get("error", "")
    if threads:
        refused = f"leaves threads behind that a fork would lose: {', '.join(threads)}"
    return Preload(
        module=module,
        seconds=report.get("seconds", 0.0),
        rss_bytes=report.get("rss_bytes", 0),
        threads=threads,
        refused=refused,
    )


def _report(folder: Path, *arguments: str) -> dict[str, Any]:
    """What preload.py says; `error` where it does not come to that."""
    home = folder / ".home"
    home.mkdir(exist_ok=True)
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}
    try:
        done = subprocess.run(
            leashed([folder / "bin" / "python", "-I", _SCRIPT, *arguments]),
            env={**variables, **PRELOAD_VARIABLES, **GUEST_VARIABLES, "MPLCONFIGDIR": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRIAL_S,
            check=False,
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"was not imported within {_TRIAL_S} s"}
    except ValueError:
        return {"error": "ended the interpreter"}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _distribution_of(module: str) -> str:
    """The distribution that one of our candidates comes with."""
    top = module.partition(".")[0]
    return {"PIL": "pillow", "sklearn": "scikit-learn", "IPython": "ipython"}.get(top, top.replace("_", "-").lower())
