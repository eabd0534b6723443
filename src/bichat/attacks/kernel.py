"""Attacks on the kernel's surface: calls that a data analysis never makes, and from which sandboxes have been left.

Held means that the kernel refuses to look at the call at all.  Each is made so that it would do no harm if it worked.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from bichat.attacks.attack import Attack, Family
from bichat.sandbox.isolation.layers import Layer

_kernel = partial(
    Attack,
    family=Family.KERNEL,
    expected="the kernel refuses to look at the call",
    layers=(Layer.SECCOMP,),
    signs={
        "EPERM": (Layer.NO_CAPABILITIES, "settings of this kernel"),
        "EACCES": (Layer.NO_CAPABILITIES, "settings of this kernel"),
        "ENOSYS": ("this kernel has no such call",),
        "ENOTSUP": ("this kernel has no such call",),
    },
)
_by_privilege = partial(_kernel, layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES))

#: Makes a new namespace of each kind, in a child.
_NAMESPACES: Final = """
kinds = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
         "pid": 0x20000000, "net": 0x40000000}
"""

ATTACKS: Final = (
    _kernel(
        name="io-uring",
        tries="to set up io_uring, whose calls go past the filter",
        code="""
        kernel("io_uring_setup", 8, ctypes.create_string_buffer(240))
        kernel("io_uring_register", -1, 0, 0, 0)
        kernel("io_uring_enter", -1, 0, 0, 0, 0, 0)
        """,
    ),
    _kernel(
        name="old-asynchronous-io",
        tries="to set up the older asynchronous input and output",
        code="kernel('io_setup', 8, ctypes.create_string_buffer(8))",
    ),
    _kernel(
        name="bpf",
        tries="to load a program into the kernel (bpf)",
        code="""
        attributes = ctypes.create_string_buffer(128)
        attributes[0:16] = b"\\x02\\0\\0\\0\\x04\\0\\0\\0\\x08\\0\\0\\0\\x08\\0\\0\\0"
        kernel("bpf", 0, attributes, 128)
        kernel("bpf", 5, attributes, 128)
        """,
    ),
    _kernel(
        name="userfaultfd",
        tries="to make the kernel wait for its page faults, which widens races in it",
        code="kernel('userfaultfd', 1)",
    ),
    _kernel(
        name="performance-counters",
        tries="to measure others with performance counters (perf_event_open)",
        code="""
        attributes = ctypes.create_string_buffer(b"\\x01\\0\\0\\0\\x70\\0\\0\\0", 128)
        kernel("perf_event_open", attributes, 0, -1, -1, 0)
        """,
    ),
    _kernel(
        name="keyrings",
        tries="to read and add keys, which belong to the user and so to all of its sandboxes",
        code="""
        kernel("add_key", b"user\\0", b"bichat\\0", b"x", 1, -1)
        kernel("request_key", b"user\\0", b"bichat\\0", None, 0)
        kernel("keyctl", 0, -4, 0)
        kernel("keyctl", 1, None)
        """,
    ),
    _by_privilege(
        name="mounts",
        tries="to mount a disk, bind a folder, remount the root to be written, unmount what covers the host's files",
        code="""
        kernel("mount", b"none\\0", b"/tmp\\0", b"tmpfs\\0", 0, None)
        kernel("mount", b"/\\0", b"/mnt\\0", None, 0x1000, None)
        kernel("mount", None, b"/\\0", None, 0x20 | 0x1000, None)
        kernel("umount2", b"/proc\\0", 2)
        kernel("pivot_root", b".\\0", b".\\0")
        """,
    ),
    _by_privilege(
        name="mounts-by-descriptors",
        tries="to mount by the newer calls (fsopen, open_tree, move_mount), which had holes of their own (CVE-2022-0185)",
        code="""
        kernel("fsopen", b"tmpfs\\0", 0)
        kernel("open_tree", -100, b"/\\0", 1)
        kernel("move_mount", -100, b"/tmp\\0", -100, b"/mnt\\0", 0)
        kernel("fspick", -100, b"/\\0", 0)
        kernel("mount_setattr", -100, b"/\\0", 0, ctypes.create_string_buffer(32), 32)
        kernel("statmount", None, None, 0, 0)
        """,
    ),
    _kernel(
        name="new-namespaces",
        tries="to make namespaces of its own, inside which the kernel lets it do more (unshare)",
        code=_NAMESPACES
        + """
for name, flag in kinds.items():
    if os.fork() == 0:
        kernel("unshare", flag)
        os._exit(0)
    os.wait()
""",
    ),
    _kernel(
        name="new-namespaces-by-clone",
        tries="the same by clone, and by clone3, whose flags a filter cannot see",
        code=_NAMESPACES
        + """
for name, flag in kinds.items():
    returned, error = call("clone", flag | 17, 0, 0, 0, 0)
    if returned == 0:
        os._exit(0)
    say("held" if error else "got through", error, f"clone with a new {name} namespace", ["clone", [flag | 17, 0, 0, 0, 0]])
import struct
arguments = ctypes.create_string_buffer(struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, 17, 0, 0, 0))
returned, error = call("clone3", arguments, 64)
if returned == 0:
    os._exit(0)
say("held" if error else "got through", error, "clone3 with a new user namespace", ["clone3", [0, 64]])
""",
    ),
    _by_privilege(
        name="other-namespaces",
        tries="to enter the namespaces of another process (setns)",
        signs={"EPERM": (Layer.NO_CAPABILITIES,), "ENOENT": (Layer.PRIVATE_ROOT,), "EACCES": (Layer.LANDLOCK,)},
        code="""
        for pid in ("self", 1, os.getppid()):
            for name in ("mnt", "pid", "net", "user"):
                try:
                    number = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
                except OSError as error:
                    held(name_of(error), f"opening {name} of {pid}")
                else:
                    kernel("setns", number, 0)
        kernel("setns", 0, 0)
        """,
    ),
    _by_privilege(
        name="modules-and-kernels",
        tries="to load a module into the kernel, or another kernel",
        code="""
        kernel("init_module", None, 0, b"\\0")
        kernel("finit_module", -1, b"\\0", 0)
        kernel("delete_module", b"bichat_there_is_none\\0", 0)
        kernel("kexec_load", 0, 0, None, 0)
        kernel("kexec_file_load", -1, -1, 0, None, 0)
        """,
    ),
    _by_privilege(
        name="reboot",
        tries="to reboot the host, with a number that the kernel would not take",
        code="kernel('reboot', 0, 0, 0, 0)",
    ),
    _by_privilege(
        name="clock",
        tries="to set the host's clock, to nothing",
        code="""
        kernel("settimeofday", None, None)
        kernel("clock_adjtime", 0, ctypes.create_string_buffer(256))
        """,
    ),
    _by_privilege(
        name="host-name",
        tries="to set the host's name, to what it is",
        layers=(Layer.SECCOMP, Layer.NO_CAPABILITIES, Layer.UTS_NAMESPACE),
        code="""
        name = given["host_name"].encode()
        kernel("sethostname", name, len(name))
        kernel("setdomainname", b"(none)", 6)
        """,
    ),
    _by_privilege(
        name="swap-and-accounting",
        tries="to use a file as swap, and to have the kernel write down every process",
        code="""
        open("swap", "wb").close()
        kernel("swapon", b"swap\\0", 0)
        kernel("swapoff", b"swap\\0")
        kernel("acct", b"swap\\0")
        kernel("quotactl", 0x80000700, None, 0, None)
        """,
    ),
    _by_privilege(
        name="kernel-log",
        tries="to read the kernel's log, and to silence it",
        code="""
        kernel("syslog", 3, ctypes.create_string_buffer(64), 64)
        kernel("syslog", 9, None, 0)
        """,
    ),
    _by_privilege(
        name="ports-of-the-machine",
        tries="to reach the machine's ports (iopl, ioperm)",
        code="""
        kernel("iopl", 3)
        kernel("ioperm", 0x80, 1, 1)
        """,
    ),
    _kernel(
        name="segments-and-personality",
        tries="to change how the kernel runs it: segments, address layout, old behaviour (modify_ldt, personality)",
        code="""
        kernel("modify_ldt", 0, ctypes.create_string_buffer(16), 16)
        kernel("personality", 0x0040000)
        kernel("vhangup")
        """,
    ),
    _kernel(
        name="filter-of-its-own",
        tries="to put filters of its own before ours, and to be asked about calls (seccomp, prctl)",
        code="""
        import struct
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
        program_ = ctypes.create_string_buffer(struct.pack("HL", 1, ctypes.addressof(code)))
        kernel("seccomp", 1, 0, program_)
        kernel("seccomp", 1, 8, program_)
        kernel("prctl", 22, 2, program_, 0, 0)
        """,
    ),
    _kernel(
        name="dispatch-and-tracers",
        tries="to have calls dispatched elsewhere, to be traced by others, to change the map of its memory (prctl)",
        code="""
        kernel("prctl", 59, 0, 0, 0, 0)
        kernel("prctl", 0x59616D61, -1, 0, 0, 0)
        kernel("prctl", 35, 6, 0, 0, 0)
        """,
    ),
    _kernel(
        name="memory-beside-the-limits",
        tries="to make files in memory that no limit of the disk counts (memfd_create, memfd_secret)",
        code="""
        kernel("memfd_create", b"bichat\\0", 0)
        kernel("memfd_secret", 0)
        """,
    ),
    _kernel(
        name="shared-segments-and-queues",
        tries="to make memory, semaphores and queues that outlive it and that others find by number",
        layers=(Layer.SECCOMP, Layer.IPC_NAMESPACE),
        code="""
        identifier = kernel("shmget", given["key"] + 1, 4096, 0o1600)
        if identifier >= 0:
            call("shmctl", identifier, 0, None)
        identifier = kernel("msgget", given["key"] + 1, 0o1600)
        if identifier >= 0:
            call("msgctl", identifier, 0, None)
        identifier = kernel("semget", given["key"] + 1, 1, 0o1600)
        if identifier >= 0:
            call("semctl", identifier, 0, 0, None)
        """,
    ),
    _kernel(
        name="posix-queues",
        tries="to make a message queue that others find by name",
        layers=(Layer.SECCOMP, Layer.IPC_NAMESPACE),
        code="""
        if kernel("mq_open", b"bichat-attack\\0", 0o102, 0o600, None) > 0:
            call("mq_unlink", b"bichat-attack\\0")
        """,
    ),
    _kernel(
        name="pages-into-pipes",
        tries="to move pages into pipes (splice, tee, vmsplice), by which read-only files were written (CVE-2022-0847)",
        code="""
        left, right = os.pipe()
        number = os.open(os.__file__, os.O_RDONLY)
        kernel("splice", number, None, right, None, 16, 0)
        kernel("tee", left, right, 16, 2)
        kernel("vmsplice", right, None, 0, 0)
        """,
    ),
    _kernel(
        name="memory-shared-with-others",
        tries="to have its pages merged with others', whose content shows by timing (madvise, prctl)",
        code="""
        import mmap
        area = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for advice in (12, 21, 20, 100):
            kernel("madvise", address, 1 << 16, advice)
        kernel("prctl", 67, 1, 0, 0, 0)
        """,
        signs={"EPERM": (Layer.NO_CAPABILITIES,)},
    ),
    _kernel(
        name="huge-pages-of-the-host",
        tries="to take pages from the host's pool of huge pages, which is everybody's",
        code="kernel('mmap', 0, 1 << 21, 3, 0x40022, -1, 0)",
    ),
    _kernel(
        name="handles-of-files",
        tries="to learn handles of files, by which they are opened past their folders (shocker)",
        code="""
        handle, mount = ctypes.create_string_buffer(b"\\x80\\0\\0\\0", 136), ctypes.create_string_buffer(8)
        kernel("name_to_handle_at", -100, b"/\\0", handle, mount, 0)
        """,
    ),
    _kernel(
        name="forgotten-calls",
        tries="to make calls of long ago that nobody tests any more",
        code="""
        for name in ("uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "lookup_dcookie", "remap_file_pages",
                     "create_module", "query_module", "get_kernel_syms", "vserver", "afs_syscall"):
            if name in given["calls"]:
                kernel(name, 0, 0, 0, 0, 0)
        """,
    ),
    _kernel(
        name="calls-of-tomorrow",
        tries="to make calls by numbers that no table knows",
        signs={"ENOSYS": (Layer.SECCOMP, "this kernel has no such call")},
        code="""
        for number in (471, 500, 600, 1000, 4000, 0x7FFFFFFF):
            ctypes.set_errno(0)
            returned = _libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0)
            error = errno.errorcode.get(ctypes.get_errno(), "")
            expect(returned == -1 and error in ("ENOSYS", "EPERM"), error, f"call {number} returned {returned} {error}")
        """,
    ),
    _kernel(
        name="calls-with-high-bits",
        tries="to slip past the filter with arguments whose high halves are set",
        code="""
        high = 1 << 40
        kernel("prctl", 4 | high, 0, 0, 0, 0)
        kernel("socket", 2 | high, 1 | high, 0)
        returned, error = call("clone", 0x10000000 | 17 | high, 0, 0, 0, 0)
        if returned == 0:
            os._exit(0)
        say("held" if error else "got through", error, "clone", ["clone", [0x10000000 | 17 | high, 0, 0, 0, 0]])
        """,
    ),
    _kernel(
        name="calls-of-another-table",
        tries="to call by the x32 table, whose numbers a filter may not know",
        expected="the process is killed, or the call is refused",
        ends=frozenset({"SIGSYS"}),
        signs={"SIGSYS": (Layer.SECCOMP,), "ENOSYS": ("this kernel has no such table",)},
        code="""
        if os.uname().machine != "x86_64":
            untried("this machine has no second table of calls")
        else:
            returned = _libc.syscall(ctypes.c_long(0x40000000 + given["calls"]["getpid"]))
            expect(returned == -1, "ENOSYS", f"x32 getpid returned {returned}")
        """,
    ),
    _kernel(
        name="calls-by-the-32-bit-gate",
        tries="to call by int 0x80, whose numbers mean other calls",
        expected="the process is killed, or the call is refused",
        ends=frozenset({"SIGSYS", "SIGSEGV"}),
        signs={"SIGSYS": (Layer.SECCOMP,), "SIGSEGV": ("this kernel has no such gate",)},
        code=r"""
        import mmap
        if os.uname().machine != "x86_64":
            untried("this machine has no such gate")
        else:
            # mov eax, 20 (getpid in the 32 bit table); int 0x80; ret
            page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
            page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
            returned = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
            through(f"int 0x80 returned {returned}")
        """,
    ),
    _kernel(
        name="filter-in-programs-and-threads",
        tries="to shed the filter by starting a program or a thread",
        expected="it holds in every program and thread",
        signs={"2": (Layer.SECCOMP,)},
        code="""
        import threading
        found = [status_field("Seccomp"), program(python, "-c", "import socket; socket.socket(40)").split()[-2:]]
        thread = threading.Thread(target=lambda: found.append(str(call("prctl", 21, 0, 0, 0, 0)[0])))
        thread.start()
        thread.join()
        expect(found == ["2", ["Permission", "denied"], "2"], "2", f"Seccomp is {found}")
        """,
    ),
)
