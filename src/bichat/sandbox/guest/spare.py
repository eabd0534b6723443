"""Room to go on in after a MemoryError: a process that has reached its limit could not even let go of what it holds."""

from __future__ import annotations

import resource
from typing import Final

#: Of `/proc/self/statm`: what RLIMIT_DATA counts, in pages (proc(5)).
_DATA_FIELD: Final = 5


class Spare:
    """The part of the memory between the soft and the hard limit."""

    def __init__(self) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._is_given = False

    def give(self) -> None:
        """After a MemoryError: what runs next may use it."""
        if self._soft != self._hard:
            resource.setrlimit(resource.RLIMIT_DATA, (self._hard, self._hard))
            self._is_given = True

    def take_back(self) -> None:
        """Once what is held is below the soft limit again."""
        if self._is_given and _data_bytes() < self._soft:
            resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))
            self._is_given = False


def _data_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[_DATA_FIELD]) * resource.getpagesize()
