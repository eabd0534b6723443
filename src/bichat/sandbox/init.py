"""A sandbox's init: pid 1 of its pid namespace.  Reaps orphans, passes interrupts on, and clears the room for a restart.

Where there is no such namespace, it stands beside the guest's process group, kills that when its own time has come,
and ends when the last of it has gone; the orphans are the zygote's to reap.

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
from typing import Final, NoReturn, Protocol

from bichat.sandbox import wire
from bichat.sandbox.children import ended_children, wake_on_child_exit
from bichat.sandbox.isolation import kernel
from bichat.sandbox.process_group import ProcessGroup

#: After an interrupt the guest is woken this often, after so many milliseconds each.
_NUDGES_MS: Final = (10, 40, 150)
#: Between two looks whether a killed guest has gone.
_LOOK_AGAIN_S: Final = 0.001

AskForGuest = Callable[[Sequence[int]], None]
"""Asks the zygote for a guest on these descriptors: its channel, stdout and stderr."""


def run(box: socket.socket, ask_for_guest: AskForGuest, *, is_pid_1: bool) -> NoReturn:
    """Serve `box` until the supervisor lets go of it; `is_pid_1` of a namespace that the guest is in."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if is_pid_1 else lambda _signal, _frame: None)
    processes = _Namespace() if is_pid_1 else _Group()
    try:
        Init(box, ask_for_guest, processes).serve()
    finally:
        processes.clear()
        os._exit(0)


class Processes(Protocol):
    """The guest and all that it has started."""

    def meet(self, guest: int) -> None:
        """The guest has entered, under this pid."""
        ...

    def interrupt(self) -> bool:
        """Like a terminal's Ctrl-C: the whole group, so that a program the cell waits for stops too; whether there is a guest."""
        ...

    def nudge(self) -> None:
        """Wake the guest, by a signal that it has a handler for which does nothing.

        An interrupt that comes just before a blocking call, `time.sleep(60)` say, is noticed by Python only after it;
        another signal breaks the call off, and one that nothing waits for lets it go on.
        """
        ...

    def hold(self, *, is_held: bool) -> None:
        """Stop all of them at once, for somebody who looks at them, or have them go on."""
        ...

    def clear(self) -> None:
        """End all of them, and wait until none is left: what comes next has the room alone."""
        ...


class Init:
    """Does what the supervisor asks for."""

    def __init__(self, box: socket.socket, ask_for_guest: AskForGuest, processes: Processes) -> None:
        self._box = box
        self._ask_for_guest = ask_for_guest
        self._processes = processes
        self._nudges = 0

    def serve(self) -> None:
        """Until the supervisor lets go, or has us end.

        Raises:
            OSError: it lets go while we answer, or has no more descriptors for us.
        """
        wake = wake_on_child_exit()
        poll = select.poll()
        poll.register(self._box, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            ready = poll.poll(_NUDGES_MS[-self._nudges] if self._nudges else None)
            if not ready:
                self._nudges -= 1
                self._processes.nudge()
            for descriptor, _ in ready:
                if descriptor == self._box.fileno():
                    if not self._obey():
                        return
                else:
                    if signal.SIGTERM in wake.recv(4096):
                        return
                    for _ in ended_children():
                        pass

    def _obey(self) -> bool:
        """Whether there may be more to do."""
        received = wire.receive_control(self._box)
        if received is None:
            return False
        match received:
            case {"guest": pid}, _:
                # It has entered: nobody needs to look into us any more.
                kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
                wire.send_control(self._box, {"closed": True})
                self._processes.meet(int(pid))
            case {"interrupt": _}, _:
                was_there = self._processes.interrupt()
                wire.send_control(self._box, {"interrupted": True})
                self._nudges = len(_NUDGES_MS) if was_there else self._nudges
            case {"hold": is_held}, _:
                self._processes.hold(is_held=bool(is_held))
            case {"restart": _}, streams:
                self._processes.clear()
                # The next guest finds its way in by us, which takes leave to look.
                kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
                self._ask_for_guest(streams)
            case _:
                pass
        return True


class _Namespace:
    """Those of a pid namespace whose first process we are."""

    def __init__(self) -> None:
        self._guest = 0

    def meet(self, guest: int) -> None:
        self._guest = guest

    def interrupt(self) -> bool:
        if not self._guest:
            return False
        try:
            os.killpg(self._guest, signal.SIGINT)
        except ProcessLookupError:
            # It has moved itself into another group.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._guest, signal.SIGINT)
        return True

    def nudge(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._guest, signal.SIGWINCH)

    def hold(self, *, is_held: bool) -> None:
        if os.getpid() == 1:  # outside of a pid namespace of our own these would be other people's
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP if is_held else signal.SIGCONT)

    def clear(self) -> None:
        """Orphans are ours to wait for.  The guest is not, and while it dies its children are not yet orphans."""
        if os.getpid() != 1:
            return  # outside of a pid namespace of our own these would be other people's
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(-1, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    while True:
                        os.waitpid(-1, 0)
                time.sleep(_LOOK_AGAIN_S)


class _Group:
    """Those of the guest's process group."""

    def __init__(self) -> None:
        self._group: ProcessGroup | None = None

    def meet(self, guest: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and before it ran any code
            self._group = ProcessGroup(guest)

    def interrupt(self) -> bool:
        return self._group is not None and self._group.send(signal.SIGINT)

    def nudge(self) -> None:
        if self._group is not None:
            self._group.send_to_leader(signal.SIGWINCH)

    def hold(self, *, is_held: bool) -> None:
        if self._group is not None:
            self._group.send(signal.SIGSTOP if is_held else signal.SIGCONT)

    def clear(self) -> None:
        if self._group is not None:
            self._group.end()
            self._group.close()
            self._group = None
