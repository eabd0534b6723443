"""Bombs: each goes off against one limit, is named by it, and leaves the host and its neighbours alone."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bichat.domain import Status
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sizes import MIB

WITHOUT_GROUPS = ALL_LAYERS - {Layer.CONTROL_GROUP}
WITHOUT_WATCHDOG = WITHOUT_GROUPS - {Layer.WATCHDOG}


def test_a_polite_fork_bomb_gets_as_many_processes_as_it_may_have(run_code, limits):
    outcome = run_code(
        """
        import signal
        children = 0
        try:
            while True:
                if os.fork() == 0:
                    signal.pause()
                children += 1
        except OSError as error:
            answer([children, errno.errorcode[error.errno]])
        """,
        limits=replace(limits, pids=20),
    )

    assert outcome.answer == [19, "EAGAIN"]


def test_a_spinning_fork_bomb_dies_at_the_timeout_to_the_last_process(run_code, limits, supervise, portal, family):
    supervisor = supervise()
    launcher = portal.call(supervisor.zygote).pid
    idle = family(launcher)

    outcome = run_code(
        """
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
        limits=replace(limits, pids=30, timeout_s=1),
    )

    assert outcome.status is Status.TIMEOUT
    assert family(launcher) == idle


def test_a_thread_bomb_is_stopped_at_the_number_of_processes(run_code, limits):
    outcome = run_code(
        """
        import threading
        threads = 0
        try:
            while True:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
                threads += 1
        except RuntimeError as error:
            answer([threads, str(error)])
        os._exit(0)
        """,
        limits=replace(limits, pids=20),
    )

    assert outcome.answer == [19, "can't start new thread"]


def test_without_resource_limits_a_fork_bomb_gets_more_processes_than_it_may_have(run_code, limits):
    outcome = run_code(
        """
        import signal
        for _ in range(40):
            if os.fork() == 0:
                signal.pause()
        answer("forty children")
        """,
        limits=replace(limits, pids=20),
        layers=WITHOUT_GROUPS - {Layer.RESOURCE_LIMITS},
    )

    assert outcome.answer == "forty children"


def test_a_memory_bomb_meets_memory_error_at_the_limit(run_code, limits):
    outcome = run_code(
        """
        held = []
        while True:
            held.append(bytearray(16 << 20))
            os.write(1, b".")
        """,
        limits=replace(limits, memory_bytes=128 * MIB),
    )

    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.error.name in {"MemoryError", "MemoryLimit"}
    assert len(outcome.stdout) <= 8


def test_a_caught_memory_error_is_the_codes_own_affair(run_code, limits):
    outcome = run_code(
        "answer(attempt(bytearray, 1 << 40))",
        limits=limits,
    )

    assert outcome.answer == "MemoryError"
    assert outcome.status is Status.COMPLETED


def test_a_memory_bomb_of_one_huge_array_meets_memory_error(run_code, data_environment):
    outcome = run_code("import numpy; numpy.ones((40_000, 40_000))", environment=data_environment)

    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.error.name.endswith("MemoryError")


def test_without_resource_limits_the_watchdog_still_ends_a_memory_bomb(run_code, limits):
    outcome = run_code(
        """
        held = []
        for _ in range(64):
            held.append(bytearray(16 << 20))
        import signal
        signal.pause()
        """,
        limits=replace(limits, memory_bytes=128 * MIB),
        layers=WITHOUT_GROUPS - {Layer.RESOURCE_LIMITS},
    )

    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.error.name == "MemoryLimit"


# Each holds about 300 MiB at its end, where it waits for the watchdog, and could not hold more.
BOMBS = {
    "buffers of sockets": """
        import signal, socket
        pairs = []
        for _ in range(4):
            if os.fork() == 0:
                for _ in range(450):
                    pairs.append(socket.socketpair())
                    pairs[-1][0].setblocking(False)
                    attempt(pairs[-1][0].send, bytes(100_000))
                signal.pause()
        signal.pause()
        """,
    "many children": """
        import signal
        for _ in range(6):
            if os.fork() == 0:
                held = bytearray(os.urandom(1 << 20) * 50)
                signal.pause()
        signal.pause()
        """,
    "children that call themselves a figure": """
        import signal
        for _ in range(6):
            if os.fork() == 0:
                _libc.prctl(15, b"x kB", 0, 0, 0)  # PR_SET_NAME
                held = bytearray(os.urandom(1 << 20) * 50)
                signal.pause()
        signal.pause()
        """,
    "memory shared by a file": """
        import mmap, signal
        descriptor = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT)
        os.truncate(descriptor, 300 << 20)
        area = mmap.mmap(descriptor, 300 << 20)
        for at in range(0, len(area), 4096):
            area[at] = 1
        signal.pause()
        """,
    "children that cannot be dumped": """
        import signal
        for _ in range(6):
            if os.fork() == 0:
                _libc.prctl(4, 0, 0, 0, 0)
                held = bytearray(os.urandom(1 << 20) * 50)
                signal.pause()
        signal.pause()
        """,
    "orphans in sessions of their own": """
        import signal
        for _ in range(6):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    held = bytearray(os.urandom(1 << 20) * 50)
                    signal.pause()
                os._exit(0)
            os.wait()
        signal.pause()
        """,
    "programs of another name": """
        import signal, subprocess, sys
        code = "import os, ctypes, signal; ctypes.CDLL(None).prctl(15, b') R 1 (');h = os.urandom(1 << 20) * 50; signal.pause()"
        children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
        signal.pause()
        """,
    "processes without a main thread": """
        import signal, threading, time
        def hold():
            time.sleep(0.05)
            held.append(os.urandom(1 << 20) * 50)
            threading.Event().wait()
        held = []
        for _ in range(6):
            if os.fork() == 0:
                threading.Thread(target=hold).start()
                _libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
        signal.pause()
        """,
    "children of threads": """
        import signal, threading
        def breed():
            if os.fork() == 0:
                held = bytearray(os.urandom(1 << 20) * 50)
                signal.pause()
            threading.Event().wait()
        for _ in range(6):
            threading.Thread(target=breed).start()
        signal.pause()
        """,
    "page tables": """
        import mmap, signal
        span = 140 << 30
        area = mmap.mmap(-1, span, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
        area.madvise(15)  # MADV_NOHUGEPAGE
        for at in range(0, span, 2 << 20):
            area[at]
        signal.pause()
        """,
}


UNSEEN = {
    "shared and anonymous": "mmap.mmap(-1, 1 << 20)",
    "shared with a validated type": "mmap.mmap(-1, 1 << 20, flags=3 | mmap.MAP_ANONYMOUS)",
    "of a device of zeros": "mmap.mmap(os.open('/dev/zero', os.O_RDONLY), 1 << 20, prot=mmap.PROT_READ)",
}


@pytest.mark.parametrize("code", UNSEEN.values(), ids=UNSEEN.keys())
def test_memory_that_nobody_could_count_once_it_is_unmapped_cannot_be_had(run_code, code):
    outcome = run_code("import mmap; answer(attempt(lambda: eval(code)))", given={"code": code})

    assert outcome.answer in {"EPERM", "ENODEV"}


def test_without_the_filter_shared_memory_can_be_held_that_the_watchdog_does_not_see(run_code, limits):
    outcome = run_code(
        """
        import mmap
        area = mmap.mmap(-1, 96 << 20)
        for at in range(0, len(area), 4096):
            area[at] = 7
            if at % (1 << 20) == 0:
                area.madvise(mmap.MADV_DONTNEED)
        area.madvise(mmap.MADV_DONTNEED)
        answer([int(status_field("RssShmem").split()[0]) < 8192, all(area[at] == 7 for at in range(0, 1 << 20, 4096))])
        """,
        limits=replace(limits, memory_bytes=64 * MIB),
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    assert outcome.status is Status.COMPLETED
    assert outcome.answer == [True, True]


def test_memory_can_be_shared_by_files_of_the_memory_disk_which_counts_it(run_code):
    outcome = run_code(
        """
        from multiprocessing import Array, shared_memory
        block = shared_memory.SharedMemory(create=True, size=1 << 20)
        block.buf[0] = 7
        array = Array("i", 4)
        if os.fork() == 0:
            array[0] = block.buf[0]
            os._exit(0)
        os.wait()
        answer(array[0])
        block.close()
        block.unlink()
        """
    )

    assert outcome.answer == 7


def test_zeros_can_be_read_from_their_device(run_code):
    outcome = run_code("answer(list(open('/dev/zero', 'rb').read(3)))")

    assert outcome.answer == [0, 0, 0]


@pytest.mark.parametrize("option", [7, 32], ids=["SO_SNDBUF", "SO_SNDBUFFORCE"])
def test_the_buffer_of_a_socket_cannot_be_made_larger(run_code, option):
    outcome = run_code(
        "import socket; answer(attempt(socket.socketpair()[0].setsockopt, socket.SOL_SOCKET, option, 1 << 22))",
        given={"option": option},
    )

    assert outcome.answer == "EPERM"


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS.keys())
def test_memory_that_no_limit_of_one_process_sees_is_ended_by_the_watchdog(run_code, limits, code):
    outcome = run_code(code, limits=replace(limits, memory_bytes=200 * MIB, disk_bytes=400 * MIB))

    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.error.name == "MemoryLimit"


def test_without_the_watchdog_many_children_together_pass_the_limit(run_code, limits):
    outcome = run_code(
        """
        import signal
        ready, tell = os.pipe()
        for _ in range(4):
            if os.fork() == 0:
                held = bytearray(os.urandom(1 << 20) * 40)
                os.write(tell, b"x")
                signal.pause()
        for _ in range(4):
            os.read(ready, 1)
        answer("160 MiB held")
        """,
        limits=replace(limits, memory_bytes=100 * MIB),
        layers=WITHOUT_WATCHDOG,
    )

    assert outcome.answer == "160 MiB held"


def test_a_pool_of_eight_processes_fits_where_its_shared_pages_would_not(run_code, limits):
    outcome = run_code(
        """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(8) as pool:
            answer(sum(pool.map(abs, range(-100, 0))))
        """,
        limits=replace(limits, memory_bytes=128 * MIB),
    )

    assert outcome.answer == 5050


def test_a_pool_of_eight_processes_fits_beside_the_data_libraries(run_code, limits, data_environment):
    outcome = run_code(
        """
        import multiprocessing, pandas
        with multiprocessing.get_context("fork").Pool(8) as pool:
            answer(sum(pool.map(abs, range(-100, 0))))
        """,
        limits=replace(limits, memory_bytes=512 * MIB),
        environment=data_environment,
    )

    assert outcome.answer == 5050


def test_a_disk_bomb_meets_enospc_and_is_named_so(run_code, limits):
    outcome = run_code(
        """
        for number in range(100):
            with open(f"f{number}", "wb") as file:
                file.write(b"x" * (1 << 20))
            os.write(1, b".")
        """,
        limits=replace(limits, disk_bytes=16 * MIB),
    )

    assert outcome.status is Status.DISK_FULL
    assert "No space left" in outcome.error.message
    assert 14 <= len(outcome.stdout) <= 16


def test_one_cap_covers_all_three_folders(run_code, limits):
    outcome = run_code(
        """
        def fill(path):
            with open(path, "wb") as file:
                for _ in range(6):
                    file.write(b"x" * (1 << 20))
        answer([attempt(fill, f"{folder}/x") for folder in ("/tmp", "/dev/shm", "/mnt/data")])
        """,
        limits=replace(limits, disk_bytes=16 * MIB),
    )

    assert outcome.answer == ["ok", "ok", "ENOSPC"]


def test_an_inode_bomb_meets_enospc_and_is_named_so(run_code, limits):
    outcome = run_code(
        """
        for number in range(10_000):
            open(f"f{number}", "w").close()
        """,
        limits=replace(limits, inodes=200),
    )

    assert outcome.status is Status.DISK_FULL


def test_a_file_larger_than_the_disk_cannot_be_made_even_sparse(run_code):
    outcome = run_code("answer(attempt(os.truncate, os.open('x', os.O_RDWR | os.O_CREAT), 1 << 40))")

    assert outcome.status is Status.COMPLETED
    assert outcome.answer == "EFBIG"


def test_extended_attributes_do_not_pass_the_cap(run_code, limits):
    outcome = run_code(
        """
        open("x", "w").close()
        def fill():
            for number in range(20_000):
                os.setxattr("x", f"user.{number}", b"x" * 4096)
        answer(attempt(fill))
        """,
        limits=limits,
    )

    assert outcome.answer in {"ENOSPC", "ENOTSUP", "EOPNOTSUPP", "E2BIG"}


def test_the_processors_are_those_that_were_given_and_no_others(run_code, limits):
    outcome = run_code(
        """
        before = os.sched_getaffinity(0)
        attempt(os.sched_setaffinity, 0, range(1024))
        answer([len(before), os.sched_getaffinity(0) == before])
        """,
        limits=replace(limits, cpus=1),
    )

    assert outcome.answer == [1, True]


def test_no_core_is_dumped(run_code):
    outcome = run_code("import resource; answer(resource.getrlimit(resource.RLIMIT_CORE))")

    assert outcome.answer == [0, 0]


def test_a_busy_guest_gives_way_to_the_server(run_code):
    outcome = run_code("answer([os.nice(0), attempt(os.nice, -1)])")

    assert outcome.answer[0] >= os.nice(0) + 10 or outcome.answer[0] == 19
    assert outcome.answer[1] in {"EPERM", "EACCES"}
