"""Tables that are printed to a terminal and written to a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """With a title, a few sentences about it, and rows of text; numbers stand to the right from the second column on."""

    title: str
    sentences: Sequence[str] = ()
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def drawn(self) -> Drawn:
        """For a terminal."""
        drawn = Drawn(title=self.title, title_justify="left")
        for number, name in enumerate(self.header):
            drawn.add_column(name, justify="right" if number else "left", no_wrap=bool(number))
        for row in self.rows:
            drawn.add_row(*(cell.replace("`", "") for cell in row), style="bold red" if "MISSED" in row else "")
        return drawn

    def written(self) -> str:
        """As a section of a Markdown page."""
        lines = [f"## {self.title}", "", *self.sentences, *([""] if self.sentences else [])]
        lines += [_row(self.header), _row(["---", *["---:"] * (len(self.header) - 1)])]
        return "\n".join([*lines, *map(_row, self.rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
