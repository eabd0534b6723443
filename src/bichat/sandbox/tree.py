"""All processes of one sandbox, seen from the supervisor: who they are, and how all of them are ended at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from bichat.sandbox import wire
from bichat.sandbox.isolation.rlimits import OPEN_FILES
from bichat.sandbox.process_group import ProcessGroup

#: A process with fewer is not looked into: the buffers of so many sockets are seven megabytes.
_FEW_DESCRIPTORS: Final = 32
#: Longest wait for processes to stop, and between two looks whether they have.
_STOP_S: Final = 0.1
_LOOK_AGAIN_S: Final = 0.001


class Tree(Protocol):
    """Owned by the sandbox; methods but `pids` are called in the loop's thread."""

    def pids(self) -> tuple[int, ...]:
        """Of its processes on the host, its init's left out; one that ends meanwhile may be missing.  From any thread."""
        ...

    def sockets(self, processes: Iterable[int]) -> int:
        """How many sockets `processes`, which are all of it, have at most.  From any thread.

        Raises:
            OSError: the kernel does not tell us.
        """
        ...

    def held(self) -> AbstractContextManager[None]:
        """Within it none of its processes runs: what passes its memory on from one to the next is seen.  From any thread."""
        ...

    def entered(self, guest: int) -> None:
        """A guest with this pid on the host leads it from now on, and nothing is left of the one before."""
        ...

    def kill(self) -> None:
        """Have the kernel kill all of it; init ends when the last of them has gone."""
        ...

    def close(self) -> None:
        """Let go of it, once init has ended."""
        ...


class NamespaceTree:
    """What lives in a pid namespace: the kernel kills all of it when its init ends."""

    def __init__(self, init: int, process: int, guest: int, box: socket.socket) -> None:
        """`init`: its pid on the host; `process`: a pidfd of it, `box`: leads to it, the caller's both."""
        self._init = init
        self._process = process
        self._guest = guest
        self._box = box.dup()
        self._lock = threading.Lock()

    def pids(self) -> tuple[int, ...]:
        """Orphans are the init's children."""
        return tuple(_below([self._guest, *_children(self._init)]))

    def sockets(self, processes: Iterable[int]) -> int:  # noqa: ARG002  # the namespace knows
        """See `Tree.sockets`: those of its network namespace, where nobody else is."""
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{self._init}/net/sockstat", "rb") as file:
            return int(file.readline().split()[2])
        return 0

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """See `Tree.held`: init stops all of them at once, which nobody else can."""
        stopped = _stopped(self.pids())
        self._tell_init({"hold": True})
        try:
            _wait_until_stopped(self.pids())
            yield
        finally:
            if not _let_go_on(self.pids(), stopped):
                self._tell_init({"hold": False})

    def _tell_init(self, message: dict[str, bool]) -> None:
        with self._lock, contextlib.suppress(OSError):
            wire.send_control(self._box, message)

    def entered(self, guest: int) -> None:
        """See `Tree.entered`."""
        self._guest = guest

    def kill(self) -> None:
        """See `Tree.kill`."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """See `Tree.close`."""
        with self._lock:
            self._box.close()


class GroupTree:
    """What is in the guest's process group, which nobody in it can leave.  Orphans become the zygote's children."""

    def __init__(self, process: int, guest: int, zygote: int) -> None:
        """`process`: a pidfd of its init, the caller's; `guest` and `zygote`: pids."""
        self._process = process
        self._zygote = zygote
        self._guest = guest
        self._group = _group(guest)
        self._lock = threading.Lock()

    def pids(self) -> tuple[int, ...]:
        """See `Tree.pids`."""
        guest = self._guest
        return tuple(_below([guest, *(pid for pid in _children(self._zygote) if pid != guest and _in(pid, guest))]))

    def sockets(self, processes: Iterable[int]) -> int:
        """See `Tree.sockets`: among their descriptors, once those are many."""
        return sum(map(_sockets_of, processes))

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """See `Tree.held`."""
        stopped = _stopped(self.pids())
        self._send(signal.SIGSTOP)
        try:
            _wait_until_stopped(self.pids())
            yield
        finally:
            if not _let_go_on(self.pids(), stopped):
                self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        with self._lock:
            if self._group is not None:
                self._group.send(number)

    def entered(self, guest: int) -> None:
        """See `Tree.entered`."""
        self.close()
        with self._lock:
            self._guest, self._group = guest, _group(guest)

    def kill(self) -> None:
        """Init would do it alone, but may have been killed itself."""
        self._send(signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def close(self) -> None:
        """See `Tree.close`."""
        with self._lock:
            if self._group is not None:
                self._group.close()
                self._group = None


def _group(guest: int) -> ProcessGroup | None:
    """None where it has ended already, before it ran any code."""
    try:
        return ProcessGroup(guest)
    except ProcessLookupError:
        return None


def _in(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def tasks(processes: Sequence[int]) -> int:
    """How many processes and threads there are, one process of each at least."""
    count = 0
    for pid in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            count += os.stat(f"/proc/{pid}/task").st_nlink - 2
    return count


def is_exiting(pid: int) -> bool:
    """Whether a process is on its way out with all its threads, or gone (PF_EXITING in `/proc/<pid>/stat`, proc(5))."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return all(_is_thread_exiting(f"/proc/{pid}/task/{thread}/stat") for thread in threads)


def _is_thread_exiting(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return bool(int(file.read().rpartition(")")[2].split()[6]) & 0x4)
    except (FileNotFoundError, ProcessLookupError):
        return True


def shown(pid: int) -> str:
    """Where /proc shows what a process has: a main thread that has ended while others run on shows nothing.

    The filter sees to it that all threads of a process have the same descriptors.

    Where nothing is shown it is the process's own.

    Raises:
        FileNotFoundError, ProcessLookupError: it has gone.
    """
    if not _has_shown(f"/proc/{pid}"):
        for thread in os.listdir(f"/proc/{pid}/task"):
            if _has_shown(f"/proc/{pid}/task/{thread}"):
                return f"/proc/{pid}/task/{thread}"
    return f"/proc/{pid}"


def _has_shown(place: str) -> bool:
    try:
        return bool(os.listdir(f"{place}/fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def _stopped(processes: Iterable[int]) -> set[int]:
    """Those that the code has stopped itself."""
    return {pid for pid in processes if _state(pid) in "Tt"}


def _wait_until_stopped(processes: Iterable[int]) -> None:
    """Until all of them, which have been sent the signal, have taken it or have gone; not for long."""
    deadline = time.monotonic() + _STOP_S
    for pid in processes:
        while _state(pid) not in "TtZX" and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)


def _let_go_on(processes: Iterable[int], stopped: set[int]) -> bool:
    """Have all but the `stopped` ones go on, one by one; False where there are none of those, and all of them may."""
    for pid in processes if stopped else ():
        if pid not in stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
    return bool(stopped)


def _state(pid: int) -> str:
    """The letter of proc_pid_stat(5); `X` where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _sockets_of(pid: int) -> int:
    try:
        descriptors = f"{shown(pid)}/fd"
        entries = os.listdir(descriptors)
        if len(entries) < _FEW_DESCRIPTORS:
            return 0
        return sum(_is_socket(f"{descriptors}/{name}") for name in entries)
    except PermissionError:
        # It runs a program that it may not read, or is about to end.
        return 0 if is_exiting(pid) else OPEN_FILES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _is_socket(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False


def _below(roots: list[int]) -> Iterator[int]:
    """`roots` and all below them."""
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += _children(pid)


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                yield from map(int, file.read().split())
