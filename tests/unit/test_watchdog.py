"""The watchdog's arithmetic, on real processes that allocate."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from bichat.domain import Status
from bichat.sandbox import watchdog
from bichat.sandbox.tree import NamespaceTree, is_exiting
from bichat.sandbox.watchdog import Rest, Watch, Watchdog, added_bytes
from bichat.sizes import MIB

#: Announces itself, holds what it was asked to hold, and waits for the end of its input.
CHILD = """
import os, sys, threading
{}
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def child() -> Iterator[Any]:
    """`child(code)`: pid of a process that has run `code` and waits."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> int:
        command = [sys.executable, "-c", CHILD.format(code)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in processes:
        process.communicate()


class OpenTree(NamespaceTree):
    """Whose network namespace is the machine's: its sockets are everybody's."""

    def sockets(self, processes: Iterable[int]) -> int:  # noqa: ARG002
        return 0


@pytest.fixture
def tree_of() -> Iterator[Callable[[int, int], NamespaceTree]]:
    """`tree_of(init, guest)`: of processes that are in no namespace of their own, with an init that hears nothing."""
    trees: list[NamespaceTree] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield lambda init, guest: (trees.append(OpenTree(init, -1, guest, ours)), trees[-1])[1]
    for tree in trees:
        tree.close()


class Told:
    """What a watchdog has told."""

    def __init__(self) -> None:
        self.reasons: list[Status] = []
        self._heard = threading.Event()

    def __call__(self, reason: Status) -> None:
        self.reasons.append(reason)
        self._heard.set()

    def wait(self) -> None:
        assert self._heard.wait(timeout=10)


def anonymous_bytes(pid: int) -> int:
    return watchdog._status(pid).get(b"RssAnon", 0)


def test_what_a_process_allocates_is_counted_once(child):
    idle, busy = child(""), child("held = bytearray(os.urandom(1 << 20) * 50)")

    more = added_bytes((busy,), 0) - added_bytes((idle,), 0)

    assert 49 * MIB < more < 54 * MIB


def test_pages_shared_with_children_are_counted_once(child, tree_of):
    alone = child("held = os.urandom(1 << 20) * 50")
    shared = child(
        "held = os.urandom(1 << 20) * 50\nfor _ in range(4):\n    if os.fork() == 0: sys.stdin.read(); os._exit(0)"
    )
    tree = tuple(tree_of(alone, shared).pids())

    assert len(tree) == 5
    assert added_bytes(tree, 0) < added_bytes((alone,), 0) + 20 * MIB


def test_the_base_that_a_process_shares_with_its_zygote_is_not_the_sessions(child, tree_of):
    base = child(
        "held = os.urandom(1 << 20) * 50\nif os.fork() == 0: more = os.urandom(1 << 20) * 10; print('ready', flush=True); sys.stdin.read(); os._exit(0)\nsys.stdin.read(0)"
    )
    root, leaf = tree_of(child(""), base).pids()

    assert added_bytes((leaf,), anonymous_bytes(root)) < 25 * MIB


def test_a_process_whose_main_thread_has_ended_is_counted(child):
    pid = child(
        "def hold():\n"
        "    held = bytearray(os.urandom(1 << 20) * 50)\n"
        "    while open(f'/proc/self/stat').read().rpartition(')')[2].split()[0] != 'Z': os.sched_yield()\n"
        "    print('ready', flush=True); sys.stdin.read(); os._exit(0)\n"
        "import ctypes\n"
        "threading.Thread(target=hold).start()\n"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)"
    )

    assert watchdog._resident(pid) > 50 * MIB
    assert added_bytes((pid,), 0) > 50 * MIB
    assert anonymous_bytes(pid) > 50 * MIB


def test_page_tables_are_counted(child):
    pid = child(
        "import mmap\n"
        "area = mmap.mmap(-1, 16 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)\n"
        "area.madvise(15)\n"
        "for at in range(0, len(area), 2 << 20): area[at]"
    )

    assert added_bytes((pid,), 0) > 32 * MIB


@pytest.mark.parametrize(
    "name", [b"x kB", b"-1 kB", b"\xb2 kB", b"RssAnon: 0 kB", b"a\nRssAnon: 0 kB", b") Z 0 0"], ids=repr
)
def test_a_process_is_counted_whatever_it_calls_itself(child, name):
    pid = child(
        f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0)\n"  # PR_SET_NAME
        "held = bytearray(os.urandom(1 << 20) * 50)"
    )

    assert 50 * MIB < watchdog._resident(pid) < 80 * MIB
    assert added_bytes((pid,), 0) > 50 * MIB
    assert not is_exiting(pid)


def test_the_tree_reaches_children_of_threads(child, tree_of):
    pid = child(
        "def breed():\n"
        "    if os.fork() == 0: sys.stdin.read(); os._exit(0)\n"
        "threads = [threading.Thread(target=breed) for _ in range(3)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    )

    assert len(tuple(tree_of(child(""), pid).pids())) == 4


def test_the_tree_is_the_guest_with_its_own_and_the_orphans_of_init_but_not_init(child, tree_of):
    init = child("if os.fork() == 0:\n    if os.fork() == 0: pass\n    sys.stdin.read(); os._exit(0)")
    guest = child("if os.fork() == 0: sys.stdin.read(); os._exit(0)")

    tree = set(tree_of(init, guest).pids())

    assert guest in tree
    assert init not in tree
    assert len(tree) == 4


def test_a_process_that_is_gone_counts_nothing():
    gone = subprocess.Popen(["true"])
    gone.wait()

    assert added_bytes((gone.pid,), 0) == 0
    assert anonymous_bytes(gone.pid) == 0


def test_a_tree_above_its_limit_is_told_once_and_one_below_never(child, tree_of):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    init = child("")
    told, below = Told(), Told()
    dog = Watchdog()

    dog.add(Watch(tree_of(init, pid), 1 << 40, 0, below))
    dog.add(Watch(tree_of(init, pid), 20 * MIB, 0, told))
    told.wait()
    dog.close()

    assert told.reasons == [Status.OUT_OF_MEMORY]
    assert below.reasons == []


def test_what_a_tree_uses_is_what_it_has_beside_the_base_which_programs_it_starts_do_not_share(child, tree_of):
    hold = "import os, sys; held = bytearray(os.urandom(1 << 20) * 50); print('holding', flush=True); sys.stdin.read()"
    pid = child(
        "import subprocess\n"
        f"program = subprocess.Popen([sys.executable, '-c', {hold!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "program.stdout.readline()"
    )
    init = child("")

    def used(base_bytes: int, limit_bytes: int = 1 << 40) -> int:
        return Watch(tree_of(init, pid), limit_bytes, base_bytes, Told()).used_bytes()

    assert used(0) > 50 * MIB
    assert used(0) - used(10 * MIB) == 10 * MIB
    assert used(1 << 40) == 0
    assert used(0, 30 * MIB) == 30 * MIB


def test_growth_beyond_what_rest_allows_is_told_once_and_kills_nothing(child, tree_of):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    told = Told()
    grown: queue.SimpleQueue[int] = queue.SimpleQueue()
    dog = Watchdog()
    watch = Watch(tree_of(child(""), pid), 1 << 40, 0, told)
    watch.rest = Rest(20 * MIB, lambda: 0, grown.put)

    dog.add(watch)
    used = grown.get()
    dog.close()

    assert used > 50 * MIB
    assert grown.empty()
    assert (told.reasons, watch.rest) == ([], None)


def test_children_that_share_what_was_there_before_them_are_no_growth(child, tree_of):
    pid = child(
        "held = os.urandom(1 << 20) * 50\nfor _ in range(4):\n    if os.fork() == 0: sys.stdin.read(); os._exit(0)"
    )
    watch = Watch(tree_of(child(""), pid), 1 << 40, 0, Told())

    def growth(allowed_bytes: int) -> int | None:
        return watch.growth(Rest(allowed_bytes, lambda: 10 * MIB, lambda _: None), now=0.0)

    assert watch.look(now=0.0) is None
    assert watch._resident > 200 * MIB
    assert growth(110 * MIB) is None
    assert 60 * MIB < (growth(50 * MIB) or 0) < 110 * MIB


def test_a_sandbox_that_is_closed_under_the_watchdogs_eyes_is_no_fault(child, caplog, tree_of):
    dog = Watchdog()
    watch = Watch(tree_of(child(""), child("")), 1 << 40, 0, Told())

    def close() -> int:
        dog.remove(watch)
        raise OSError("closed")

    watch.rest = Rest(0, close, lambda _: None)
    dog._rounds._items.add(watch)
    dog._visit(watch, 5)

    assert caplog.records == []


def test_a_watch_that_was_removed_is_told_nothing(child, tree_of):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    dog = Watchdog()
    init = child("")
    told, removed_told = Told(), Told()
    removed = Watch(tree_of(init, pid), 20 * MIB, 0, removed_told)

    dog._rounds._items.add(removed)
    dog.remove(removed)
    dog._visit(removed, 5)
    dog.add(Watch(tree_of(init, pid), 20 * MIB, 0, told))
    told.wait()
    dog.close()

    assert removed_told.reasons == []


def test_a_moment_in_which_nothing_can_be_read_does_not_end_the_watch(child, monkeypatch, caplog, tree_of):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    told = Told()
    looks = iter([OSError(24, "Too many open files"), OSError(24, "Too many open files")])

    class Failing(Watch):
        def look(self, now: float) -> Status | None:
            for error in looks:
                raise error
            return Watch.look(self, now)

    dog = Watchdog()
    dog.add(Failing(tree_of(child(""), pid), 20 * MIB, 0, told))
    told.wait()
    dog.close()

    assert "could not be read" in caplog.text


def test_a_sandbox_that_can_never_be_looked_at_is_killed(child, caplog, tree_of, monkeypatch):
    monkeypatch.setattr(watchdog, "_MOST_FAILURES", 3)
    told = Told()

    class Closed(Watch):
        def look(self, now: float) -> Status | None:
            del now
            raise PermissionError(13, "Permission denied")

    dog = Watchdog()
    dog.add(Closed(tree_of(child(""), child("")), 1 << 40, 0, told))
    told.wait()
    dog.close()

    assert told.reasons == [Status.SESSION_LOST]
    assert caplog.text.count("could not be read") == 1


def test_a_tree_that_takes_too_long_to_look_at_is_killed(child, tree_of, monkeypatch):
    monkeypatch.setattr(watchdog, "_LONGEST_S", -1.0)
    told = Told()

    dog = Watchdog()
    dog.add(Watch(tree_of(child(""), child("")), 1 << 40, 0, told))
    told.wait()
    dog.close()

    assert told.reasons == [Status.KILLED]


def test_a_tree_that_takes_long_to_look_at_keeps_nobody_else_waiting(child, tree_of):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    told, released = Told(), threading.Event()

    class Slow(Watch):
        def look(self, now: float) -> Status | None:
            del now
            began = time.thread_time()
            while time.thread_time() - began < 0.03:
                pass
            seen.add(threading.current_thread())
            if len(seen) > 1:
                released.wait(20)  # on a thread of its own by now
            return None

    seen: set[threading.Thread] = set()
    slow = Slow(tree_of(child(""), child("")), 1 << 40, 0, Told())
    dog = Watchdog()
    dog.add(slow)
    while len(seen) < 2:
        time.sleep(0.01)
    dog.add(Watch(tree_of(child(""), pid), 20 * MIB, 0, told))
    told.wait()
    released.set()
    dog.close()

    assert told.reasons == [Status.OUT_OF_MEMORY]


def test_a_sandbox_that_cannot_be_looked_at_for_a_reason_unforeseen_is_killed_and_the_others_are_looked_at(
    child, caplog, tree_of
):
    pid = child("held = bytearray(os.urandom(1 << 20) * 50)")
    odd, told = Told(), Told()

    class Odd(Watch):
        def look(self, now: float) -> Status | None:
            raise ValueError(f"at {now}")

    dog = Watchdog()
    dog.add(Odd(tree_of(child(""), pid), 1 << 40, 0, odd))
    odd.wait()
    dog.add(Watch(tree_of(child(""), pid), 20 * MIB, 0, told))
    told.wait()
    dog.close()

    assert odd.reasons == [Status.SESSION_LOST]
    assert "ValueError" in caplog.text


def test_a_process_is_exiting_once_it_has_ended_looked_at_or_not(child):
    running = child("")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert not is_exiting(process.pid)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_exiting(process.pid)
    assert is_exiting(process.pid)
    assert not is_exiting(running)
