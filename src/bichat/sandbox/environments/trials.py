"""Which modules of a new environment the zygote may import before it forks: each is tried, and judged by the trial.

A thread that a module starts at import is missing in every fork, and what waits for it then waits for ever.
Trials run behind the walls that guests have at the level `landlock`: see confined.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bichat.sandbox.environments.environment import Preload, Progress
from bichat.sandbox.environments.programs import base_python, confined
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
#: What only some code uses: never for everybody, but a zygote for one known program imports what that names.
ON_DEMAND: Final = (
    "sympy",
    "altair",
    "plotly.express",
    "reportlab.platypus",
    "networkx",
    "pptx",
    "pypdf",
    "bs4",
    "docx",
    "xlsxwriter",
    "lxml.etree",
)
_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "IPython": "ipython",
    "pptx": "python-pptx",
    "bs4": "beautifulsoup4",
    "docx": "python-docx",
}
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


def import_together(
    folder: Path, tried: tuple[Preload, ...], progress: Progress
) -> tuple[tuple[Preload, ...], tuple[str, ...], int]:
    """`tried` with more of them refused, the modules that may all be imported in one interpreter, its memory then.

    Where the harmless ones are not so together, the last goes, and the next to last, until they are.
    """
    harmless = [candidate for candidate in tried if not candidate.refused]
    refused: dict[str, Preload] = {}
    while harmless:
        progress("trying imports", "all together")
        report = _report(folder, *(candidate.module for candidate in harmless))
        reason = _reason(report)
        if not reason:
            break
        last = harmless.pop()
        refused[last.module] = replace(last, refused=f"together with the modules before it: {reason}")
    else:
        report = {}
    judged = tuple(refused.get(candidate.module, candidate) for candidate in tried)
    return judged, tuple(candidate.module for candidate in harmless), report.get("rss_bytes", 0)


def on_demand(folder: Path, recipe: Recipe, progress: Progress) -> tuple[str, ...]:
    """Those modules of `ON_DEMAND` that the environment in `folder` holds and that are harmless."""
    packages = pinned_versions(recipe.lock)
    modules = [module for module in ON_DEMAND if _distribution_of(module) in packages]
    if not modules:
        return ()
    progress("trying imports", "what only some code uses")
    if not _reason(_report(folder, *modules)):
        return tuple(modules)
    return tuple(module for module in modules if not _judge(folder, module, progress).refused)


def _judge(folder: Path, module: str, progress: Progress) -> Preload:
    progress("trying imports", module)
    report = _report(folder, module)
    return Preload(
        module=module,
        seconds=report.get("seconds", 0.0),
        rss_bytes=report.get("rss_bytes", 0),
        threads=tuple(report.get("threads", ())),
        refused=_reason(report),
    )


def _reason(report: dict[str, Any]) -> str:
    """Why the zygote must not import what `report` is about; empty when it may."""
    if report.get("threads"):
        return f"leaves threads behind that a fork would lose: {', '.join(report['threads'])}"
    return report.get("error", "")


def _report(folder: Path, *arguments: str) -> dict[str, Any]:
    """What preload.py says; `error` where it does not come to that."""
    home = folder / ".home"
    home.mkdir(exist_ok=True)
    prefixes = (folder, Path(sys.base_prefix).resolve(), Path(base_python()).parent)
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}
    try:
        done = subprocess.run(
            confined([folder / "bin" / "python", "-I", _SCRIPT, *arguments], home=home, prefixes=prefixes),
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
    return _DISTRIBUTIONS.get(top, top.replace("_", "-").lower())
