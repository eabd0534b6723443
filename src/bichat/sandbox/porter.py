"""The porter: pid 1 of all sandboxes' outer pid namespace.  It makes rooms, and stays small so that they cost little.

A *room* is a set of fresh namespaces with its walls up and an init as its pid 1; guests come out of the zygote, the
porter's other child, which has the libraries imported.  A fork copies page tables, which for a quarter of a gigabyte
takes some ten milliseconds: only the guest is worth that.  When the porter dies the kernel kills everything below it.

It runs trusted code only and reads from the supervisor alone.  Init must be pid 1 of a *fresh* pid namespace:
`unshare(NEWPID)` before the fork gives that, and `setns` back to our own namespace, which only its owner may do, keeps
the porter able to do it again.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

from bichat.sandbox import enclosure, wire, zygote
from bichat.sandbox.children import end_children, ended_children, own_memory, wake_on_child_exit
from bichat.sandbox.isolation import kernel
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import LaunchPlan, SandboxPlan

#: Below the least default of `kernel.pid_max`, which is 32768, and above what a session's processes come to.
_ZYGOTE_PID: Final = 30_000
#: How many pids are used up where none can be chosen, at about a millisecond each.
_USED_UP_PIDS: Final = 16


def run(control: socket.socket, plan: LaunchPlan, host_id: int) -> NoReturn:
    """Fork the zygote, which tells the supervisor when it is ready; then make rooms until `control` closes."""
    os.chdir(plan.scratch or "/")
    base = enclosure.Base.of(plan, own_memory("VmData"))
    to_zygote, from_inits = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if Layer.PID_NAMESPACE in base.layers:
        _skip_pids(_ZYGOTE_PID)
    child = os.fork()
    if child == 0:
        to_zygote.close()
        zygote.run(control, from_inits, plan.preload, base, host_id)
    from_inits.close()
    wake = wake_on_child_exit()
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == control.fileno():
                request = wire.receive_control(control)
                if request is None:
                    _end(base, control)
                _make_room(SandboxPlan.from_message(request[0]), request[1], base, to_zygote, own_namespace)
            else:
                wake.recv(4096)
                if child in dict(ended_children()):
                    _end(base, control)


def _end(base: enclosure.Base, control: socket.socket) -> NoReturn:
    """With everything below us, which the kernel sees to if we are pid 1.  That it is the end is known before its effects."""
    control.close()
    if Layer.PID_NAMESPACE not in base.layers:
        end_children()
    os._exit(0)


def _skip_pids(pid: int) -> None:
    """Have the next fork be process `pid`, or, where none can be chosen, one that comes after `_USED_UP_PIDS` others.

    Guests are process 2 of their rooms, their first children 3, 4 and so on.  OpenSSL, and whoever else compares pids
    to notice a fork, would take one of them that has the zygote's for the zygote, and all would draw the same bytes.
    """
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(pid - 1))
    except OSError:  # /proc is empty on hosts that mask parts of theirs
        for _ in range(_USED_UP_PIDS):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)


def _make_room(
    plan: SandboxPlan, descriptors: list[int], base: enclosure.Base, to_zygote: socket.socket, own_namespace: int
) -> None:
    """Fork one init.  `descriptors`: its control socket, the guest's channel, write ends of stdout and stderr, and the
    entrances to its control group.
    """
    box = socket.socket(fileno=descriptors[0])
    try:
        with fresh_pid_namespace(own_namespace, base.layers):
            if os.fork() == 0:
                enclosure.make_room(plan, base, box, to_zygote, descriptors[1:])
    except OSError as error:
        # Whoever asked may have been cancelled and gone: that must not end us, and every sandbox with us.
        with suppress(OSError):
            wire.send_control(box, {"failed": "fork", "errno": error.errno, "message": str(error)})
    finally:
        box.close()
        for descriptor in descriptors[1:]:
            os.close(descriptor)


@contextmanager
def fresh_pid_namespace(own_namespace: int, layers: frozenset[Layer]) -> Generator[None]:
    """The next fork is pid 1 of a namespace of its own; those after it are not, also when it fails."""
    if Layer.PID_NAMESPACE in layers:
        kernel.unshare(kernel.CLONE_NEWPID)
    try:
        yield
    finally:
        if Layer.PID_NAMESPACE in layers:
            kernel.setns(own_namespace, kernel.CLONE_NEWPID)
