"""Names that processes give themselves, which stand between the figures that the kernel tells of them."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import Final

from bichat.sandbox import control_groups, tree, watchdog

_PR_SET_NAME: Final = 15
_PR_GET_NAME: Final = 16


def processes(data: bytes, room: Path) -> None:
    """Whatever a process calls itself, what it holds is read, and when it began, and that it lives."""
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(16)
    libc.prctl(_PR_GET_NAME, before, 0, 0, 0)
    thread = f"{os.getpid()}/task/{threading.get_native_id()}"
    try:
        libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(data[:15]), 0, 0, 0)
        fields = watchdog._fields(f"/proc/{thread}/status")

        assert all(fields[name] > 0 for name in (b"RssAnon", b"VmPTE"))
        assert control_groups._started(thread) > 0  # pyright: ignore[reportArgumentType]  # a thread's path is as good
        assert not tree._is_thread_exiting(f"/proc/{thread}/stat")
        assert tree._state(thread) in "RSD"  # pyright: ignore[reportArgumentType]
    finally:
        libc.prctl(_PR_SET_NAME, before, 0, 0, 0)
