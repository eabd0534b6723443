"""Shows executions on the terminal: what the code says as it comes, then its error, its files and its images."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, TextIO

from bichat.cli import tables, terminal
from bichat.domain import ExecutionResult, Result, Status
from bichat.events import Completed, Displayed, Event, Stderr, Stdout

_IMAGES: Final = ("image/png", "image/jpeg", "image/svg+xml", "image/webp", "image/gif")
#: IPython's display objects say nothing in plain text.
_MUTE: Final = "<IPython.core.display."
#: Series of a chart that are named.
_MAX_SERIES: Final = 10
#: What code does to have a file of a chart that its library draws in a browser.
_SAVING: Final = {
    "plotly": "fig.write_html('chart.html'), or draw it with matplotlib",
    "vega-lite": "chart.save('chart.png')",
}


class Screen:
    """Takes what one execution after the other says.  Guest text goes to stdout and stderr, escaped for a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        """With `quiet`, nothing is shown of what happens while code runs."""
        self._quiet = quiet
        #: Where the last line has not ended.
        self._unended: TextIO | None = None

    async def follow(self, events: AsyncGenerator[Event]) -> ExecutionResult:
        """Show one execution to its end, but for its files and what went wrong; its result."""
        result: ExecutionResult | None = None
        async with aclosing(events):
            async for event in events:
                match event:
                    case Completed(completed):
                        result = completed
                    case Stdout(text) if not self._quiet:
                        self._say(text, sys.stdout)
                    case Stderr(text) if not self._quiet:
                        self._say(text, sys.stderr)
                    case Displayed(displayed) if not self._quiet:
                        self._display(displayed)
                    case _:
                        pass
        if result is None:
            raise AssertionError("a stream ends with Completed")
        return result

    def failure(self, result: ExecutionResult) -> None:
        """Show what went wrong, if anything did."""
        for omitted, name in ((result.stdout_omitted_bytes, "stdout"), (result.stderr_omitted_bytes, "stderr")):
            if omitted:
                self.tell(f"{name} is {omitted:,} bytes longer than a result keeps; {_where(name, result)}")
        if result.results_omitted:
            self.tell(f"{result.results_omitted:,} displayed results are not kept: too many or too large")
        if result.error is not None:
            error = result.error
            self.end_line(sys.stderr)
            terminal.show(error.traceback or f"{error.name}: {error.message}\n", sys.stderr)
            if result.status not in (Status.ERROR, Status.CANCELLED):
                self.tell(f"status {result.status.value}: {error.message}")

    def tell(self, sentence: str) -> None:
        """Say something of ours, on stderr."""
        self.end_line(sys.stderr)
        terminal.say(sentence)

    def leave_line(self, stream: TextIO) -> None:
        """The last line of `stream` has something on it that did not come from here."""
        self._unended = stream

    def end_line(self, stream: TextIO) -> None:
        """Let what `stream` gets next start on a line of its own, where it shares the last one."""
        last = self._unended
        if last is not None and (last is stream or (last.isatty() and stream.isatty())):
            last.write("\n")
            last.flush()
            self._unended = None

    def _say(self, text: str, stream: TextIO | None) -> None:
        terminal.show(text, stream)
        if text:
            self._unended = None if text.endswith("\n") else stream

    def _display(self, result: Result) -> None:
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # started with the descriptor closed
            return
        self.end_line(sys.stdout)
        table = tables.read(result.table)
        if table is not None:
            tables.draw(table, sys.stdout)
            return
        text = _words(result)
        if text:
            terminal.show(f"{text}\n", sys.stdout)


def _where(stream: str, result: ExecutionResult) -> str:
    """What has become of the whole of a stream that was cut."""
    outputs = (artifact for artifact in result.artifacts if artifact.source == "output")
    whole = next((artifact for artifact in outputs if artifact.name.startswith(stream)), None)
    if whole is None:
        return "the rest is not kept"
    return f"{whole.name} has all of it" if whole.is_complete else f"{whole.name} has its beginning"


def _words(result: Result) -> str:
    """A result as text; nothing for an image, which becomes a file."""
    data = result.data
    if any(kind in data for kind in _IMAGES):
        return ""
    plain = "" if result.text.startswith(_MUTE) else result.text
    value = json.dumps(data["application/json"], indent=2, ensure_ascii=False) if "application/json" in data else ""
    if result.chart is not None:
        return _chart_words(result.chart)
    words = data.get("text/markdown") or plain or data.get("text/latex") or value or result.text
    return str(words or f"[{', '.join(data)}]")


def _chart_words(chart: Mapping[str, Any]) -> str:
    """A chart that is drawn in a browser, as far as words go: what it shows, and how to get a file of it."""
    lines = [" ".join(map(str, filter(None, (chart.get("library"), chart.get("type"), "chart:", chart.get("title")))))]
    series = [one for axes in _records(chart.get("axes")) for one in _records(axes.get("series"))]
    lines += [f"  {one.get('name') or one.get('type')}: {one.get('count')} points" for one in series[:_MAX_SERIES]]
    if len(series) > _MAX_SERIES:
        lines.append(f"  and {len(series) - _MAX_SERIES} more")
    saving = _SAVING.get(str(chart.get("library")))
    return "\n".join([*lines, f"  (to see it: {saving})"] if saving else lines)


def _records(value: object) -> list[dict[str, Any]]:
    """Of what the guest says, which may be anything."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  # JSON
