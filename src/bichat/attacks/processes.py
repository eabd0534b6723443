"""Attacks on other processes: to signal, trace, read, slow down or outrank one."""

from __future__ import annotations

from functools import partial
from typing import Final

from bichat.attacks.attack import PROCESS_SIGNS, Attack, Family
from bichat.sandbox.isolation.layers import Layer

_ON_VICTIMS: Final = (Layer.PID_NAMESPACE, Layer.LANDLOCK, Layer.SECCOMP)
_processes = partial(Attack, family=Family.PROCESSES, signs=PROCESS_SIGNS, layers=_ON_VICTIMS)
_UNHARMED: Final = "the process goes on as it was"
#: Filter first: at the full level it refuses these whoever they are aimed at.
_by_filter = partial(Attack, family=Family.PROCESSES, signs=PROCESS_SIGNS, layers=(Layer.SECCOMP, Layer.PID_NAMESPACE))

ATTACKS: Final = (
    _processes(
        name="kill-a-process",
        tries="to kill a process of the host, of the own user if there is one",
        expected=_UNHARMED,
        code="""
        for pid in given["victims"]:
            for number in (0, 15, 9):
                attempt(f"signal {number}", os.kill, pid, number)
        """,
    ),
    _processes(
        name="stop-a-process",
        tries="to stop a process of the host",
        expected=_UNHARMED,
        code="""
        import signal
        for pid in given["victims"]:
            attempt("SIGSTOP", os.kill, pid, signal.SIGSTOP)
            attempt("SIGSTOP to its group", os.killpg, pid, signal.SIGSTOP)
        """,
    ),
    _processes(
        name="signal-the-server",
        tries="to find out whether the server could be signalled (signal 0, which does nothing)",
        expected="it cannot",
        code="attempt('the server', os.kill, given['server'], 0)",
    ),
    _processes(
        name="signal-everybody",
        tries="to find out whether anybody at all could be signalled by kill(-1) (signal 0, which does nothing)",
        expected="nobody outside the sandbox can be",
        signs={**PROCESS_SIGNS, "own": (Layer.PID_NAMESPACE, Layer.LANDLOCK)},
        code="""
        try:
            os.kill(-1, 0)
        except OSError as error:
            held(name_of(error), "kill(-1, 0)")
        else:
            # It says so too where only init of the own sandbox could be.
            reached = [pid for pid in strangers() if works(os.kill, pid, 0)]
            expect(not set(reached) & set(given["pids"]), "own", f"processes that can be signalled: {reached}")
        """,
    ),
    _processes(
        name="kill-the-own-group",
        tries="to kill the process group that it was born into, hoping that the zygote or the server is in it",
        expected="zygote and other sandboxes go on",
        signs={"SIGKILL": (Layer.OWN_PROCESS_GROUP, Layer.LANDLOCK), "EPERM": (Layer.SECCOMP, Layer.LANDLOCK)},
        layers=(Layer.OWN_PROCESS_GROUP, Layer.LANDLOCK),
        ends=frozenset({"SIGKILL"}),
        code="os.killpg(0, 9)",
    ),
    _processes(
        name="kill-the-parent",
        tries="to kill its parent and the sandbox's first process",
        expected="the sandbox reports its end as ever, and others go on",
        signs={**PROCESS_SIGNS, "ignored": (Layer.PID_NAMESPACE,)},
        code="""
        import time
        # A first process that is not the sandbox's own is asked only whether it could be signalled.
        number = 9 if os.getppid() == 0 else 0
        for pid in {1, os.getppid()} - {0}:
            try:
                os.kill(pid, number)
            except OSError as error:
                held(name_of(error), f"process {pid}")
            else:
                time.sleep(0.05)
                expect(number == 9 and works(os.kill, pid, 0), "ignored", f"process {pid} after signal {number}")
        if os.getppid() == 0:
            held("ESRCH", "there is no parent in sight")
        """,
    ),
    _processes(
        name="kill-by-handle",
        tries="to signal by a handle on the process (pidfd_open, pidfd_send_signal)",
        expected=_UNHARMED,
        code="""
        for pid in given["pids"]:
            number, error = call("pidfd_open", pid, 0)
            if error:
                held(error, "pidfd_open")
            elif pid in given["victims"]:
                _, error = call("pidfd_send_signal", number, 9, None, 0)
                expect(bool(error), error, "pidfd_send_signal")
            else:
                _, error = call("pidfd_send_signal", number, 0, None, 0)
                expect(bool(error), error, "pidfd_send_signal of nothing to the server")
        """,
    ),
    _processes(
        name="kill-by-thread-and-queue",
        tries="to signal by the other calls: tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo",
        expected=_UNHARMED,
        code="""
        information = ctypes.create_string_buffer(b"\\0" * 8 + b"\\xff\\xff\\xff\\xff", 128)
        for pid in given["victims"]:
            for name, arguments in {"tkill": (pid, 9), "tgkill": (pid, pid, 9), "rt_sigqueueinfo": (pid, 9, information),
                                    "rt_tgsigqueueinfo": (pid, pid, 9, information)}.items():
                _, error = call(name, *arguments)
                expect(bool(error), error, name)
        """,
    ),
    _processes(
        name="signal-by-a-descriptor",
        tries="to have the kernel signal a process when a descriptor is ready (F_SETOWN, O_ASYNC)",
        expected=_UNHARMED,
        layers=(Layer.SECCOMP, Layer.LANDLOCK, Layer.PID_NAMESPACE),
        code="""
        import fcntl
        left, right = os.pipe()
        for pid in given["victims"]:
            attempt("F_SETSIG", fcntl.fcntl, left, 10, 9)
            attempt("F_SETOWN", fcntl.fcntl, left, 8, pid)
        """,
        signs={**PROCESS_SIGNS, "EPERM": (Layer.SECCOMP,), "EINVAL": (Layer.PID_NAMESPACE,)},
    ),
    _by_filter(
        name="trace-a-process",
        tries="to attach to a process with ptrace",
        expected=_UNHARMED,
        code="""
        for pid in given["pids"]:
            kernel_on("ptrace", 0x4206, pid, 0, 0)  # SEIZE, which does not stop it
        for pid in given["victims"]:
            kernel_on("ptrace", 16, pid, 0, 0)
        """,
    ),
    _by_filter(
        name="read-and-write-memory-by-call",
        tries="to read and write another process's memory with process_vm_readv and process_vm_writev",
        expected="no byte is read or written",
        code="""
        import struct
        own = ctypes.create_string_buffer(64)
        local = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(own), 64))
        remote = ctypes.create_string_buffer(struct.pack("QQ", id(object), 64))
        for pid in given["pids"]:
            kernel_on("process_vm_readv", pid, local, 1, remote, 1, 0)
            if pid in given["victims"]:
                kernel_on("process_vm_writev", pid, local, 1, remote, 1, 0)
        """,
    ),
    _by_filter(
        name="take-a-descriptor",
        tries="to take a copy of another process's descriptor (pidfd_getfd)",
        expected="none is had",
        signs={**PROCESS_SIGNS, "EBADF": (Layer.PID_NAMESPACE,)},
        code="""
        for pid in given["pids"]:
            number, _ = call("pidfd_open", pid, 0)
            kernel_on("pidfd_getfd", number, 0, 0)
        """,
    ),
    _by_filter(
        name="compare-and-advise-processes",
        tries="to compare kernel objects with another process's, and to push its memory out (kcmp, process_madvise)",
        expected="the kernel refuses",
        code="""
        for pid in given["victims"]:
            kernel_on("kcmp", os.getpid(), pid, 1, 0, 0)
            number, _ = call("pidfd_open", pid, 0)
            kernel_on("process_madvise", number, None, 0, 21, 0)
            kernel_on("process_mrelease", number, 0)
        """,
    ),
    _by_filter(
        name="limits-of-a-process",
        tries="to lower another process's resource limits until it fails (prlimit)",
        expected=_UNHARMED,
        code="""
        import resource, struct
        limit = ctypes.create_string_buffer(struct.pack("QQ", 4, 4))
        for pid in (*given["victims"], os.getppid() or 1):
            if pid > 0:
                kernel_on("prlimit64", pid, resource.RLIMIT_NOFILE, limit, None)
        """,
    ),
    _by_filter(
        name="priority-of-a-process",
        tries="to slow another process down: nice, idle scheduling, input and output last",
        expected=_UNHARMED,
        code="""
        parameters = ctypes.create_string_buffer(4)
        for pid in given["victims"]:
            kernel_on("setpriority", 0, pid, 19)
            kernel_on("sched_setscheduler", pid, 5, parameters)
            kernel_on("sched_setparam", pid, parameters)
            kernel_on("ioprio_set", 1, pid, 3 << 13)
        """,
    ),
    _by_filter(
        name="priority-of-everybody-of-the-user",
        tries="to set the priority of every process of the same user, or of a whole group",
        expected="no process outside slows down",
        code="""
        # To what it is, so that nobody slows down where it works.
        kernel_on("setpriority", 2, 0, os.getpriority(os.PRIO_USER, 0))
        for pid in given["victims"]:
            kernel_on("setpriority", 1, pid, 19)
        """,
    ),
    _by_filter(
        name="processors-of-a-process",
        tries="to bind another process to one processor, and to move its memory",
        expected=_UNHARMED,
        code="""
        mask = ctypes.create_string_buffer(b"\\x01", 128)
        for pid in given["victims"]:
            kernel_on("sched_setaffinity", pid, 128, mask)
            kernel_on("migrate_pages", pid, 64, mask, mask)
            kernel_on("move_pages", pid, 0, None, None, None, 0)
        """,
    ),
    _by_filter(
        name="locks-list-of-a-process",
        tries="to read the address of another process's list of locks, which tells how its memory lies",
        expected="no address is read",
        code="""
        place = ctypes.create_string_buffer(16)
        for pid in (*given["pids"], 1):
            kernel_on("get_robust_list", pid, place, ctypes.addressof(place) + 8)
        """,
    ),
    _by_filter(
        name="groups-of-a-process",
        tries="to move another process into an own group or session, where it can be signalled",
        expected=_UNHARMED,
        code="""
        for pid in given["victims"]:
            attempt("setpgid", os.setpgid, pid, 0)
            attempt("into the own group", os.setpgid, pid, os.getpgrp())
        """,
    ),
    _by_filter(
        name="child-for-the-parent",
        tries="to give the process that forked it another child (CLONE_PARENT), outside of what is counted",
        expected="no such child is made",
        layers=(Layer.SECCOMP,),
        code="""
        returned, error = call("clone", 0x8000 | 17, 0, 0, 0, 0)
        if returned == 0:
            os._exit(0)
        say("held" if error else "got through", error, "clone with CLONE_PARENT", ["clone", [0x8000 | 17, 0, 0, 0, 0]])
        """,
    ),
    _by_filter(
        name="type-into-a-terminal",
        tries="to type into the terminal that the server was started from (TIOCSTI, TIOCLINUX)",
        expected="nothing is typed",
        signs={"EPERM": (Layer.SECCOMP,), "ENOTTY": ("no terminal is open",), "EIO": ("no terminal is open",)},
        code="""
        letter = ctypes.create_string_buffer(b"x")
        for number in descriptors():
            for request in (0x5412, 0x541C, 0x5412 | 1 << 40):
                _, error = call("ioctl", number, request, letter)
                say("held" if error else "got through", error, "ioctl", ["ioctl", [number, request, 0]])
        """,
    ),
    _by_filter(
        name="hide-from-the-watchdog",
        tries="to make itself undumpable, so that a server without root cannot look at its memory any more",
        expected="the kernel refuses",
        layers=(Layer.SECCOMP,),
        code="kernel('prctl', 4, 0, 0, 0, 0)",
    ),
)
