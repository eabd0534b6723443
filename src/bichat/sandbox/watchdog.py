"""Memory of whole process trees, looked at every 20 ms: what holds the limit where there is no cgroup.

Per-process limits do not add up: 20 children of 500 MB each pass RLIMIT_DATA.  The look is cheap (resident anonymous
and shared pages and page tables out of `/proc/<pid>/status`, tens of microseconds a process; and the sockets of the
sandbox's network namespace, each at what its buffer may hold) and only a trigger, for it counts the
zygote's copy-on-write pages once in every process.  Above the limit `smaps_rollup` tells what the session itself has
added, and that decides.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Final

from bichat.domain import Status
from bichat.sandbox.owners import acting_as
from bichat.sandbox.rounds import Rounds
from bichat.sandbox.tree import Tree

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 0.02
#: Every so-manieth look is for trees in which nothing is executed, too.
_RESTING_ROUNDS: Final = 5
#: While the trigger stays above the limit the exact figure is taken at least this often: pages that turn from shared
#: to private do not move the trigger.
_CONFIRM_EVERY_S: Final = 0.25
#: Of a processor's time, for one look: a tree that takes longer keeps us from looking often enough.
_LONGEST_S: Final = 0.5


#: Looks in a row that may fail, a second of them.
_MOST_FAILURES: Final = 50
#: Of looks in which processes vanish, which count twice, less others: above it all of them are held still for a look,
#: which is done so often.
_ELUSIVE: Final = 8
_MOST_ELUSIVE: Final = 30
_HELD_EVERY_S: Final = 0.5


class _TooLongError(Exception):
    """A tree has more processes, mappings or descriptors than can be looked at."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Between two executions: what was left behind may go on, but not grow unseen."""

    allowed_bytes: int
    disk_bytes: Callable[[], int]
    """What lies on its disk, which counts too; called on the watchdog's thread."""
    grown: Callable[[int], None]
    """Told once, on the watchdog's thread, what is held when that is more than is allowed; not after `Watchdog.remove`."""


@dataclass(eq=False, slots=True)
class Watch:
    """One tree under watch."""

    tree: Tree
    limit_bytes: int
    base_bytes: int
    """Anonymous memory that the guest shares with the zygote."""
    kill: Callable[[Status], None]
    """Called once, on the watchdog's thread, with the reason; not after `Watchdog.remove`."""
    exceeded: Callable[[tuple[int, ...]], Status | None] = lambda _processes: None
    """Another limit that the tree has passed: told the pids of its processes."""
    owner: tuple[int, int] | None = None
    """User and group of its processes, where they are not the server's."""
    rest: Rest | None = None
    """Set while nothing is executed: then it is looked at less often."""
    #: By the last look.
    _processes: tuple[int, ...] = ()
    _resident: int = 0
    _sockets: int = 0
    _confirmed_at: float = field(default=0.0)
    _confirmed: int = 0
    _resident_then: int = 0
    _deadline: float = 0.0
    #: Processes without memory, and how often lately there were new ones.
    _empty: set[int] = field(default_factory=set[int])
    _elusive: int = 0
    _held_at: float = 0.0
    _failures: int = 0

    def look(self, now: float) -> Status | None:
        """Why the tree must end; None while it may go on.

        Raises:
            _TooLongError: looking takes too long.
        """
        self._deadline = time.thread_time() + _LONGEST_S
        with acting_as(self.owner):  # root may lack the power to look into other users' processes
            self._take_stock()
            if self._elusive > _ELUSIVE and now - self._held_at > _HELD_EVERY_S:
                self._held_at = now
                with self.tree.held():
                    self._take_stock()
                    self._confirmed_at = 0.0
                    if self._resident + self._sockets > self.limit_bytes and self._has_added(self.limit_bytes, now):
                        return Status.OUT_OF_MEMORY
            if self._resident + self._sockets > self.limit_bytes and self._has_added(self.limit_bytes, now):
                return Status.OUT_OF_MEMORY
            return self.exceeded(self._processes)

    def growth(self, rest: Rest, now: float) -> int | None:
        """By the last `look`: what is held, if that is more than `rest` allows."""
        disk = rest.disk_bytes()
        if disk + self._resident + self._sockets - self.base_bytes <= rest.allowed_bytes:
            return None
        with acting_as(self.owner):
            return disk + self._confirmed if self._has_added(rest.allowed_bytes - disk, now) else None

    def _has_added(self, size: int, now: float) -> bool:
        """Whether the session has more than `size` of its own, once the cheap figure has said that it could."""
        could_be = self._confirmed + max(0, self._resident + self._sockets - self._resident_then)
        if self._confirmed_at and could_be <= size and now - self._confirmed_at < _CONFIRM_EVERY_S:
            return False
        self._confirmed = added_bytes(self._in_time(), self.base_bytes) + self._sockets
        self._confirmed_at, self._resident_then = now, self._resident + self._sockets
        return self._confirmed > size

    def _take_stock(self) -> None:
        self._processes = self.tree.pids()
        held = {pid: _resident(pid) for pid in self._in_time()}
        # New ones that are dead by the time they are looked at: they may be passing something on.
        empty = {pid for pid, size in held.items() if not size}
        self._elusive = min(_MOST_ELUSIVE, self._elusive + 2) if empty - self._empty else max(0, self._elusive - 1)
        self._empty = empty
        self._resident = sum(held.values())
        # Pairs are all that it can make, and no limit counts them: 256 processes with a thousand of them each would
        # hold gigabytes in the kernel.
        self._sockets = self.tree.sockets(self._in_time()) * _socket_buffer_bytes()

    def _in_time(self) -> Generator[int]:
        """The processes, as long as there is time for looking at them."""
        for pid in self._processes:
            if time.thread_time() > self._deadline:
                raise _TooLongError
            yield pid

    def unread(self, failure: OSError | None) -> Status | None:
        """Why the tree must end because of how the last look went: it may not fail for long.

        The server is out of descriptors, say: nobody would look any more if this ended the thread.
        """
        self._failures = self._failures + 1 if failure is not None else 0
        if self._failures == 1:
            logger.error("the memory of a sandbox could not be read", exc_info=failure)
        return Status.SESSION_LOST if self._failures > _MOST_FAILURES else None

    def used_bytes(self) -> int:
        """What the tree holds beside the pages that it shares with the zygote: an upper bound, had cheaply.

        Those are counted once: whether another process shares them too, or has become a program that does not, is not
        known here.  More than the limit it is not, for then it would be dead; it is taken for that where we may not look,
        or have no descriptor left to look through.
        """
        try:
            resident = sum(map(_resident, self.tree.pids()))
        except OSError:
            return self.limit_bytes
        return max(0, min(resident - self.base_bytes, self.limit_bytes))


class Watchdog:
    """One thread that looks at every tree in its care; it sleeps while there is none."""

    def __init__(self) -> None:
        self._rounds = Rounds("bichat-watchdog", _INTERVAL_S, self._visit)

    def add(self, watch: Watch) -> None:
        """Look at `watch` from now on."""
        self._rounds.add(watch)

    def remove(self, watch: Watch) -> None:
        """Stop looking; unknown ones are ignored."""
        self._rounds.remove(watch)

    def close(self) -> None:
        """End the thread and wait for it."""
        self._rounds.close()

    def _visit(self, watch: Watch, number: int) -> None:
        """Look at one tree, and tell whom it concerns, unless it was removed meanwhile.

        Whoever removed it has let go of what would be acted on.
        """
        if watch.rest is not None and number % _RESTING_ROUNDS:
            return
        now = time.monotonic()
        rest = watch.rest
        grown_to: int | None = None
        failure: OSError | None = None
        reason: Status | None = None
        try:
            reason = watch.look(now)
            grown_to = watch.growth(rest, now) if rest is not None else None
        except OSError as error:
            failure = error
        except _TooLongError:
            logger.warning("a sandbox with more than can be looked at is killed")
            reason = Status.KILLED
        except Exception:
            # A guest that found out how would be rid of the watchdog, and so would all others.
            logger.exception("a sandbox could not be looked at, and is killed")
            reason = Status.SESSION_LOST
        with self._rounds.keeping(watch) as is_watched:
            if not is_watched:
                return
            reason = watch.unread(failure) or reason
            if reason is not None:
                self._rounds.remove(watch)
                watch.kill(reason)
            elif rest is not None and rest is watch.rest and grown_to is not None:
                watch.rest = None
                rest.grown(grown_to)


def _fields(path: str) -> dict[bytes, int]:
    """The `Name: N kB` lines of a file of /proc, in bytes; empty when the process has gone.

    A process chooses its own name, which stands in one of these lines and may be `x kB`.

    Raises:
        PermissionError: the kernel does not show it to us.
    """
    found: dict[bytes, int] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, rest = line.partition(b":")
                words = rest.split()
                if len(words) == 2 and words[0].isdigit() and words[1] == b"kB":
                    found[name] = int(words[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return found


#: Of `/proc/<pid>/status`: what a process holds, in memory or (where there is swap) pushed out of it.
_HELD: Final = (b"RssAnon", b"RssShmem", b"VmPTE", b"VmSwap", b"HugetlbPages")


def _resident(pid: int) -> int:
    status = _status(pid)
    return sum(status.get(name, 0) for name in _HELD)


def _status(pid: int) -> dict[bytes, int]:
    return _of_a_living_thread(pid, "status", b"VmPTE")


def _of_a_living_thread(pid: int, name: str, proof: bytes) -> dict[bytes, int]:
    """The fields of a file of /proc/<pid>; of another thread where `proof`, which every living one has, is missing.

    A main thread that has ended while others run on shows nothing of the memory that they share.
    """
    found = _fields(f"/proc/{pid}/{name}")
    if proof in found:
        return found
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for task in tasks:
        found = _fields(f"/proc/{pid}/task/{task}/{name}")
        if proof in found:
            break
    return found


@functools.cache
def _socket_buffer_bytes() -> int:
    """What the buffer of one holds at most: the filter forbids to ask for more (socket(7), SO_SNDBUF)."""
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/net/core/wmem_default", "rb") as file:
        return int(file.read())
    return 212_992


def added_bytes(processes: Iterable[int], base_bytes: int) -> int:
    """What a session's processes hold beside the pages that they share with the zygote, never more than that.

    Two lower bounds, of which the higher counts: the pages that one process alone has; and every process's
    proportional share of anonymous and shared memory, less all of the base that could be in it.  A process that
    hides its figures from an ordinary user (an undumpable one can) is counted with all that it has resident.
    """
    private = proportional = hidden = tables = 0
    for pid in processes:
        try:
            rollup = _of_a_living_thread(pid, "smaps_rollup", b"Rss")
        except PermissionError:
            hidden += _resident(pid)
            continue
        status = _status(pid)
        tables += status.get(b"VmPTE", 0) + status.get(b"HugetlbPages", 0)
        private += rollup.get(b"Private_Dirty", 0) + rollup.get(b"SwapPss", 0)
        proportional += rollup.get(b"Pss_Anon", 0) + rollup.get(b"Pss_Shmem", 0) + rollup.get(b"SwapPss", 0)
    return max(private, proportional - base_bytes) + hidden + tables
