"""plotly draws images in a browser, which a sandbox has not: say so, and what works."""

from __future__ import annotations

NO_BROWSER = (
    "plotly cannot make an image here, because there is no browser in this sandbox: "
    "save the interactive chart with fig.write_html('chart.html'), or draw the picture with matplotlib."
)


def load(kaleido, execute):
    """Run `plotly.io._kaleido`; its image functions then refuse in one sentence."""
    execute()

    def refuse(*_args, **_options):
        raise RuntimeError(NO_BROWSER)

    kaleido.to_image = kaleido.write_image = kaleido.write_images = refuse
    kaleido.full_figure_for_development = refuse
