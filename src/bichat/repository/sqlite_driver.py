"""Connections of SQLite's driver: each is a thread, which may be told to end more than once, and is waited for."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from threading import Thread
from typing import Any, Final, cast
from weakref import WeakSet

import aiosqlite
import anyio
import anyio.to_thread

#: Rows that the driver takes at a time.
_ROWS: Final = 64


class Connection(aiosqlite.Connection):
    """Who is cancelled in a statement ends its connection twice: once in good order, and once at once.

    The driver's own then waits for ever for its thread, which has ended already, and with it everybody who waits for
    all tasks: the event loop at its end.
    """

    _is_ending = False

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread; None where that has been asked before, so that nobody waits for it."""
        if self._is_ending:
            return None
        self._is_ending = True
        return cast("asyncio.Future[Any] | None", super().stop())  # pyright: ignore[reportUnknownMemberType]


class Connections:
    """Of one database."""

    def __init__(self) -> None:
        self._threads: WeakSet[Thread] = WeakSet()

    def make(self, database: str, **options: Any) -> Connection:
        """One that is not open yet; `options` are those of `sqlite3.connect`.  Its thread outlives no process."""
        connection = Connection(partial(sqlite3.connect, database, **options), _ROWS)
        # As SQLAlchemy does where it makes them.
        thread = connection._thread  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        thread.daemon = True
        self._threads.add(thread)
        return connection

    async def ended(self, patience_s: float) -> None:
        """Wait, so long at most, until no thread has anything more to say to the event loop."""
        with anyio.move_on_after(patience_s, shield=True):
            for thread in tuple(self._threads):
                if thread.is_alive():
                    await anyio.to_thread.run_sync(partial(thread.join, patience_s), abandon_on_cancel=True)
