"""The pieces of code that everything is measured with, each with a look at what it must have produced."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


class OutputError(Exception):
    """A task did not produce what it must: its time means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of code, the same for every variant."""

    name: str
    code: str
    output: str = ""
    """Name of the file that it writes; empty for one that only prints."""
    check: Callable[[bytes], bool]
    """Whether the file's bytes, or what was printed, are what they must be."""

    def verify(self, produced: bytes, variant: str) -> None:
        """Look at what `variant` has produced.

        Raises:
            OutputError: it is something else.
        """
        if not self.check(produced):
            raise OutputError(f"{self.name} by {variant} gave {produced[:200]!r}")


def _is_table(produced: bytes) -> bool:
    rows = list(csv.reader(io.StringIO(produced.decode(errors="replace"))))
    return [row[0] for row in rows] == ["region", "East", "North", "South", "West"] and len(rows[1]) == 3


def _is_image(produced: bytes) -> bool:
    """A whole PNG of the size that the figure was given."""
    width, height = int.from_bytes(produced[16:20]), int.from_bytes(produced[20:24])
    is_whole = produced.startswith(b"\x89PNG\r\n\x1a\n") and produced.endswith(b"IEND\xaeB`\x82")
    return is_whole and (width, height) == (800, 500)


PRINT: Final = Task(name="print(1)", code="print(1)", check=lambda produced: produced == b"1\n")

GROUP: Final = Task(
    name="groupby to CSV",
    code="""\
import numpy as np
import pandas as pd

rng = np.random.default_rng(7)
orders = pd.DataFrame({
    "region": rng.choice(["North", "South", "East", "West"], 20_000),
    "units": rng.integers(1, 40, 20_000),
    "price": rng.normal(25, 5, 20_000).round(2),
})
orders["sales"] = orders["units"] * orders["price"]
orders.groupby("region")[["units", "sales"]].sum().round(2).to_csv("sales.csv")
""",
    output="sales.csv",
    check=_is_table,
)

CHART: Final = Task(
    name="bar chart to PNG",
    code="""\
import matplotlib.pyplot as plt

regions = ["DACH", "France", "Nordics", "Benelux", "Iberia", "Poland"]
sales = [412.5, 398.1, 251.9, 187.4, 160.2, 94.8]
fig, ax = plt.subplots(figsize=(8, 5))
ax.bar(regions, sales, color="tab:blue", label="2025")
ax.set_title("Sales by region")
ax.set_xlabel("Region")
ax.set_ylabel("Sales in EUR thousand")
ax.legend()
fig.savefig("chart.png", dpi=100)
""",
    output="chart.png",
    check=_is_image,
)

TASKS: Final = (PRINT, GROUP, CHART)
