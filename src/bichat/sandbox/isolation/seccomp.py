"""The system call filter: a deny-list as classic BPF, built from a table by pure functions.

Foreign architectures and x32 are killed: a number means another call there.  A denied call fails with EPERM,
`clone3` with ENOSYS so that libc falls back to `clone`, whose flags a filter can read; sockets with EACCES.
Numbers: the kernel's `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bichat.sandbox.isolation import kernel

#: AUDIT_ARCH_* by machine.
ARCHITECTURES: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}

#: Denied calls: (x86_64, aarch64); None where an architecture lacks the call.
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # looking into or steering other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "sched_setaffinity": (203, 122),
    "move_pages": (279, 239),
    # mounts, roots and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "listns": (470, 470),
    # keys, tracing, loading, whole-machine state
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "personality": (135, 92),
    "lsm_set_self_attr": (460, 460),
    # files by handle, events on other people's files
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # instances are counted per host user, whom sandboxes share; and inodes are shared with other sandboxes
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    # descriptors on their way through sockets: they are counted per host user, so that one sandbox could keep all
    # others, and the server, from passing any; who sends data only has send and write
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # queues of work in the kernel
    "io_setup": (206, 0),  # counted for the whole host, fs.aio-max-nr
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # memory that neither the disk's size nor RLIMIT_DATA counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "vmsplice": (278, 75),
}
#: Calls whose arguments are looked at.
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_IOCTL: Final = (16, 29)
_MMAP: Final = (9, 222)
_SETSOCKOPT: Final = (54, 208)
_GETSOCKOPT: Final = (55, 209)
_FCNTL: Final = (72, 25)

_AF_UNIX: Final = 1
_ANY_NEW_NAMESPACE: Final = 0x7E02_0000
_CLONE_PARENT: Final = 0x8000
_MAP_SHARED: Final = 0x01
_MAP_ANONYMOUS: Final = 0x20
_SO_SNDBUF: Final = 7
_SO_SNDBUFFORCE: Final = 32
_SO_PASSPIDFD: Final = 76
_SO_PEERPIDFD: Final = 77
_F_SETLEASE: Final = 1024
_F_NOTIFY: Final = 1026
_F_SETDELEG: Final = 1040
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_X32_BIT: Final = 0x4000_0000

_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER_EQUAL: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

KILL_PROCESS: Final = 0x8000_0000
ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
#: Offsets in `struct seccomp_data`; arguments are 64 bit, little-endian, and the ones looked at fit the low half.
_OFFSET_NUMBER: Final = 0
_OFFSET_ARCHITECTURE: Final = 4
_OFFSET_ARGUMENTS: Final = 16


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    operand: int


@dataclass(frozen=True, slots=True)
class _Check:
    """What becomes of a call by the low half of one argument: `forbidden` tells which values are refused."""

    argument: int
    forbidden: tuple[Instruction, ...]
    error: int


def build_filter(machine: str, allowed: Sequence[str] = ()) -> tuple[Instruction, ...]:
    """The whole program for `machine` (`x86_64` or `aarch64`), without those of `DENIED` that are `allowed`.

    Raises:
        KeyError: another machine.
    """
    column = _COLUMN[machine]
    program = [
        _load(_OFFSET_ARCHITECTURE),
        Instruction(_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        _returning(KILL_PROCESS),
        _load(_OFFSET_NUMBER),
    ]
    if machine == "x86_64":
        program += [Instruction(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), _returning(KILL_PROCESS)]
    program += _deny(_CLONE3[column], errno.ENOSYS)
    program += _deny(_SOCKET[column], errno.EACCES)
    # A sibling of the guest would be the zygote's child: reaped by it, and out of the watchdog's sight.
    program += _when(_CLONE[column], _has_bits(0, _ANY_NEW_NAMESPACE | _CLONE_PARENT, errno.EPERM))
    program += _when(_SOCKETPAIR[column], _differs(0, _AF_UNIX, errno.EACCES))
    program += _when(_IOCTL[column], _is_one_of(1, (_TIOCSTI, _TIOCLINUX), errno.EPERM))
    # Pages of a shared anonymous mapping stay when nobody has them mapped any more, and then nothing shows them.
    # `/dev/shm` is what shares memory here: it counts as disk.
    program += _when(_MMAP[column], _has_all_bits(3, (_MAP_SHARED, _MAP_ANONYMOUS), errno.EPERM))
    # The watchdog counts a socket at its default buffer; and nobody is given a handle on the process at the other end.
    forbidden = (_SO_SNDBUF, _SO_SNDBUFFORCE, _SO_PASSPIDFD)
    program += _when(_SETSOCKOPT[column], _is_one_of(2, forbidden, errno.EPERM))
    program += _when(_GETSOCKOPT[column], _is_one_of(2, (_SO_PEERPIDFD,), errno.EPERM))
    # Whoever opens a file that somebody has a lease on waits for that, in other sandboxes and in the server too; and
    # notices tell what they read.
    program += _when(_FCNTL[column], _is_one_of(1, (_F_SETLEASE, _F_NOTIFY, _F_SETDELEG), errno.EPERM))
    for name, numbers in DENIED.items():
        number = numbers[column]
        if number is not None and name not in allowed:
            program += _deny(number, errno.EPERM)
    program.append(_returning(ALLOW))
    return tuple(program)


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _returning(action: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, action)


def _deny(number: int, error: int) -> list[Instruction]:
    return [Instruction(_JUMP_EQUAL, 0, 1, number), _returning(_ERRNO | error)]


def _has_bits(argument: int, mask: int, error: int) -> _Check:
    return _Check(argument, (Instruction(_JUMP_ANY_BIT, 0, 1, mask),), error)


def _has_all_bits(argument: int, bits: Sequence[int], error: int) -> _Check:
    tests = [Instruction(_JUMP_ANY_BIT, 0, len(bits) - at, bit) for at, bit in enumerate(bits)]
    return _Check(argument, tuple(tests), error)


def _differs(argument: int, only: int, error: int) -> _Check:
    return _Check(argument, (Instruction(_JUMP_EQUAL, 1, 0, only),), error)


def _is_one_of(argument: int, values: Sequence[int], error: int) -> _Check:
    tests = [Instruction(_JUMP_EQUAL, len(values) - 1 - at, 0, value) for at, value in enumerate(values[:-1])]
    return _Check(argument, (*tests, Instruction(_JUMP_EQUAL, 0, 1, values[-1])), error)


def _when(number: int, check: _Check) -> list[Instruction]:
    """For the call `number`: fall through its tests to a refusal, or jump over it to ALLOW."""
    body = [
        _load(_OFFSET_ARGUMENTS + 8 * check.argument),
        *check.forbidden,
        _returning(_ERRNO | check.error),
        _returning(ALLOW),
    ]
    return [Instruction(_JUMP_EQUAL, 0, len(body), number), *body]


def pack(program: Sequence[Instruction]) -> bytes:
    """The program as the array of `struct sock_filter` that the kernel takes."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(packed: bytes) -> None:
    """Put the packed filter over this process and all its children for good.  Needs no_new_privs.

    Raises:
        OSError: the kernel refused the filter.
    """
    program = _FilterProgram(len(packed) // 8, packed)
    set_mode_filter = 1
    kernel.syscall("seccomp", set_mode_filter, 0, ctypes.pointer(program))


def packed_filter(*, allowed: Sequence[str] = ()) -> bytes:
    """The packed filter of the machine we are on, without those of `DENIED` that are `allowed`.

    Raises:
        KeyError: the machine is neither x86_64 nor aarch64.
    """
    return pack(build_filter(platform.machine(), allowed))
