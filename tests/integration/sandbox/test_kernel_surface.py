"""Calls into the kernel that a data analysis never makes: refused by number, each with the errno that the filter gives."""

from __future__ import annotations

import platform
import signal

import pytest

from bichat.domain import Status
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.isolation.seccomp import DENIED

MACHINE = platform.machine()
COLUMN = ("x86_64", "aarch64").index(MACHINE) if MACHINE in ("x86_64", "aarch64") else -1
pytestmark = pytest.mark.skipif(COLUMN < 0, reason=f"no system call numbers for {MACHINE} in these tests")

CLONE, CLONE3, SOCKETPAIR, IOCTL, GETPID = (
    numbers[COLUMN] for numbers in ((56, 220), (435, 435), (53, 199), (16, 29), (39, 172))
)
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


def test_every_denied_call_fails_with_eperm(run_code):
    numbers = {name: pair[COLUMN] for name, pair in DENIED.items() if pair[COLUMN] is not None}

    outcome = run_code(
        "answer({name: syscall(number, 0, 0, 0, 0, 0, 0) for name, number in numbers.items()})",
        given={"numbers": numbers},
    )

    assert outcome.answer == dict.fromkeys(numbers, "EPERM")


@pytest.mark.parametrize("flag", [flag for name, flag in NAMESPACES.items() if name != "time"])
def test_no_namespace_can_be_entered_by_clone(run_code, flag):
    outcome = run_code("answer(syscall(number, flag | 17, 0, 0, 0, 0))", given={"number": CLONE, "flag": flag})

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
    outcome = run_code("answer(syscall(number, 0, 0))", given={"number": CLONE3})

    assert outcome.answer == "ENOSYS"


@pytest.mark.parametrize("request_number", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
def test_nothing_can_be_typed_into_a_terminal(run_code, request_number):
    outcome = run_code(
        "answer([syscall(number, 1, request, 0), syscall(number, 1, request | 1 << 40, 0)])",
        given={"number": IOCTL, "request": request_number},
    )

    assert outcome.answer == ["EPERM", "EPERM"]


@on_x86_64
def test_a_call_of_the_x32_table_kills_the_process(run_code):
    outcome = run_code(f"syscall(0x40000000 + {GETPID})")

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
        given={"number": DENIED[name][COLUMN], "arguments": arguments},
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    assert outcome.answer in held


def test_without_the_filter_a_new_user_namespace_gives_no_power_over_files(run_code):
    outcome = run_code(
        """
        unshared = syscall(unshare, 0x10020000)
        answer([unshared, syscall(mount, b"x", b"/tmp", b"tmpfs", 0, 0), attempt(os.listdir, "/"), attempt(open, "/etc/x", "w")])
        """,
        given={"unshare": DENIED["unshare"][COLUMN], "mount": DENIED["mount"][COLUMN]},
        layers=ALL_LAYERS - {Layer.SECCOMP},
    )

    unshared, mounted, listed, written = outcome.answer
    assert unshared == "ok"
    assert mounted == "EPERM"  # Landlock forbids every change of mounts
    assert listed == "EACCES"
    assert written in {"EACCES", "EROFS"}
