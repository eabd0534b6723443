"""What runs code in the guest: one lasting `__main__`, cell after cell."""

from __future__ import annotations

import linecache
import sys
import types
from typing import Protocol

from bichat.sandbox.guest.channel import Channel
from bichat.sandbox.guest.streams import Streams


class Cells(Protocol):
    """Implemented by `PlainCells` and, where the environment has IPython, by `ipython_cells.IPythonCells`."""

    def connect(self, channel: Channel, streams: Streams) -> None:
        """Before the first cell, in the process that runs it: what is displayed goes out here."""
        ...

    def warm_up(self) -> None:
        """After that: take the slow first steps of what is imported."""
        ...

    def run(self, code: str, name: str) -> BaseException | None:
        """Run `code` as the file `name`; what it raised."""
        ...


class PlainCells:
    """Python alone: no magics, nothing displayed."""

    def __init__(self) -> None:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        self._namespace = main.__dict__

    def connect(self, channel: Channel, streams: Streams) -> None:
        """There is nothing that it could display."""

    def warm_up(self) -> None:
        """There is nothing that would be slow."""

    def run(self, code: str, name: str) -> BaseException | None:
        """Run `code` as the file `name`; what it raised."""
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            exec(compile(code, name, "exec", dont_inherit=True), self._namespace)  # noqa: S102  # what we are here for
        except BaseException as error:  # noqa: BLE001  # guest code may raise anything
            return error
        return None
