"""Libraries that would open a window or a browser, or look for a terminal: shown, or answered, as a cell needs it."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Final

from bichat.sandbox.guest.bundles import EncodedJson
from bichat.sandbox.guest.imports import after_import

PLOTLY_TYPE: Final = "application/vnd.plotly.v1+json"
_PLOTLY_FIGURE: Final = ("plotly.basedatatypes", "BaseFigure")
_ALTAIR_CHARTS: Final = ("altair.vegalite.v6.api", "altair.vegalite.v5.api")
#: Renderers of altair's whose images are wanted when code asks for them.
_ALTAIR_IMAGES: Final = ("png", "svg")


def register(formatter: Any) -> None:
    """Tell IPython's `formatter` how to show their charts."""
    bundles = formatter.mimebundle_formatter
    bundles.for_type_by_name(*_PLOTLY_FIGURE, _plotly_bundle)
    # The page that plotly would make of a figure holds the figure a second time.
    formatter.formatters["text/html"].for_type_by_name(*_PLOTLY_FIGURE, _nothing)
    for module in _ALTAIR_CHARTS:
        bundles.for_type_by_name(module, "TopLevelMixin", _altair_bundle)


def watch() -> None:
    """Act when they are imported."""
    after_import("plotly.io._renderers", _show_plotly)
    after_import("PIL.ImageShow", _show_images)
    after_import("pandas", _widen_tables)


def is_plotly_figure(value: object) -> bool:
    """Whether it is one of plotly's."""
    module = sys.modules.get(_PLOTLY_FIGURE[0])
    return module is not None and isinstance(value, module.BaseFigure)


def _show_plotly(renderers: Any) -> None:
    """Have `fig.show()` display the figure, whichever renderer is asked for: there is one place to show it."""

    def show(fig: Any, renderer: str | None = None, validate: bool = True, **options: Any) -> None:  # noqa: ARG001, FBT001, FBT002  # plotly's signature
        from IPython.display import display

        if is_plotly_figure(fig):
            display(fig)
        else:
            display(_plotly_bundle(fig), raw=True)

    renderers.show = show


def _plotly_bundle(figure: Any, **_: Any) -> dict[str, Any]:
    from plotly.io import to_json

    return {PLOTLY_TYPE: EncodedJson(to_json(figure, validate=False)), "text/plain": _plotly_text(figure)}


def _nothing(_value: object) -> None:
    return None


def _plotly_text(figure: Any) -> str:
    if not is_plotly_figure(figure):
        return "<plotly figure>"
    kinds = ", ".join(dict.fromkeys(trace.type for trace in figure.data)) or "empty"
    title = figure.layout.title.text
    return f"<plotly figure: {kinds}{f', {title!r}' if title else ''}>"


def _altair_bundle(chart: Any, **_: Any) -> dict[str, Any]:
    """The chart's specification, and the image that a renderer which draws one makes of it."""
    import altair as alt

    renderers = alt.renderers
    specification = chart.to_dict(context={"pre_transform": False})
    version = alt.VEGALITE_VERSION.partition(".")[0]
    data = {
        f"application/vnd.vegalite.v{version}+json": specification,
        "text/plain": f"<altair {type(chart).__name__}>",
    }
    with contextlib.suppress(Exception):
        if renderers.active in _ALTAIR_IMAGES:
            drawn = renderers.get()(specification)
            data.update(drawn[0] if isinstance(drawn, tuple) else drawn)
    return data


def _show_images(module: Any) -> None:
    """Have `image.show()` display it, whatever viewers the system has."""
    module.register(module.IPythonViewer, 0)


def _widen_tables(pandas: Any) -> None:
    """Print up to twenty columns, as in a notebook: pandas was imported before there was one, and would print as many as fit into a terminal."""
    if pandas.get_option("display.max_columns") == 0:
        pandas.set_option("display.max_columns", 20)
