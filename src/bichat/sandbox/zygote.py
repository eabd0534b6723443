"""The zygote: pid 1 of its own pid namespace, libraries imported, forking one sandbox per request.

It runs trusted code only and reads from the supervisor alone.  A sandbox must be pid 1 of a *fresh* pid namespace:
`unshare(NEWPID)` before the fork gives that, and `setns` back to our own namespace, which only its owner may do,
keeps the zygote able to do it again.  When the zygote dies the kernel kills every sandbox below it.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

from bichat.sandbox import enclosure, wire
from bichat.sandbox.guest import shell
from bichat.sandbox.isolation import kernel, rootfs, seccomp
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import SandboxPlan


def run(
    control: socket.socket,
    prefixes: tuple[str, ...],
    preload: tuple[str, ...],
    layers: frozenset[Layer],
    host_id: int,
) -> NoReturn:
    """Import `preload`, say that we are ready, then fork sandboxes until the supervisor's end of `control` closes."""
    os.chdir("/")
    skipped = _preload(preload)
    shell.prepare()
    gc.collect()
    gc.freeze()
    wake = _wake_on_child_exit()
    base = enclosure.Base(
        prefixes=prefixes,
        layers=layers,
        readable=rootfs.plan_root(prefixes).readable,
        call_filter=seccomp.packed_filter(),
        data_bytes=_own_data_bytes(),
    )
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    wire.send_control(control, {"ready": True, "host_id": host_id, "skipped": skipped})
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == control.fileno():
                request = wire.receive_control(control)
                if request is None:
                    os._exit(0)
                _fork(SandboxPlan.from_message(request[0]), request[1], base, own_namespace)
            else:
                wake.recv(4096)
                _reap()


def _preload(modules: tuple[str, ...]) -> dict[str, str]:
    """Import `modules`; those that fail, with the reason: guest code that needs one will meet the error itself."""
    skipped: dict[str, str] = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # any library's import may raise anything
            skipped[name] = f"{type(error).__name__}: {error}"[:500]
    return skipped


def _own_data_bytes() -> int:
    """What RLIMIT_DATA counts of this process before a guest adds to it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


_wakers: Final[list[socket.socket]] = []


def _wake_on_child_exit() -> socket.socket:
    """A socket that becomes readable whenever a child has ended."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    _wakers.append(writer)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    return reader


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _fork(plan: SandboxPlan, descriptors: list[int], base: enclosure.Base, own_namespace: int) -> None:
    """Fork one sandbox.  `descriptors`: init's control socket, the guest's channel, write ends of stdout and stderr."""
    box = socket.socket(fileno=descriptors[0])
    try:
        with _fresh_pid_namespace(own_namespace, wanted=Layer.PID_NAMESPACE in base.layers), warnings.catch_warnings():
            # CPython 3.12 warns about threads; those that may be alive here were tried when the environment was built.
            warnings.simplefilter("ignore", DeprecationWarning)
            if os.fork() == 0:
                enclosure.run(plan, base, box, *descriptors[1:])
    except OSError as error:
        # Whoever asked may have been cancelled and gone: that must not end the zygote, and every sandbox with it.
        with suppress(OSError):
            wire.send_control(box, {"failed": "fork", "errno": error.errno, "message": str(error)})
    finally:
        box.close()
        for descriptor in descriptors[1:]:
            os.close(descriptor)


@contextmanager
def _fresh_pid_namespace(own_namespace: int, *, wanted: bool) -> Generator[None]:
    """The next fork is pid 1 of a namespace of its own; those after it are not, also when it fails."""
    if wanted:
        kernel.unshare(kernel.CLONE_NEWPID)
    try:
        yield
    finally:
        if wanted:
            kernel.setns(own_namespace, kernel.CLONE_NEWPID)
