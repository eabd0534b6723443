"""A sandbox's init: pid 1 of its pid namespace.  Reaps orphans, passes interrupts on, and clears the room for a restart.

Guest code cannot reach it: signals that pid 1 has no handler for are dropped when they come from inside, its memory is
closed to others (undumpable, and outside of the guest's Landlock domain), and the descriptors it speaks over are not
the guest's.  When init ends, for whatever reason, the kernel kills everything else in the sandbox first.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

from bichat.sandbox import wire
from bichat.sandbox.children import ended_children, wake_on_child_exit
from bichat.sandbox.isolation import kernel

AskForGuest = Callable[[Sequence[int]], None]
"""Asks the zygote for a guest on these descriptors: its channel, stdout and stderr."""


def run(box: socket.socket, ask_for_guest: AskForGuest) -> NoReturn:
    """Serve `box` until the supervisor lets go of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    wake = wake_on_child_exit()
    poll = select.poll()
    poll.register(box, select.POLLIN)
    poll.register(wake, select.POLLIN)
    guest = 0
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == box.fileno():
                guest = _obey(box, guest, ask_for_guest)
            else:
                wake.recv(4096)
                for _ in ended_children():
                    pass


def _obey(box: socket.socket, guest: int, ask_for_guest: AskForGuest) -> int:
    """Do what the supervisor asks for; the guest's pid, as known from then on."""
    received = wire.receive_control(box)
    if received is None:
        os._exit(0)
    match received:
        case {"guest": pid}, _:
            # It has entered: nobody needs to look into us any more.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
            return int(pid)
        case {"interrupt": _}, _:
            _interrupt(guest)
            wire.send_control(box, {"interrupted": True})
        case {"restart": _}, streams:
            _kill_all()
            # The next guest finds its way in by us, which takes leave to look.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
            ask_for_guest(streams)
        case _:
            pass
    return guest


def _interrupt(guest: int) -> None:
    """Like a terminal's Ctrl-C: the whole group, so that a program the cell waits for stops too."""
    if not guest:
        return
    try:
        os.killpg(guest, signal.SIGINT)
    except ProcessLookupError:
        # It has moved itself into another group.
        with contextlib.suppress(ProcessLookupError):
            os.kill(guest, signal.SIGINT)


def _kill_all() -> None:
    """End every process of the sandbox but this one, and wait for orphans: none may write into what comes next."""
    if os.getpid() != 1:
        return  # outside of a pid namespace of our own these would be other people's
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
