"""What the processes that fork sandboxes have in common: they hear when a child has ended, and know their own size."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Generator


def wake_on_child_exit() -> socket.socket:
    """A socket that becomes readable whenever a child has ended."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)  # positional in the standard library
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    return reader


def ended_children() -> Generator[tuple[int, int]]:
    """Pid and exit code (negative for a signal) of each child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def own_memory(field: str) -> int:
    """A `kB` line of this process's `/proc/self/status`, in bytes: VmData is what RLIMIT_DATA counts."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
