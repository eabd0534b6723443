"""When signals reach guest code, and when they must not reach what runs it.

Code may set handlers that raise, and timers that go off long after its cell.  They belong into a cell: half a frame on
the channel would spoil all that follow.  A signal that another thread takes is handled in the main thread all the
same, so a mask alone does not hold back the one that is expected, SIGINT.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

#: Signals that code sets handlers for.
_HANDLED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
#: Holds something while an interrupt waits for a moment at which it does no harm.
_postponed: Final[list[bool]] = []


class Interrupts:
    """Lets signals through to cells.  Owned by the main thread."""

    def __init__(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        # Init's nudge after an interrupt (see `init.py`); a handler, whatever it does, breaks off blocking calls.
        signal.signal(signal.SIGWINCH, lambda _number, _frame: raise_postponed())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._mask: set[int] = set()
        self._is_open = True
        self.close()

    def open(self) -> None:
        """A cell begins: signals reach it, an interrupt as `KeyboardInterrupt` whatever an earlier cell made of it."""
        _postponed.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._is_open = True
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def close(self) -> None:
        """It has ended: signals wait for the next one, and an interrupt has nothing to interrupt.  May be called again."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED[1:])
        if self._is_open:
            self._mask, self._is_open = mask, False
        signal.signal(signal.SIGINT, _ignore)


@contextmanager
def deferred() -> Generator[None]:
    """No handler raises in here; an interrupt comes afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    is_main = threading.current_thread() is threading.main_thread()
    interrupts: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if is_main:
        signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if interrupts:
            signal.raise_signal(signal.SIGINT)


def postpone() -> None:
    """An interrupt came at the wrong moment: it comes again with the next nudge, or the next `raise_postponed`."""
    _postponed.append(True)


def raise_postponed() -> None:
    """Raise the interrupt that was postponed, if one was and this is the thread for it."""
    if _postponed and threading.current_thread() is threading.main_thread():
        _postponed.clear()
        raise KeyboardInterrupt


def _ignore(_number: int, _frame: object) -> None:
    pass
