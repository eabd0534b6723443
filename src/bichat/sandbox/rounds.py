"""A thread that visits everything in its care, again and again, and sleeps while there is nothing.

What takes long to visit gets a thread of its own: nobody else is visited later for it.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final, Generic, TypeVar

from bichat.errors import SandboxUnavailableError
from bichat.sandbox.isolation.explain import explain

_Item = TypeVar("_Item")
#: Of a processor's time, for one visit among others.
_LONG_S: Final = 0.02
#: Visits to what was set apart before it may come back.
_ROUNDS_APART: Final = 20


class Rounds(Generic[_Item]):
    """Started with the first item; methods may be called from any thread, also from a visit."""

    def __init__(self, name: str, interval_s: float, visit: Callable[[_Item, int], None]) -> None:
        """`visit` is given an item and the number of the round, from 1; it must not raise.  Between rounds lie `interval_s`."""
        self._name: Final = name
        self._interval_s: Final = interval_s
        self._visit: Final = visit
        self._items: set[_Item] = set()
        self._slow: dict[_Item, threading.Thread] = {}
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, item: _Item) -> None:
        """Visit it from now on.

        Raises:
            SandboxUnavailableError: there is no thread to be had, and it is not visited.
        """
        with self._changed:
            if self._thread is None:
                try:
                    self._thread = self._started(self._run)
                except RuntimeError as error:
                    explanation = explain("fork", errno.EAGAIN, str(error))
                    raise SandboxUnavailableError(
                        explanation.reason, stage=self._name, remedy=explanation.remedy
                    ) from error
            self._items.add(item)
            self._changed.notify_all()

    def remove(self, item: _Item) -> None:
        """Visit it no more; unknown ones are ignored.  A visit that is under way is not waited for, see `keeping`."""
        with self._changed:
            self._items.discard(item)
            if item in self._slow:
                self._changed.notify_all()

    @contextmanager
    def keeping(self, item: _Item) -> Generator[bool]:
        """Within it nobody removes an item; whether this one is still to be visited."""
        with self._changed:
            yield item in self._items

    def close(self) -> None:
        """End all threads and wait for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = [*self._slow.values(), *([self._thread] if self._thread else [])]
        for thread in threads:
            thread.join()

    def _started(self, target: Callable[..., None], *arguments: _Item) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, name=self._name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._items.difference(self._slow))
                if self._closed:
                    return
                items = self._items.difference(self._slow)
            number += 1
            for item in items:
                if self._took_long(item, number):
                    self._set_apart(item)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=self._interval_s)

    def _took_long(self, item: _Item, number: int) -> bool:
        started = time.thread_time()
        self._visit(item, number)
        return time.thread_time() - started > _LONG_S

    def _set_apart(self, item: _Item) -> None:
        with self._changed:
            if item in self._items and not self._closed:
                with suppress(RuntimeError):  # no thread is to be had: all are visited later, but they are
                    self._slow[item] = self._started(self._run_for, item)

    def _run_for(self, item: _Item) -> None:
        """Visit one alone, until it has gone or does not take long any more."""
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or item not in self._items, timeout=self._interval_s)
                if self._closed or item not in self._items:
                    del self._slow[item]
                    return
            number += 1
            if not self._took_long(item, number) and number > _ROUNDS_APART:
                with self._changed:
                    del self._slow[item]
                    self._changed.notify_all()
                return
