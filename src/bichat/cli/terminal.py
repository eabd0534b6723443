"""What every subcommand prints with: errors, tables, the progress of long steps, and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Final, TextIO

import typer

from bichat.domain import ExecutionResult, Status
from bichat.errors import BichatError, NotFoundError, UserInputError
from bichat.names import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EXIT_USAGE: Final = 2
EXIT_PLATFORM: Final = 3
EXIT_TIMEOUT: Final = 124
EXIT_LIMIT: Final = 137
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141

#: Between two lines about one stage, where there is no terminal to change a line on.
_QUIET_S: Final = 2.0

_EXIT_BY_STATUS: Final = {
    Status.COMPLETED: 0,
    Status.ERROR: 1,
    Status.DISK_FULL: 1,
    Status.KILLED: 1,
    Status.TIMEOUT: EXIT_TIMEOUT,
    Status.OUT_OF_MEMORY: EXIT_LIMIT,
    Status.OUTPUT_LIMIT: EXIT_LIMIT,
    Status.CANCELLED: EXIT_INTERRUPTED,
    Status.SESSION_LOST: EXIT_PLATFORM,
}


def exit_code(result: ExecutionResult) -> int:
    """0 the code completed, 1 it failed by itself, 3 the platform failed, 124 timeout, 137 killed at a limit."""
    return _EXIT_BY_STATUS[result.status]


@contextlib.contextmanager
def errors_in_words(*, as_json: bool = False) -> Generator[None]:
    """Turn a `BichatError` into its sentence and remedy on stderr (or a JSON document on stdout) and an exit code.

    Exit 2 for what the caller can put right, 3 where the platform failed; Ctrl-C is 130 without a word.
    """
    try:
        yield
    except BichatError as error:
        if as_json:
            sys.stdout.write(json.dumps({"error": error.to_dict()}) + "\n")
        else:
            explain(error)
        usage = isinstance(error, (UserInputError, NotFoundError))
        raise typer.Exit(EXIT_USAGE if usage else EXIT_PLATFORM) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output has gone, `head` for one; nothing can be said there any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_BROKEN_PIPE) from None


def say(sentence: str) -> None:
    """Write a sentence of ours to stderr."""
    sys.stderr.write(f"bichat: {printable(sentence)}\n")


def explain(error: BichatError) -> None:
    """Write to stderr what the platform could not do, and what to do about it."""
    say(error.message)
    if error.remedy:
        sys.stderr.write(f"        {printable(error.remedy)}\n")


def show(text: str, stream: TextIO | None) -> None:
    """Write guest text as it came to a file or pipe; to a terminal with everything escaped that could steer it.

    On a terminal a carriage return ends the line, so that each step of a progress bar can be read.  What the stream's
    encoding lacks is escaped; a stream that is closed takes nothing.
    """
    if stream is None:
        return
    shown = printable(text.replace("\r\n", "\n").replace("\r", "\n"), keep="\n\t") if stream.isatty() else text
    _write(shown, stream)


def _write(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, stream: TextIO, title: str = "") -> None:
    """Print a table; cells are plain text, escaped for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*headers, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        drawn.add_row(*(Text(printable(cell, keep="\n"), overflow="fold") for cell in row))
    draw(drawn, stream)


def width(stream: TextIO) -> int:
    """How many characters a line of `stream` has room for: as the terminal says, 160 in a file or pipe."""
    return _console(stream).width


def draw(drawn: RenderableType, stream: TextIO) -> None:
    """Print what rich has drawn; guest text in it must have gone through `printable`."""
    console = _console(stream)
    with console.capture() as captured:
        console.print(drawn)
    _write(captured.get(), stream)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, width=None if stream.isatty() else 160)


class Progress:
    """Shows on stderr what a long step is doing: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._stage = ""
        self._width = 0
        self._printed_at = 0.0

    def __call__(self, stage: str, detail: str) -> None:
        """Told by the step under way, on whatever thread it runs."""
        line = printable(f"{stage}: {detail}" if detail else stage)
        now = time.monotonic()
        if sys.stderr.isatty():
            shown = line[:100]
            sys.stderr.write(f"\r{shown.ljust(self._width)}")
            self._width = len(shown)
        elif stage != self._stage or now - self._printed_at > _QUIET_S:
            sys.stderr.write(f"{line}\n")
            self._printed_at = now
        self._stage = stage
        sys.stderr.flush()

    def done(self) -> None:
        """Leave the terminal's line."""
        if self._width:
            sys.stderr.write("\n")
            self._width = 0
