"""`fig.show()` opens no browser: it says how to save the figure, unless PLOTLY_RENDERER names a renderer."""

from __future__ import annotations

import os

HINT = "plotly: there is no window to show a figure in; fig.write_html('chart.html') saves it as a file."


def load(renderers_module, execute):
    """Run `plotly.io._renderers` and make the saying renderer its default."""
    execute()
    if "PLOTLY_RENDERER" in os.environ:
        return
    from plotly.io._base_renderers import ExternalRenderer

    class SayingRenderer(ExternalRenderer):
        def render(self, fig):
            print(HINT)  # noqa: T201 - the guest's own output is where its reader looks

    renderers_module.renderers["say"] = SayingRenderer()
    renderers_module.renderers.default = "say"
