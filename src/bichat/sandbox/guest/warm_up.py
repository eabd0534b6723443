"""The slow first steps of what is imported, taken before anybody waits for them, leaving nothing behind."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any


def warm_up(shell: Any) -> None:
    """Run a cell in IPython's `shell`, draw a chart, group a table: only with what is imported already."""
    for name, step in (("matplotlib.pyplot", _draw), ("pandas", _group)):
        if name in sys.modules:
            with contextlib.suppress(Exception):
                step(sys.modules[name], shell.display_formatter)
    # The end of a cell forgets that something was drawn.
    with contextlib.suppress(Exception):
        shell.run_cell("None", silent=True)
        shell.last_execution_result = None


def close_fonts() -> None:
    """What a drawing opens and matplotlib keeps open; it closes them after a fork, when their numbers may be others'."""
    fonts = sys.modules.get("matplotlib.font_manager")
    if fonts is not None:
        with contextlib.suppress(AttributeError):
            fonts._get_font.cache_clear()  # noqa: SLF001  # as it does itself


def _draw(pyplot: Any, formatter: Any) -> None:
    figure, axes = pyplot.subplots(figsize=(2, 1))
    try:
        axes.bar(["a", "b"], [1, 2], label="c")
        axes.set(title="d", xlabel="e", ylabel="f")
        axes.legend()
        figure.savefig(io.BytesIO())
        formatter.format(figure)
    finally:
        pyplot.close(figure)


def _group(pandas: Any, formatter: Any) -> None:
    frame = pandas.DataFrame({"a": ["b", "c", "b"], "d": [1.0, 2.0, 3.0]})
    frame.groupby("a")["d"].sum().reset_index().to_csv(io.StringIO())
    formatter.format(frame)
