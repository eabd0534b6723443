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
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from bichat.sandbox import wire
from bichat.sandbox.children import ended_children, wake_on_child_exit
from bichat.sandbox.isolation import kernel

#: After an interrupt the guest is woken this often, after so many milliseconds each.
_NUDGES_MS: Final = (10, 40, 150)
#: Between two looks whether a killed guest has gone.
_LOOK_AGAIN_S: Final = 0.001

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
    nudges = 0
    while True:
        ready = poll.poll(_NUDGES_MS[-nudges] if nudges else None)
        if not ready:
            nudges -= 1
            _nudge(guest)
        for descriptor, _ in ready:
            if descriptor == box.fileno():
                guest, was_interrupted = _obey(box, guest, ask_for_guest)
                nudges = len(_NUDGES_MS) if was_interrupted else nudges
            else:
                wake.recv(4096)
                for _ in ended_children():
                    pass


def _obey(box: socket.socket, guest: int, ask_for_guest: AskForGuest) -> tuple[int, bool]:
    """Do what the supervisor asks for; the guest's pid, as known from then on, and whether it has been interrupted."""
    received = wire.receive_control(box)
    if received is None:
        os._exit(0)
    match received:
        case {"guest": pid}, _:
            # It has entered: nobody needs to look into us any more.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
            wire.send_control(box, {"closed": True})
            return int(pid), False
        case {"interrupt": _}, _:
            _interrupt(guest)
            wire.send_control(box, {"interrupted": True})
            return guest, guest > 0
        case {"restart": _}, streams:
            _kill_all()
            # The next guest finds its way in by us, which takes leave to look.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
            ask_for_guest(streams)
        case _:
            pass
    return guest, False


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


def _nudge(guest: int) -> None:
    """Wake the guest, by a signal that it has a handler for which does nothing.

    An interrupt that comes just before a blocking call, `time.sleep(60)` say, is noticed by Python only after it;
    another signal breaks the call off, and one that nothing waits for lets it go on.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest, signal.SIGWINCH)


def _kill_all() -> None:
    """End every process of the sandbox but this one, and wait until none is left: what comes next has the room alone.

    Orphans are ours to wait for.  The guest is not, and while it dies its children are not yet orphans.
    """
    if os.getpid() != 1:
        return  # outside of a pid namespace of our own these would be other people's
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
            time.sleep(_LOOK_AGAIN_S)
