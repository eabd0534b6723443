"""The zygote: libraries imported, forking one guest per request into a room that an init has made.

It runs trusted code only and reads from inits alone, before those give up their privileges.  A guest is born into its
room's pid namespace (`setns` before the fork) and enters the others itself; the zygote remains its parent, and tells
the supervisor how it ended: the kernel's word, which guest code cannot reach.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import socket
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

from bichat.sandbox import enclosure, huge_pages, wire
from bichat.sandbox.children import ended_children, own_memory, wake_on_child_exit
from bichat.sandbox.guest import shell
from bichat.sandbox.isolation import kernel
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import SandboxPlan

#: What is smaller is forked in a millisecond or two, and somebody may be waiting for it.
_WORTH_COLLAPSING: Final = 64 * 1024 * 1024


def run(
    control: socket.socket, requests: socket.socket, preload: tuple[str, ...], base: enclosure.Base, host_id: int
) -> NoReturn:
    """Import `preload`, tell the supervisor over `control` that we are ready, then fork guests until we are killed."""
    try:
        if Layer.PID_NAMESPACE not in base.layers:
            kernel.die_with_parent()
            kernel.adopt_orphans()
        skipped = _preload(preload)
        shell.prepare()
        gc.collect()
        gc.freeze()
        if own_memory("RssAnon") > _WORTH_COLLAPSING:
            huge_pages.collapse()
        base = base.of_guests(own_memory("VmData"))
        with control:
            facts = {"host_id": host_id, "base_bytes": own_memory("RssAnon"), "pid": os.getpid(), "skipped": skipped}
            wire.send_control(control, {"ready": True, **facts})
        Zygote(requests, base).serve()
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor must hear of it, once it is listening
        with suppress(OSError):
            wire.send_control(control, {"failed": "zygote", "message": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(1)


class Zygote:
    """After its imports."""

    def __init__(self, requests: socket.socket, base: enclosure.Base) -> None:
        self._requests = requests
        self._base = base
        self._own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        #: By pid: where to say how it ended, and which guest of its room it is.
        self._guests: dict[int, tuple[socket.socket, int]] = {}

    def serve(self) -> None:
        """Until there is nobody left who could ask."""
        wake = wake_on_child_exit()
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor != self._requests.fileno():
                    wake.recv(4096)
                    self._report()
                    continue
                request = wire.receive_control(self._requests)
                if request is None:
                    return
                self._fork(*request)

    def _fork(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """One guest.  `descriptors`: a pidfd of its init, init's control socket, and those of `enclosure.enter_room`."""
        process, box_descriptor, *rest = descriptors
        box = socket.socket(fileno=box_descriptor)
        try:
            plan = SandboxPlan.from_message(message["plan"])
            with self._room(process), warnings.catch_warnings():
                # CPython 3.12 warns about threads; those that may be alive here were tried when the environment was built.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
                if pid == 0:
                    self._guests.clear()  # how many others there are is none of its business
                    enclosure.enter_room(plan, self._base, process, box, rest)
            self._guests[pid] = (box, message["guest"])
        except OSError as error:
            with suppress(OSError):
                wire.send_control(box, {"failed": "guest", "errno": error.errno, "message": str(error)})
            box.close()
        finally:
            for descriptor in (process, *rest):
                os.close(descriptor)

    @contextmanager
    def _room(self, process: int) -> Generator[None]:
        """The next fork is born into the pid namespace of the init that `process` stands for; no later one is."""
        if Layer.PID_NAMESPACE in self._base.layers:
            kernel.setns(process, kernel.CLONE_NEWPID)
        try:
            yield
        finally:
            if Layer.PID_NAMESPACE in self._base.layers:
                kernel.setns(self._own_namespace, kernel.CLONE_NEWPID)

    def _report(self) -> None:
        """Say of each guest that has ended how it did.  A supervisor that has let go does not want to know."""
        for pid, code in ended_children():
            if pid not in self._guests:
                continue  # no child that we know of: whose it was must not matter to all the others
            box, number = self._guests.pop(pid)
            with box, suppress(OSError):
                # The socket is init's, too: it is not ours to make it one that never waits.
                wire.send_control(box, {"ended": code, "guest": number}, flags=socket.MSG_DONTWAIT)


def _preload(modules: tuple[str, ...]) -> dict[str, str]:
    """Import `modules`; those that fail, with the reason: guest code that needs one will meet the error itself."""
    skipped: dict[str, str] = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # any library's import may raise anything
            skipped[name] = f"{type(error).__name__}: {error}"[:500]
    return skipped
