"""A sandbox's init: pid 1 of its pid namespace.  Reaps, passes signals on, says how the guest ended, starts another.

Its word on the guest's exit is the kernel's, for it alone may wait for the guest and guest code cannot reach it:
signals that pid 1 has no handler for are dropped when they come from inside, its memory is closed to others
(undumpable), and the descriptor it reports over is not the guest's.  When init ends, for whatever reason, the kernel
kills everything else in the sandbox first.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from bichat.sandbox import wire
from bichat.sandbox.isolation import kernel

StartGuest = Callable[[int, int, int], int]
"""Forks a guest with these descriptors as its channel, stdout and stderr; gives its pid."""


def run(box: socket.socket, guest: int, start_guest: StartGuest) -> NoReturn:
    """Serve `box` until the guest has ended or the supervisor has let go."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    wake, waker = socket.socketpair()
    waker.setblocking(False)  # positional in the standard library
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(box, select.POLLIN)
    poll.register(wake, select.POLLIN)
    # The guest may have ended before the handler was in place.
    _reap(box, guest)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == box.fileno():
                guest = _obey(box, guest, start_guest)
            else:
                wake.recv(4096)
                _reap(box, guest)


def _obey(box: socket.socket, guest: int, start_guest: StartGuest) -> int:
    """Do what the supervisor asks for; the pid of the guest from then on."""
    received = wire.receive_control(box)
    if received is None:
        os._exit(0)
    message, descriptors = received
    if "interrupt" in message:
        _interrupt(guest)
        wire.send_control(box, {"interrupted": True})
    elif "restart" in message:
        _kill_all()
        guest = start_guest(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    return guest


def _interrupt(guest: int) -> None:
    """Like a terminal's Ctrl-C: the whole group, so that a program the cell waits for stops too."""
    try:
        os.killpg(guest, signal.SIGINT)
    except ProcessLookupError:
        # It leads no group: not yet, or it has moved itself into another.
        with contextlib.suppress(ProcessLookupError):
            os.kill(guest, signal.SIGINT)


def _kill_all() -> None:
    """End every process of the sandbox but this one, and wait for them: none may write into what comes next."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _reap(box: socket.socket, guest: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(0)
        if pid == 0:
            return
        if pid == guest:
            wire.send_control(box, {"ended": os.waitstatus_to_exitcode(status)})
            os._exit(0)
