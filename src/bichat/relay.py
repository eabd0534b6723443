"""Between an execution and whoever reads its events: neither waits for the other."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import anyio

from bichat.events import Completed, Event, Stderr, Stdout
from bichat.sandbox.background import Background
from bichat.sizes import MIB

#: Text that waits for its reader; above it the code's output is left in its pipes, and the code waits too.
MAX_WAITING: Final = MIB


class Relay:
    """Takes events in a task of its own, so that timeouts and ends come when they are due, and keeps them for a reader.

    A reader that is slow holds up the code only once a mebibyte of its output waits, and its timeout does not stand
    still meanwhile.
    """

    def __init__(self, events: AsyncGenerator[Event], *, hold: Callable[[bool], None]) -> None:
        """Nothing is taken yet.

        Args:
            events: an execution's; `Completed` is handed on once everything behind it is done.
            hold: told whether output is to be left where it is.
        """
        self._events = events
        self._hold = hold
        self._waiting: deque[Event] = deque()
        self._size = 0
        self._is_held = False
        self._changed = anyio.Event()
        self._done = anyio.Event()
        self._error: Exception | None = None
        self._scope = anyio.CancelScope()

    async def read(self, background: Background) -> AsyncGenerator[Event]:
        """The events, as they come.  Whoever closes this, or is cancelled in it, ends the execution.

        Raises:
            Exception: whatever the execution raised, behind the events before it.
        """
        background.start(self._take)
        try:
            while True:
                while self._waiting:
                    yield self._next()
                if self._done.is_set():
                    break
                await self._changed.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._done.wait()

    def _next(self) -> Event:
        event = self._waiting.popleft()
        self._size -= _text_size(event)
        if self._is_held and self._size <= MAX_WAITING // 2:
            self._set_held(False)
        return event

    async def _take(self) -> None:
        completed: Completed | None = None
        try:
            with self._scope:
                async with aclosing(self._events) as events:
                    async for event in events:
                        if isinstance(event, Completed):
                            completed = event
                        else:
                            self._put(event)
                if completed is not None:
                    self._put(completed)
        except Exception as error:  # noqa: BLE001  # the reader's to raise
            self._error = error
        finally:
            self._done.set()
            self._tell()

    def _put(self, event: Event) -> None:
        self._waiting.append(event)
        self._size += _text_size(event)
        if not self._is_held and self._size > MAX_WAITING:
            self._set_held(True)
        self._tell()

    def _set_held(self, is_held: bool) -> None:  # noqa: FBT001  # what it sets
        self._is_held = is_held
        self._hold(is_held)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _text_size(event: Event) -> int:
    return len(event.text) if isinstance(event, Stdout | Stderr) else 0
