"""Runs snippets and describes the charts that they make; run by an environment's own Python, with `src` as argument.

Reads `{name: code}` as JSON from stdin and writes `{name: report}` to stdout.  A snippet draws with `plt`, or puts its
chart into `chart`.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from bichat.sandbox.guest.charts import describe

    warnings.simplefilter("ignore")
    cases: dict[str, str] = json.load(sys.stdin)
    drawn: list[Any] = []
    common = {"plt": _pyplot(drawn)} if any("plt." in code for code in cases.values()) else {}
    reports: dict[str, Any] = {}
    for name, code in cases.items():
        scope: dict[str, Any] = dict(common)
        exec(compile(code, f"<{name}>", "exec"), scope)  # what the runner is for
        drawn.clear()
        modules = set(sys.modules)
        described = describe(scope["chart"] if "chart" in scope else scope["plt"].gcf())
        imported = [module for module in set(sys.modules) - modules if not module.startswith("bichat.")]
        reports[name] = {
            "chart": described,
            "json": json.dumps(described, allow_nan=False),
            "imported": imported,
            "drawn": len(drawn),
            "facts": scope.get("facts"),
        }
        if common:
            common["plt"].close("all")
    json.dump(reports, sys.stdout)


def _pyplot(drawn: list[Any]) -> Any:
    """pyplot, with each figure that is drawn noted in `drawn`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    draw = plt.Figure.draw

    def noted(figure: Any, *arguments: Any) -> Any:
        drawn.append(figure)
        return draw(figure, *arguments)

    plt.Figure.draw = noted
    return plt


if __name__ == "__main__":
    main()
