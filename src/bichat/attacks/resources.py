"""Bombs: attacks on the memory, the disk, the processes and the time of the host.

Each is bounded even where no limit holds it: below 600 MB, below 300 processes, some seconds.
"""

from __future__ import annotations

import textwrap
from dataclasses import replace
from functools import partial
from typing import Final

from bichat.attacks.attack import SMALL, Attack, Family
from bichat.sandbox.isolation.layers import Layer
from bichat.sizes import MIB

_MEMORY_ENDS: Final = frozenset({"MemoryError", "MemoryLimit", "out_of_memory"})
_resources = partial(Attack, family=Family.RESOURCES)
_of_memory = partial(
    _resources,
    expected="the code ends, or is refused memory, before it holds twice its limit",
    layers=(Layer.RESOURCE_LIMITS, Layer.WATCHDOG, Layer.CONTROL_GROUP),
    limits=replace(SMALL, memory_bytes=128 * MIB, disk_bytes=400 * MIB, timeout_s=8.0),
    ends=_MEMORY_ENDS,
)
_of_trees = partial(_of_memory, layers=(Layer.WATCHDOG, Layer.CONTROL_GROUP))
_of_disk = partial(
    _resources,
    expected="writing fails when the disk is full, and nothing is written beside it",
    layers=(Layer.MOUNT_NAMESPACE,),
    limits=replace(SMALL, disk_bytes=16 * MIB, inodes=300),
    ends=frozenset({"disk_full", "out_of_memory"}),
)


#: For x86_64: maps 90 MiB; then, again and again, is cloned with its memory (CLONE_VM, CLONE_VFORK), the child kills its
#: parent, which waits for it, and touches 16 more pages.
_PASSES_ON: Final = (
    "b80900000031ffbe0000a005ba0300000041ba2200000049c7c0ffffffff4531c90f054889c3bda0050000b838000000bf11"
    "41000031f631d24531d24531c00f0585c078e67530b86e0000000f0589c7be09000000b83e0000000f0585ed74cbffcdb910"
    "000000c603014881c300100000ffc975f2ebb4b83c00000031ff0f05"
)


def _holding(code: str, what: str) -> str:
    """The bomb, then a wait to be found out (the watchdog looks every 20 ms), and what it held all that time."""
    return f"{textwrap.dedent(code)}\nimport time\ntime.sleep(6)\nthrough({what!r})\n"


#: Fills the disk by files that `opened()` gives.
_FILLING: Final = """
{before}
        import time
        files, written = [], 0
        try:
            for _ in range(8):
                files.append(opened())
                for _ in range(4):
                    written += os.write(files[-1], b"x" * (1 << 20)) >> 20
        except OSError as error:
            held(name_of(error), f"after {{written}} MiB")
        else:
            time.sleep(1)
            through("32 MiB on a disk of 16")
"""


ATTACKS: Final = (
    _resources(
        name="fork-bomb-that-asks",
        tries="to have more processes than it may",
        expected="starting one more fails, or the session ends",
        layers=(Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP, Layer.WATCHDOG),
        limits=replace(SMALL, pids=20),
        ends=frozenset({"out_of_memory", "killed"}),
        code="""
        import signal, time
        children, sign = 0, "completed"
        try:
            for _ in range(100):
                if os.fork() == 0:
                    signal.pause()
                children += 1
        except OSError as error:
            sign = name_of(error)
        if children > 20:
            time.sleep(0.5)
        expect(children <= 20, sign, f"{children} children where 20 processes are allowed")
        """,
    ),
    _resources(
        name="fork-bomb-that-spins",
        tries="to fork from every process at once, so fast that nobody can kill them all",
        expected="all of them end",
        layers=(Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP, Layer.PID_NAMESPACE),
        limits=replace(SMALL, pids=20, timeout_s=1.0),
        ends=frozenset({"timeout", "killed", "out_of_memory"}),
        code="""
        import time
        until = time.monotonic() + 2
        for _ in range(8):
            works(os.fork)
        while time.monotonic() < until:
            works(os.getpid)
        through("256 processes ran for two seconds")
        """,
    ),
    _resources(
        name="thread-bomb",
        tries="to have more threads than it may",
        expected="starting one more fails, or the session ends",
        layers=(Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP, Layer.WATCHDOG),
        limits=replace(SMALL, pids=20),
        signs={"RuntimeError": (Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP)},
        ends=frozenset({"out_of_memory", "killed"}),
        code="""
        import threading, time
        threads, sign = 0, "completed"
        threading.stack_size(1 << 16)
        try:
            for _ in range(100):
                threading.Thread(target=threading.Event().wait, daemon=True).start()
                threads += 1
        except RuntimeError:
            sign = "RuntimeError"
        if threads > 20:
            time.sleep(0.5)
        expect(threads <= 20, sign, f"{threads} threads where 20 are allowed")
        os._exit(0)
        """,
    ),
    _of_memory(
        name="memory-of-one-process",
        tries="to take more memory than it may, bit by bit",
        code=_holding(
            """
        held_ = []
        for _ in range(30):
            held_.append(bytearray(os.urandom(1)) * (16 << 20))
        """,
            "held 480 MiB",
        ),
    ),
    _of_memory(
        name="memory-in-one-piece",
        tries="to take it in one piece",
        code=_holding(
            """
        held_ = bytearray(b"x") * (480 << 20)
        """,
            "held 480 MiB",
        ),
    ),
    _of_memory(
        name="memory-of-mappings",
        tries="to take it as many small mappings, past the allocator",
        signs={"ENOMEM": (Layer.RESOURCE_LIMITS,), "EPERM": (Layer.SECCOMP,)},
        code="""
        import mmap
        held_ = []
        try:
            for _ in range(480):
                held_.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
                for at in range(0, 1 << 20, 4096):
                    held_[-1][at] = 1
        except OSError as error:
            held(name_of(error), f"{len(held_)} MiB of mappings")
        else:
            import time
            time.sleep(1)
            through("held 480 MiB")
        """,
    ),
    _of_memory(
        name="memory-reserved-without-end",
        tries="to reserve a terabyte, and to touch half a gigabyte of it",
        signs={"ENOMEM": (Layer.RESOURCE_LIMITS,)},
        code="""
        import mmap
        try:
            area = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        except OSError as error:
            held(name_of(error), "a terabyte")
        else:
            for at in range(0, 480 << 20, 4096):
                area[at] = 1
            import time
            time.sleep(1)
            through("held 480 MiB")
        """,
    ),
    _of_memory(
        name="memory-shared-and-anonymous",
        tries="to take memory that no process has mapped any more, so that nobody is charged",
        layers=(Layer.SECCOMP, Layer.CONTROL_GROUP),
        signs={"EPERM": (Layer.SECCOMP,)},
        code="""
        import mmap
        try:
            area = mmap.mmap(-1, 300 << 20)
        except OSError as error:
            held(name_of(error), "shared and anonymous")
        else:
            for at in range(0, len(area), 4096):
                area[at] = 7
                if at % (1 << 20) == 0:
                    area.madvise(mmap.MADV_DONTNEED)
            area.madvise(mmap.MADV_DONTNEED)
            import time
            time.sleep(1)
            through("held 300 MiB that nobody saw")
        """,
    ),
    _of_trees(
        name="memory-of-many-children",
        tries="to share the work: six processes that each stay below the limit",
        code=_holding(
            """
        for _ in range(6):
            if os.fork() == 0:
                held_ = bytearray(os.urandom(1 << 20) * 60)
                import signal
                signal.pause()
        """,
            "six children held 360 MiB",
        ),
    ),
    _of_trees(
        name="memory-of-orphans",
        tries="to hide it in processes that have left their parent, their session and their name",
        signs={"EPERM": (Layer.SECCOMP,)},
        code=_holding(
            """
        for _ in range(6):
            if os.fork() == 0:
                works(os.setsid)
                if os.fork() == 0:
                    _libc.prctl(15, b") R 1 (", 0, 0, 0)
                    held_ = bytearray(os.urandom(1 << 20) * 60)
                    import signal
                    signal.pause()
                os._exit(0)
            os.wait()
        """,
            "six orphans held 360 MiB",
        ),
    ),
    _of_trees(
        name="memory-passed-from-hand-to-hand",
        tries="to hide it in processes that are gone before anybody has looked at them",
        limits=replace(SMALL, memory_bytes=128 * MIB, disk_bytes=400 * MIB, timeout_s=10.0, pids=200),
        signs={"EPERM": (Layer.SECCOMP,), "EAGAIN": (Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP)},
        code=f"""
        import struct, time
        code = bytes.fromhex("{_PASSES_ON}")
        base, size = 0x400000, 120 + len(code)
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\\x7fELF\\2\\1\\1", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        head += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
        number = os.open("pass", os.O_WRONLY | os.O_CREAT, 0o755)
        os.write(number, head + code)
        os.close(number)
        if os.uname().machine != "x86_64":
            untried("this machine has no such program")
        else:
            try:
                for _ in range(20):  # those that are looked at before it
                    if os.fork() == 0:
                        time.sleep(20)
                        os._exit(0)
                for _ in range(5):
                    if os.fork() == 0:
                        os.execv("./pass", ["pass"])
            except OSError as error:
                held(name_of(error), "fork")
            time.sleep(4)
            through("450 MiB were passed on")
        """,
    ),
    _of_trees(
        name="memory-of-a-shared-file",
        tries="to take it as a file in memory, mapped into the process",
        signs={"ENOENT": (Layer.LANDLOCK, Layer.PRIVATE_ROOT), "EACCES": (Layer.LANDLOCK,)},
        code="""
        import mmap
        try:
            number = os.open("/dev/shm/" + given["planted"], os.O_RDWR | os.O_CREAT)
        except OSError as error:
            held(name_of(error), "/dev/shm")
        else:
            os.unlink("/dev/shm/" + given["planted"])
            os.truncate(number, 300 << 20)
            area = mmap.mmap(number, 300 << 20)
            for at in range(0, len(area), 4096):
                area[at] = 1
            import time
            time.sleep(1)
            through("held 300 MiB")
        """,
    ),
    _of_trees(
        name="memory-of-page-tables",
        tries="to have the kernel spend memory on its tables: a large area read here and there",
        code=_holding(
            """
        import mmap
        span = 100 << 30
        area = mmap.mmap(-1, span, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
        area.madvise(15)
        for at in range(0, span, 2 << 20):
            area[at]
        """,
            "200 MiB of page tables",
        ),
    ),
    _of_trees(
        name="memory-of-sockets",
        tries="to fill the buffers of many sockets, which are the kernel's memory",
        signs={"EMFILE": (Layer.RESOURCE_LIMITS,)},
        code=_holding(
            """
        import signal, socket
        for _ in range(4):
            if os.fork() == 0:
                pairs = []
                for _ in range(450):
                    if not works(lambda: pairs.append(socket.socketpair())):
                        break
                    pairs[-1][0].setblocking(False)
                    works(pairs[-1][0].send, bytes(100_000))
                signal.pause()
        """,
            "four processes filled 1,800 sockets, some 300 MiB",
        ),
    ),
    _of_memory(
        name="memory-of-large-buffers",
        tries="to make the buffers of sockets and pipes larger than they are counted at",
        layers=(Layer.SECCOMP, Layer.RESOURCE_LIMITS),
        signs={"EPERM": (Layer.SECCOMP, "the kernel's own bound")},
        expected="buffers stay at their size, or at most at the kernel's own bound",
        code="""
        import fcntl, socket
        pair = socket.socketpair()[0]
        attempt("SO_SNDBUF", pair.setsockopt, socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        attempt("SO_SNDBUFFORCE", pair.setsockopt, socket.SOL_SOCKET, 32, 1 << 22)
        attempt("a pipe of 64 MiB", fcntl.fcntl, os.pipe()[0], 1031, 64 << 20)
        """,
    ),
    _resources(
        name="descriptor-bomb",
        tries="to open more files than the host has room for",
        expected="opening one more fails before ten thousand are open",
        layers=(Layer.RESOURCE_LIMITS,),
        code="""
        opened = 0
        try:
            for _ in range(10_000):
                os.open("/dev/null", os.O_RDONLY)
                opened += 1
        except OSError as error:
            held(name_of(error), f"after {opened} descriptors")
        else:
            through("10,000 descriptors")
        """,
    ),
    _resources(
        name="pipe-bomb",
        tries="to fill thousands of pipes",
        expected="it is refused before they hold twice the limit",
        layers=(Layer.RESOURCE_LIMITS, Layer.CONTROL_GROUP),
        limits=replace(SMALL, memory_bytes=128 * MIB),
        ends=_MEMORY_ENDS,
        code="""
        filled = 0
        try:
            for _ in range(4_096):
                _, end = os.pipe()
                os.set_blocking(end, False)
                filled += os.write(end, bytes(1 << 16))
        except OSError as error:
            expect(filled < 256 << 20, name_of(error), f"{filled >> 20} MiB in pipes")
        else:
            through(f"{filled >> 20} MiB in pipes")
        """,
    ),
    _resources(
        name="locked-memory",
        tries="to lock memory, so that the host cannot swap it out",
        expected="no more than some megabytes are locked",
        layers=(Layer.RESOURCE_LIMITS, Layer.SECCOMP),
        signs={
            "ENOMEM": (Layer.RESOURCE_LIMITS,),
            "EPERM": (Layer.RESOURCE_LIMITS, Layer.SECCOMP),
            "EAGAIN": (Layer.RESOURCE_LIMITS,),
        },
        code="""
        import mmap
        area = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for name, arguments in {"mlock": (address, 32 << 20), "mlock2": (address, 32 << 20, 1), "mlockall": (3,)}.items():
            returned, error = call(name, *arguments)
            say("held" if error else "got through", error, name, [name, list(arguments)])
        """,
    ),
    _of_disk(
        name="disk-bomb",
        tries="to write more than the disk's size, into every folder that can be written",
        code="""
        import tempfile
        written = 0
        for folder in (".", tempfile.gettempdir(), "/dev/shm"):
            try:
                with open(f"{folder}/{given['planted']}", "wb") as file:
                    for _ in range(32):
                        file.write(b"x" * (1 << 20))
                        file.flush()
                        written += 1
            except OSError as error:
                held(name_of(error), f"{written} MiB written")
        import time
        time.sleep(1)
        expect(written <= 17, "ENOSPC", f"{written} MiB on a disk of 16")
        """,
        signs={"EACCES": (Layer.LANDLOCK,), "ENOENT": (Layer.PRIVATE_ROOT,)},
    ),
    _of_disk(
        name="disk-of-deleted-files",
        tries="to fill the disk with files that have no name any more",
        code="""
        opened = []
        try:
            for number in range(64):
                opened.append(open(f"f{number}", "wb", buffering=0))
                os.unlink(f"f{number}")
                opened[-1].write(b"x" * (1 << 20))
        except OSError as error:
            held(name_of(error), f"after {len(opened)} MiB")
        else:
            import time
            time.sleep(1)
            through("64 MiB in deleted files")
        """,
    ),
    _of_disk(
        name="disk-of-files-too-deep-to-name",
        tries="to fill it with files that were deleted from folders so deep that the kernel has no name for them",
        code=_FILLING.format(
            before="""
        home = os.getcwd()
        def opened():
            folders = [chr(97 + number) * 250 for number in range(18)]
            for folder in folders:
                os.mkdir(folder)
                os.chdir(folder)
            number = os.open("f", os.O_RDWR | os.O_CREAT)
            os.unlink("f")
            for folder in reversed(folders):
                os.chdir("..")
                os.rmdir(folder)
            return number
        """
        ),
    ),
    _of_disk(
        name="disk-of-a-program-that-nobody-may-read",
        tries="to hide deleted files in a program whose descriptors nobody is shown",
        signs={"EPERM": (Layer.SECCOMP,), "ENOENT": ("there is no such program",)},
        code=_FILLING.format(
            before="""
        import subprocess
        try:
            number = os.open("s", os.O_WRONLY | os.O_CREAT, 0o111)
            os.write(number, open("/bin/sleep", "rb").read())
            os.close(number)
        except OSError as error:
            held(name_of(error), "making it")
        kept = []
        def opened():
            number = os.open("f", os.O_RDWR | os.O_CREAT)
            os.unlink("f")
            kept.append(subprocess.Popen(["./s", "20"], pass_fds=[number]) if not kept else None)
            return number
        """
        ),
    ),
    _of_disk(
        name="disk-behind-a-dead-main-thread",
        tries="to hold deleted files in a process whose first thread has ended, so that /proc shows nothing of it",
        code="""
        import threading, time
        def hold():
            time.sleep(0.2)
            kept = []
            for number in range(64):
                kept.append(os.open(f"f{number}", os.O_RDWR | os.O_CREAT))
                os.unlink(f"f{number}")
                try:
                    os.write(kept[-1], b"x" * (1 << 20))
                except OSError:
                    break
            time.sleep(20)
        if os.fork() == 0:
            threading.Thread(target=hold, daemon=True).start()
            call("exit", 0)
        time.sleep(2)
        written = os.statvfs(".").f_blocks * os.statvfs(".").f_frsize
        expect(written == 16 << 20, "ENOSPC", "64 MiB in deleted files")
        """,
    ),
    _of_disk(
        name="folders-swapped-while-they-are-measured",
        tries="to lead whoever measures the disk out of it, by links in the place of folders, and to write meanwhile",
        limits=replace(SMALL, disk_bytes=16 * MIB, inodes=600, timeout_s=10.0),
        code="""
        import threading, time
        os.mkdir("p"); os.mkdir("q")
        for number in range(100):
            os.mkdir(f"p/{number}")
            os.symlink("/usr/lib", f"q/{number}")
        def swap():
            while True:
                for one, other in (("p", "t"), ("q", "p"), ("t", "q")):
                    os.rename(one, other)
        threading.Thread(target=swap, daemon=True).start()
        written = 0
        try:
            for number in range(32):
                with open(f"big{number}", "wb", buffering=0) as file:
                    file.write(b"x" * (1 << 20))
                written += 1
                time.sleep(0.02)
        except OSError as error:
            held(name_of(error), f"{written} MiB written")
        else:
            time.sleep(2)
            through("32 MiB on a disk of 16")
        """,
    ),
    _of_disk(
        name="inode-bomb",
        tries="to make files, folders and links without end",
        code="""
        made = 0
        try:
            for number in range(2_000):
                os.mkdir(f"d{number}") if number % 3 else os.symlink("x", f"l{number}")
                made += 1
        except OSError as error:
            held(name_of(error), f"after {made}")
        else:
            import time
            time.sleep(1)
            through("2,000 folders and links where 300 are allowed")
        """,
    ),
    _of_disk(
        name="attribute-bomb",
        tries="to store data in extended attributes, past the size of the disk",
        layers=(Layer.SECCOMP, Layer.MOUNT_NAMESPACE),
        signs={"ENOTSUP": (Layer.SECCOMP, "the file system"), "ENOSPC": (Layer.MOUNT_NAMESPACE, "the file system")},
        code="""
        open("x", "w").close()
        def fill():
            for number in range(6_000):
                os.setxattr("x", f"user.{number}", b"x" * 4096)
        attempt("24 MiB of attributes", fill)
        """,
    ),
    _resources(
        name="terabyte-of-nothing",
        tries="to make a file of a terabyte that holds nothing, for whoever reads it",
        expected="it is refused, or not taken out",
        layers=(Layer.RESOURCE_LIMITS,),
        code="""
        number = os.open("sparse", os.O_RDWR | os.O_CREAT)
        attempt("truncate", os.truncate, number, 1 << 40)
        attempt("a byte at its end", os.pwrite, number, b"x", 1 << 40)
        attempt("fallocate", os.posix_fallocate, number, 0, 1 << 40)
        """,
    ),
    _resources(
        name="core-dump",
        tries="to have the kernel write its memory to the host's disk, or feed it to a program there (core_pattern)",
        expected="no core is dumped",
        layers=(Layer.RESOURCE_LIMITS,),
        signs={"0": (Layer.RESOURCE_LIMITS,), "ValueError": (Layer.RESOURCE_LIMITS,)},
        code="""
        import resource
        works(resource.setrlimit, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        expect(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), "0", f"RLIMIT_CORE {resource.getrlimit(resource.RLIMIT_CORE)}")
        if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):  # nothing is tried that would work
            child = os.fork()
            if child == 0:
                os.abort()
            _, status = os.waitpid(child, 0)
            expect(not os.WCOREDUMP(status), "0", "a core was dumped")
        """,
    ),
    _resources(
        name="time-without-end",
        tries="to compute for ever, deaf to every signal and exception",
        expected="it is killed at the timeout",
        limits=replace(SMALL, timeout_s=0.5),
        ends=frozenset({"timeout"}),
        code="""
        import signal, time
        for number in range(1, 65):
            works(signal.signal, number, signal.SIG_IGN)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            try:
                while time.monotonic() < until:
                    pass
            except BaseException:
                pass
        through("six seconds where half a second is allowed")
        """,
    ),
    _resources(
        name="time-in-stopped-children",
        tries="to stop itself and its children, and to be waited for",
        expected="it is killed at the timeout",
        limits=replace(SMALL, timeout_s=0.5),
        ends=frozenset({"timeout"}),
        code="""
        import signal
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.waitpid(child, 0)
        """,
    ),
    _resources(
        name="lock-bomb",
        tries="to have the kernel remember a hundred thousand locks on files",
        expected="the sandbox ends them, and the server goes on",
        layers=(Layer.CONTROL_GROUP, Layer.RESOURCE_LIMITS),
        ends=frozenset({"out_of_memory", "timeout"}),
        limits=replace(SMALL, timeout_s=2.0),
        signs={"bounded": ("the end of the sandbox",), "ENOLCK": (Layer.RESOURCE_LIMITS,)},
        code="""
        import fcntl
        with open("locked", "wb") as file:
            try:
                for at in range(0, 200_000, 2):
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            except OSError as error:
                held(name_of(error), f"{at // 2} locks")
            else:
                expect(os.fstat(file.fileno()).st_size == 0, "bounded", "100,000 locks, some 20 MiB of the kernel's")
        """,
    ),
)
