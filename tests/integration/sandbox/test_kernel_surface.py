"""Calls into the kernel that a data analysis never makes: refused, each with the errno that the filter gives."""

from __future__ import annotations

import errno
import platform
import signal

import pytest

from bichat.domain import Status
from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.isolation.policy import RULES

MACHINE = platform.machine()
COLUMN = ("x86_64", "aarch64").index(MACHINE) if MACHINE in ("x86_64", "aarch64") else -1
pytestmark = pytest.mark.skipif(COLUMN < 0, reason=f"no system call numbers for {MACHINE} in these tests")

#: Calls by their number here.
CALLS = {name: pair[COLUMN] for name, pair in NUMBERS.items() if pair[COLUMN] is not None}
NAMESPACES = {
    "time": 0x80,
    "mount": 0x0002_0000,
    "cgroup": 0x0200_0000,
    "uts": 0x0400_0000,
    "ipc": 0x0800_0000,
    "user": 0x1000_0000,
    "pid": 0x2000_0000,
    "net": 0x4000_0000,
}
on_x86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="an entry of x86_64's kernel")


def test_every_call_that_is_not_listed_fails_with_its_errno(run_code):
    rules = {name: rule for name, rule in RULES.items() if rule.error and not rule.conditions and name in CALLS}

    outcome = run_code(
        "answer({name: syscall(number, 0, 0, 0, 0, 0, 0) for name, number in numbers.items()})",
        given={"numbers": {name: CALLS[name] for name in rules}},
    )

    assert outcome.answer == {name: errno.errorcode[rule.error] for name, rule in rules.items()}
    assert len(rules) > 100


def test_a_call_that_no_table_knows_is_said_to_be_missing(run_code):
    outcome = run_code("answer([syscall(number, 0) for number in (600, 1000, 4000)])")

    assert outcome.answer == ["ENOSYS"] * 3


def test_limits_and_priorities_of_init_stay_as_they_are(run_code):
    outcome = run_code(
        """
        import resource
        answer([
            attempt(resource.prlimit, 1, resource.RLIMIT_NOFILE, (1, 1)),
            attempt(os.setpriority, os.PRIO_PROCESS, 1, 19),
            attempt(os.setpriority, os.PRIO_USER, 0, 19),
            attempt(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0)),
            attempt(resource.setrlimit, resource.RLIMIT_CORE, (0, 0)),
            attempt(os.nice, 1),
        ])
        """
    )

    assert outcome.answer == ["EPERM", "EPERM", "EPERM", "EPERM", "ok", "ok"]


def test_sockets_have_no_names_programs_or_urgent_data(run_code):
    outcome = run_code(
        """
        import socket
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        answer([
            attempt(one.sendto, b"x", "/tmp/name"),
            attempt(one.bind, "/tmp/name"),
            attempt(one.connect, "/tmp/name"),
            attempt(one.setsockopt, socket.SOL_SOCKET, 26, bytes(16)),
            attempt(one.send, b"x", socket.MSG_OOB),
            attempt(other.recv, 1, socket.MSG_OOB),
            attempt(one.send, b"x"),
            attempt(other.recv, 1),
        ])
        """
    )

    assert outcome.answer == ["EACCES", "EACCES", "EACCES", "EPERM", "EACCES", "EACCES", "ok", "ok"]


def test_a_guest_cannot_close_itself_to_the_watchdog(run_code):
    outcome = run_code("answer(syscall(prctl, 4, 0))", given={"prctl": CALLS["prctl"]})

    assert outcome.answer == "EPERM"


def test_files_of_every_kind_but_devices_and_sockets_are_made(run_code):
    outcome = run_code(
        """
        import stat
        kinds = {"fifo": stat.S_IFIFO, "file": stat.S_IFREG, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR}
        answer({name: attempt(os.mknod, f"/tmp/{name}", kind | 0o600, 0) for name, kind in kinds.items()})
        """
    )

    assert outcome.answer == {"fifo": "ok", "file": "ok", "socket": "EPERM", "device": "EPERM"}


def test_memory_is_not_taken_from_the_hosts_pool_of_huge_pages(run_code):
    outcome = run_code("import mmap; answer(attempt(mmap.mmap, -1, 1 << 21, flags=0x40022))")

    assert outcome.answer == "EPERM"


@pytest.mark.parametrize("flag", [flag for name, flag in NAMESPACES.items() if name != "time"])
def test_no_namespace_can_be_entered_by_clone(run_code, flag):
    outcome = run_code("answer(syscall(number, flag | 17, 0, 0, 0, 0))", given={"number": CALLS["clone"], "flag": flag})

    assert outcome.answer == "EPERM"


@pytest.mark.parametrize("flag", NAMESPACES.values(), ids=NAMESPACES.keys())
def test_no_namespace_can_be_entered_by_unshare(run_code, flag):
    outcome = run_code(
        """
        answer(attempt(lambda: _libc.unshare(flag) and (_ for _ in ()).throw(OSError(ctypes.get_errno(), ""))))
        """,
        given={"flag": flag},
    )

    assert outcome.answer == "EPERM"


def test_clone3_is_said_to_be_missing_so_that_libc_falls_back(run_code):
    outcome = run_code("answer(syscall(number, 0, 0))", given={"number": CALLS["clone3"]})

    assert outcome.answer == "ENOSYS"


@pytest.mark.parametrize("request_number", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
def test_nothing_can_be_typed_into_a_terminal(run_code, request_number):
    outcome = run_code(
        "answer([syscall(number, 1, request, 0), syscall(number, 1, request | 1 << 40, 0)])",
        given={"number": CALLS["ioctl"], "request": request_number},
    )

    assert outcome.answer == ["EPERM", "EPERM"]


@on_x86_64
def test_a_call_of_the_x32_table_kills_the_process(run_code):
    outcome = run_code(f"syscall(0x40000000 + {CALLS['getpid']})")

    assert outcome.status is Status.KILLED
    assert signal.Signals.SIGSYS.name in outcome.error.message


@on_x86_64
def test_a_call_by_the_32_bit_gate_kills_the_process(run_code):
    outcome = run_code(
        r"""
        import mmap
        # mov eax, 20 (getpid in the 32 bit table); int 0x80; ret
        page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        """
    )

    assert outcome.status is Status.KILLED
    assert signal.Signals.SIGSYS.name in outcome.error.message


def test_the_filter_and_no_new_privileges_are_in_force(run_code):
    outcome = run_code("answer([status_field('Seccomp'), status_field('NoNewPrivs')])")

    assert outcome.answer == ["2", "1"]


def test_the_filter_is_inherited_by_programs(run_code):
    outcome = run_code(
        """
        import subprocess, sys
        code = "import socket; socket.socket()"
        answer(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.splitlines()[-1])
        """
    )

    assert outcome.answer == "PermissionError: [Errno 13] Permission denied"


@pytest.mark.parametrize(
    "name, arguments, held",
    [
        ("unshare", [0x1000_0000], {"ok"}),
        ("mount", [b"x", b"/tmp", b"tmpfs", 0, 0], {"EPERM"}),
        ("umount2", [b"/proc", 2], {"EPERM"}),
        ("chroot", [b"/tmp"], {"EPERM"}),
        ("pivot_root", [b".", b"."], {"EPERM"}),
        ("setns", [0, 0], {"EPERM", "EINVAL"}),
        ("bpf", [0, 0, 0], {"EPERM", "EINVAL"}),
        ("init_module", [0, 0, 0], {"EPERM", "ENOSYS"}),
        ("reboot", [0, 0, 0, 0], {"EPERM"}),
        ("open_by_handle_at", [0, 0, 0], {"EPERM", "ESTALE", "EBADF", "EINVAL", "EFAULT"}),
        ("sethostname", [b"x", 1], {"EPERM"}),
        ("keyctl", [0, -1, 0], {"ok", "EPERM", "ENOKEY", "ENOSYS"}),
        ("memfd_create", [b"x", 0], {"ok"}),
    ],
)
def test_without_the_filter_lost_privileges_hold_what_they_can(run_code, name, arguments, held):
    outcome = run_code(
        "answer(syscall(number, *arguments))",
        given={"number": CALLS[name], "arguments": arguments},
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    assert outcome.answer in held


def test_without_the_filter_a_new_user_namespace_gives_no_power_over_files(run_code):
    outcome = run_code(
        """
        unshared = syscall(unshare, 0x10020000)
        answer([unshared, syscall(mount, b"x", b"/tmp", b"tmpfs", 0, 0), attempt(os.listdir, "/"), attempt(open, "/etc/x", "w")])
        """,
        given={"unshare": CALLS["unshare"], "mount": CALLS["mount"]},
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    unshared, mounted, listed, written = outcome.answer
    assert unshared == "ok"
    assert mounted == "EPERM"  # Landlock forbids every change of mounts
    assert listed == "EACCES"
    assert written in {"EACCES", "EROFS"}
