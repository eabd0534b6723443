"""A thread that visits everything in its care, again and again, and sleeps while there is nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item")


class Rounds(Generic[_Item]):
    """Started with the first item; methods may be called from any thread, also from a visit."""

    def __init__(self, name: str, interval_s: float, visit: Callable[[_Item, int], None]) -> None:
        """`visit` is given an item and the number of the round, from 1; it must not raise.  Between rounds lie `interval_s`."""
        self._name: Final = name
        self._interval_s: Final = interval_s
        self._visit: Final = visit
        self._items: set[_Item] = set()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, item: _Item) -> None:
        """Visit it from now on."""
        with self._changed:
            self._items.add(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, item: _Item) -> None:
        """Visit it no more; unknown ones are ignored.  A visit that is under way is not waited for, see `keeping`."""
        with self._changed:
            self._items.discard(item)

    @contextmanager
    def keeping(self, item: _Item) -> Generator[bool]:
        """Within it nobody removes an item; whether this one is still to be visited."""
        with self._changed:
            yield item in self._items

    def close(self) -> None:
        """End the thread and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._items)
                if self._closed:
                    return
                items = tuple(self._items)
            number += 1
            for item in items:
                self._visit(item, number)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=self._interval_s)
