"""The numbers behind a chart, in one form for matplotlib, plotly and Vega-Lite.

Nothing is drawn, nothing is imported that the code has not imported, and none of its functions is called: the objects
that a library keeps for drawing are read through their public attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["describe"]


def describe(obj: object) -> dict[str, Any] | None:
    """The chart that `obj` is, ready for JSON; None where it is none, or where it cannot be read.

    Charts are a matplotlib figure, a plotly figure or its JSON, and an altair chart or the Vega-Lite that it stands for.
    The form and its bounds are those of `shape`.
    """
    try:
        if isinstance(obj, Mapping):
            return _mapping(obj)  # pyright: ignore[reportUnknownArgumentType]
        return _figure(obj)
    except Exception:  # noqa: BLE001  # whatever a guest's own class does: a chart's numbers are an addition
        return None


def _mapping(obj: Mapping[str, Any]) -> dict[str, Any] | None:
    if "data" in obj and "layout" in obj:
        from bichat.sandbox.guest.charts import plotly_figures

        return plotly_figures.describe(obj)
    if "vega-lite" in str(obj.get("$schema", "")):
        from bichat.sandbox.guest.charts import vega_charts

        return vega_charts.describe(obj)
    return None


def _figure(obj: object) -> dict[str, Any] | None:
    for kind in type(obj).__mro__:
        module, name = kind.__module__, kind.__name__
        if module == "matplotlib.figure" and name == "FigureBase":
            from bichat.sandbox.guest.charts import matplotlib_figures

            return matplotlib_figures.describe(obj)
        if module == "plotly.basedatatypes" and name == "BaseFigure":
            from bichat.sandbox.guest.charts import plotly_figures

            return plotly_figures.describe(obj)
        if module.startswith("altair.") and name == "TopLevelMixin":
            from bichat.sandbox.guest.charts import vega_charts

            return vega_charts.describe_chart(obj)
    return None
