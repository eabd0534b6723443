"""Times that were taken of one thing, and the few numbers that are said about them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Samples:
    """In the order in which they were taken, in seconds."""

    seconds: list[float] = field(default_factory=list[float])

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def median_ms(self) -> float:
        """The middle one, in milliseconds."""
        return 1000 * statistics.median(self.seconds)

    def quantile_ms(self, share: float) -> float:
        """The smallest one that `share` of them do not pass: of few samples, the largest."""
        return 1000 * quantile(self.seconds, share)


def quantile(values: Sequence[float], share: float) -> float:
    """By nearest rank: always one of `values`."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
