"""What the processes that fork sandboxes have in common: they hear when a child has ended, and know their own size.

Where there is no pid namespace whose end the kernel makes everybody's, they also end what is below them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Final

#: Between two looks whether a process that was killed has gone.
_LOOK_AGAIN_S: Final = 0.001


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


def end_children() -> None:
    """Kill all children and their process groups, and whatever becomes a child because its parent is dead, and wait.

    The caller adopts orphans, and no process below it can leave its group by itself: then nothing is missed.
    """
    while True:
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                os.kill(pid, signal.SIGKILL)
                if group != os.getpgid(0):
                    os.killpg(group, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(_LOOK_AGAIN_S)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(word) for word in file.read().split()]
