"""Runs snippets and describes the charts that they make; run by an environment's own Python, with `src` as argument.

Reads `{name: code}` as JSON from stdin and writes `{name: report}` to stdout.  A snippet may leave a figure to pyplot
or put its chart into `chart`.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    from bichat.sandbox.guest.charts import describe

    warnings.simplefilter("ignore")
    draw, drawn = Figure.draw, []
    Figure.draw = lambda self, *args, **kwargs: (drawn.append(self), draw(self, *args, **kwargs))[1]
    reports: dict[str, Any] = {}
    for name, code in json.load(sys.stdin).items():
        scope: dict[str, Any] = {"plt": plt}
        exec(compile(code, f"<{name}>", "exec"), scope)  # what the runner is for
        drawn.clear()
        modules = set(sys.modules)
        described = describe(scope["chart"] if "chart" in scope else plt.gcf())
        imported = [module for module in set(sys.modules) - modules if not module.startswith("bichat.")]
        reports[name] = {
            "chart": described,
            "json": json.dumps(described, allow_nan=False),
            "imported": imported,
            "drawn": len(drawn),
            "facts": scope.get("facts"),
        }
        plt.close("all")
    json.dump(reports, sys.stdout)


if __name__ == "__main__":
    main()
