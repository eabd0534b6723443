"""Which of the kernel's calls guests may make, and with which arguments: an allow-list, as values.  Pure.

What stands in no table here is refused.  Each group says who needs it; `scripts/trace_calls.py` shows what the data
environment makes use of, and it was drawn up from that and from what libc, coreutils and CPython's `os` call.

A refusal is EPERM.  It is ENOSYS where libraries try a call and do without it when the kernel has none, and for calls
that this table does not know; EACCES for the network and EOPNOTSUPP for extended attributes, which is what programs
expect to be told of them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bichat.sandbox.isolation.calls import NUMBERS

#: AUDIT_ARCH_* by machine.
ARCHITECTURES: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
COLUMN: Final = {"x86_64": 0, "aarch64": 1}

_AF_UNIX: Final = 1
_SOL_SOCKET: Final = 1
_LOW_HALF: Final = 0xFFFF_FFFF


class OneOf(NamedTuple):
    """The argument is one of these.  Only its low half counts: the kernel takes those looked at here as 32 bits."""

    argument: int
    values: tuple[int, ...]

    def holds(self, value: int) -> bool:
        """Whether `value` passes."""
        return value & _LOW_HALF in self.values


class Without(NamedTuple):
    """The argument has none of these bits.  As above, of its low half."""

    argument: int
    bits: int

    def holds(self, value: int) -> bool:
        """Whether `value` passes."""
        return not value & self.bits & _LOW_HALF


class NotBoth(NamedTuple):
    """The argument has at most one of these two bits.  As above, of its low half."""

    argument: int
    first: int
    second: int

    def holds(self, value: int) -> bool:
        """Whether `value` passes."""
        return not (value & self.first and value & self.second)


class Needs(NamedTuple):
    """If the argument has `bit`, it has one of `others` too.  As above, of its low half."""

    argument: int
    bit: int
    others: int

    def holds(self, value: int) -> bool:
        """Whether `value` passes."""
        return not value & self.bit or bool(value & self.others)


class NeedsIn(NamedTuple):
    """If the argument has one of `bits`, the argument number `other` has one of `others`.  As above, of their low halves."""

    argument: int
    bits: int
    other: int
    others: int

    def holds(self, value: int, other: int) -> bool:
        """Whether these two pass."""
        return not value & self.bits or bool(other & self.others)


Condition = OneOf | Without | NotBoth | Needs | NeedsIn


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a call: allowed if it has conditions and all hold, else refused with `error`; 0 means allowed."""

    error: int
    conditions: tuple[Condition, ...] = ()
    is_pretended: bool = False
    """Whether it is answered as if it had been done, and is not."""

    def answer(self, arguments: Sequence[int]) -> int:
        """The errno that a call with these six arguments gets; 0 if the kernel is asked."""
        held = [_holds(condition, arguments) for condition in self.conditions]
        return 0 if held and all(held) else self.error


def _holds(condition: Condition, arguments: Sequence[int]) -> bool:
    value = arguments[condition.argument]
    if isinstance(condition, NeedsIn):
        return condition.holds(value, arguments[condition.other])
    return condition.holds(value)


ALLOW: Final = Rule(0)
REFUSE: Final = Rule(errno.EPERM)
MISSING: Final = Rule(errno.ENOSYS)
#: The caller hears that it went well, and nothing has changed.
PRETEND: Final = Rule(0, is_pretended=True)
_NO_NETWORK: Final = Rule(errno.EACCES)
_NOT_SUPPORTED: Final = Rule(errno.EOPNOTSUPP)

#: Calls that are allowed whatever their arguments, by what they are for.
ALLOWED: Final[dict[str, str]] = {
    # Every program: CPython, the shell, coreutils.  statx: polars, duckdb, altair; fadvise64: pyarrow; statfs: joblib.
    "open and read files": """
        open openat openat2 creat close read pread64 readv preadv preadv2 lseek stat fstat lstat newfstatat
        statx access faccessat faccessat2 readlink readlinkat getdents getdents64 statfs fstatfs getcwd chdir fchdir
        umask dup dup2 dup3 fadvise64 readahead flock
    """,
    # CPython, shells, coreutils.  pwrite64, fsync and fdatasync: SQLite and duckdb; link: multiprocessing's semaphores;
    # utimensat: shutil, xlsxwriter, polars; fallocate, sendfile and copy_file_range: shutil and coreutils.
    "write files": """
        write pwrite64 writev pwritev pwritev2 sendfile copy_file_range truncate ftruncate fallocate fsync fdatasync
        rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir chmod fchmod
        fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
    """,
    # shutil.copystat and `cp -a` read them all to copy them; where writing them fails they go on.
    "read extended attributes": """
        getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    """,
    # malloc and numpy.  mbind: arrays of scikit-learn, sympy, polars; pkey_*: V8 in altair's images; mlock: OpenSSL.
    # Bounded by RLIMIT_DATA, the watchdog and RLIMIT_MEMLOCK.
    "memory": """
        brk munmap mprotect mremap msync mincore mlock mlock2 munlock mbind get_mempolicy set_mempolicy pkey_alloc
        pkey_free pkey_mprotect
    """,
    # subprocess, multiprocessing, joblib, IPython's `!`.  Threads of scikit-learn, polars, duckdb, pyarrow and V8, which
    # ask for the number of processors (sched_getaffinity); sched_yield: polars, duckdb, altair.
    "processes and threads": """
        fork vfork execve execveat exit exit_group wait4 waitid set_tid_address set_robust_list futex rseq
        restart_syscall sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr
        sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority ioprio_get getcpu getrlimit
        setrlimit getrusage times
    """,
    # Those that can be seen are the sandbox's own.
    "signals": """
        kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
        rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack pause alarm pidfd_open pidfd_send_signal
    """,
    # Job control of shells, and what `os` tells; nothing here changes a user.
    "who we are": """
        getpid getppid gettid getpgrp getpgid setpgid getsid setsid getuid geteuid getgid getegid getresuid getresgid
        getgroups capget
    """,
    # asyncio, subprocess, selectors.  epoll_* and eventfd2: polars and altair (tokio), joblib.
    "waiting": """
        select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
        eventfd2 signalfd signalfd4 pipe pipe2
    """,
    # CPython's `time` and `signal`, joblib, coreutils' `timeout`; most of it never gets as far as the kernel (vdso).
    "time": """
        nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time getitimer setitimer timer_create
        timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
    """,
    # Pairs that asyncio and multiprocessing make, and our own channel.
    "sockets that are there": """
        shutdown getsockname getpeername
    """,
    # platform, hash secrets and seeds; sysinfo: duckdb and joblib, by sysconf.
    "the machine": """
        uname sysinfo getrandom
    """,
    # The kernel's own trampolines make these in a program that the operator traces; from elsewhere they are SIGILL.
    "tracing by the operator": """
        uretprobe uprobe
    """,
}

#: Calls that libc or a library tries, and does without where the kernel has none.  `clone3` reads its flags from
#: memory, where a filter cannot look; libc falls back to `clone`.
NOT_THERE: Final = """
    clone3 futex_waitv futex_wake futex_wait futex_requeue membarrier mseal map_shadow_stack
    set_mempolicy_home_node remap_file_pages splice tee sync_file_range cachestat
    seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    lsm_get_self_attr lsm_list_modules setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr
    set_thread_area get_thread_area
    _sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg putpmsg query_module security
    tuxcall vserver sysfs ustat
"""
#: `cp -p` copies access lists so, and takes no other refusal for an answer.
_WRITING_ATTRIBUTES: Final = "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"
_NETWORK: Final = "socket bind connect listen accept accept4 recvmmsg"

# Everything but threads, vfork and what belongs to them.  In the way stand new namespaces; PARENT, whose child would
# be the zygote's: reaped by it, and out of the watchdog's sight; PTRACE and UNTRACED.
_CLONE_REFUSED: Final = 0x7E82_A000
#: A thread whose files are not its process's has them where nobody looks; and memory that processes share without
#: being threads, or waiting for one another, goes from one to the next and is never seen.
_CLONE_THREAD: Final = 0x1_0000
_CLONE_FILES: Final = 0x400
_CLONE_VM: Final = 0x100
_CLONE_VFORK: Final = 0x4000
_CLOSE_RANGE_UNSHARE: Final = 0x2
_MAP_SHARED: Final = 0x01
_MAP_ANONYMOUS: Final = 0x20
_MAP_HUGETLB: Final = 0x4_0000
#: All but MERGEABLE and UNMERGEABLE (pages shared with others tell by their timing what those hold), PAGEOUT and COLD
#: (memory that is on its way out of sight), COLLAPSE, and poisoning.
_MADVISE: Final = (0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23, 24, 102, 103)
#: Duplicates, flags, locks of both kinds, pipe sizes, seals as a question.  Whoever opens a file that somebody has a
#: lease on waits for that, in other sandboxes and in the server too; notices tell what others read; owners of
#: descriptors are sent signals.
_FCNTL: Final = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1025, 1030, 1031, 1032, 1034)
#: Of terminals: get and set modes, groups and sizes, bytes waiting.  Of descriptors: close-on-exec, non-blocking.
#: Nothing types into a terminal (TIOCSTI, TIOCLINUX), and no file system or network interface is asked for more.
_IOCTL: Final = (
    *(0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540B, 0x540F, 0x5410, 0x5411, 0x5413, 0x5414, 0x5429),
    *(0x802C_542A, 0x402C_542B, 0x402C_542C, 0x402C_542D),  # the same of newer libc's
    *(0x541B, 0x5421, 0x5450, 0x5451),
)
#: Names, death signals, timer slack, no_new_privs, huge pages off, and questions; the name of a mapping (0x53564D41).
#: Not: filters of one's own, memory maps, tracers, merging of pages, dispatch of calls; nor undumpability, which keeps
#: the watchdog of a server without root from looking.
_PRCTL: Final = (1, 2, 3, 15, 16, 21, 23, 29, 30, 37, 38, 39, 41, 42, 51, 56, 64, 0x5356_4D41)
_SET_DEATH_SIGNAL: Final = 1
#: Thread-local storage, shadow stacks, and AMX tiles, which linear algebra uses where the processor has them.
_ARCH_PRCTL: Final = (0x1001, 0x1002, 0x1003, 0x1004, 0x1021, 0x1022, 0x1023, 0x3001, 0x5001, 0x5002, 0x5005)
#: Not SO_SNDBUF (7) and SO_SNDBUFFORCE (32): the watchdog counts a socket at its default buffer.  Not SO_PASSPIDFD
#: (76) and SO_PEERPIDFD (77): nobody is given a handle on the process at the other end.  No programs (26, 27, 50, 51).
_SET_SOCKET: Final = (2, 8, 9, 13, 15, 16, 18, 20, 21, 66, 67)
_GET_SOCKET: Final = (2, 3, 4, 7, 8, 9, 13, 15, 16, 17, 18, 19, 20, 21, 30, 38, 39, 66, 67)
#: No urgent data (OOB), whose code for AF_UNIX has let programs out of sandboxes (CVE-2025-38236), and which nobody
#: uses there; no zero copy, no fast open.
_MESSAGE_REFUSED: Final = 0x2400_0001
#: No device, socket or folder: regular files and FIFOs.
_NO_SPECIAL_FILE: Final = 0x6000
_OWN: Final = (0,)

#: Calls that are allowed with these arguments only.
CHECKED: Final[dict[str, Rule]] = {
    "clone": Rule(
        errno.EPERM,
        (
            Without(0, _CLONE_REFUSED),
            Needs(0, _CLONE_THREAD, _CLONE_FILES),
            Needs(0, _CLONE_VM, _CLONE_THREAD | _CLONE_VFORK),
        ),
    ),
    "close_range": Rule(errno.EPERM, (Without(2, _CLOSE_RANGE_UNSHARE),)),
    # Pages of a shared anonymous mapping stay when nobody has them mapped any more, and then nothing shows them.
    # `/dev/shm` is what shares memory here: it counts as disk.  Huge pages of the host's pool are everybody's.
    "mmap": Rule(errno.EPERM, (NotBoth(3, _MAP_SHARED, _MAP_ANONYMOUS), Without(3, _MAP_HUGETLB))),
    "madvise": Rule(errno.EPERM, (OneOf(2, _MADVISE),)),
    "fcntl": Rule(errno.EPERM, (OneOf(1, _FCNTL),)),
    "ioctl": Rule(errno.EPERM, (OneOf(1, _IOCTL),)),
    "prctl": Rule(errno.EPERM, (OneOf(0, _PRCTL),)),
    "arch_prctl": Rule(errno.EPERM, (OneOf(0, _ARCH_PRCTL),)),
    "socketpair": Rule(errno.EACCES, (OneOf(0, (_AF_UNIX,)),)),
    # To the other end, not to a name.
    "sendto": Rule(errno.EACCES, (OneOf(5, (0,)), Without(3, _MESSAGE_REFUSED))),
    "recvfrom": Rule(errno.EACCES, (Without(3, _MESSAGE_REFUSED),)),
    "recvmsg": Rule(errno.EACCES, (Without(2, _MESSAGE_REFUSED),)),
    "setsockopt": Rule(errno.EPERM, (OneOf(1, (_SOL_SOCKET,)), OneOf(2, _SET_SOCKET))),
    "getsockopt": Rule(errno.EPERM, (OneOf(1, (_SOL_SOCKET,)), OneOf(2, _GET_SOCKET))),
    "mknod": Rule(errno.EPERM, (Without(1, _NO_SPECIAL_FILE),)),
    "mknodat": Rule(errno.EPERM, (Without(2, _NO_SPECIAL_FILE),)),
    # Of the caller alone: init has the same user.  `who` 0 of PRIO_PROCESS, and 0 of IOPRIO_WHO_PROCESS.
    "prlimit64": Rule(errno.EPERM, (OneOf(0, _OWN),)),
    "setpriority": Rule(errno.EPERM, (OneOf(0, _OWN), OneOf(1, _OWN))),
    "ioprio_set": Rule(errno.EPERM, (OneOf(0, (1,)), OneOf(1, _OWN))),
    "sched_setparam": Rule(errno.EPERM, (OneOf(0, _OWN),)),
    "sched_setscheduler": Rule(errno.EPERM, (OneOf(0, _OWN),)),
    "sched_setattr": Rule(errno.EPERM, (OneOf(0, _OWN),)),
    "get_robust_list": Rule(errno.EPERM, (OneOf(0, _OWN),)),
}


def _rules() -> dict[str, Rule]:
    groups = (
        (ALLOW, " ".join(ALLOWED.values())),
        (MISSING, NOT_THERE),
        (_NO_NETWORK, _NETWORK),
        (_NOT_SUPPORTED, _WRITING_ATTRIBUTES),
    )
    listed = {name: rule for rule, names in groups for name in names.split()}
    return {**dict.fromkeys(NUMBERS, REFUSE), **listed, **CHECKED}


#: What becomes of every call that we know.
RULES: Final[dict[str, Rule]] = _rules()


#: Where guests are processes among the host's.  Their process group is how all of them are found and killed.
_GROUPS: Final = "setsid setpgid"
#: Landlock does not hold these, and the server's own files may belong to the same user.  Whoever copies a file copies
#: its mode and times as well, and must not fail for that.
_MODES_AND_TIMES: Final = "chmod fchmod fchmodat utime utimes utimensat futimesat"
_OWNERS: Final = "chown fchown lchown fchownat"
#: By number: Landlock holds signals from ABI 6 on.
_SIGNALS: Final = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo"
_TRUNCATE: Final = 0x200
_WRITING: Final = 0x3
#: O_CREAT and the bit of O_TMPFILE; and the mode by which its owner may read it.
_CREATE: Final = 0x40_0040
_OWNER_READS: Final = 0o400
_FIFO: Final = 0x1000
_NO_FIFO: Final = 0xE000
_ANY: Final = 0xFFF


def among_others(*, landlock_abi: int, pid: int | None) -> dict[str, Rule]:
    """The rules for guests that have no namespaces: stricter where Landlock of version `landlock_abi` leaves a gap.

    `pid` is the guest's own; None where the kernel keeps its signals from others, because Landlock can or because no
    other process has its user.
    """
    changed: dict[str, Rule] = dict.fromkeys(f"{_GROUPS} {_OWNERS}".split(), REFUSE)
    changed |= dict.fromkeys(_MODES_AND_TIMES.split(), PRETEND)
    changed["fchmodat2"] = MISSING  # libc falls back to fchmodat
    # A program that may not be read is one that the watchdog is not shown: none is made.
    opening: dict[str, tuple[Condition, ...]] = {
        "open": (NeedsIn(1, _CREATE, 2, _OWNER_READS),),
        "openat": (NeedsIn(2, _CREATE, 3, _OWNER_READS),),
    }
    changed |= {"openat2": MISSING, "umask": Rule(errno.EPERM, (Without(0, _OWNER_READS),))}
    changed["creat"] = REFUSE  # libc opens
    for name, mode in (("mknod", 1), ("mknodat", 2)):
        changed[name] = Rule(errno.EPERM, (Without(mode, _NO_FIFO), Needs(mode, _ANY, _FIFO)))
    # The guest dies with the zygote: no namespace sees to it.
    changed["prctl"] = Rule(errno.EPERM, (OneOf(0, tuple(option for option in _PRCTL if option != _SET_DEATH_SIGNAL)),))
    if landlock_abi < 3:
        # It has no word about cutting files off: not by name, nor while they are opened to be read.
        changed["truncate"] = REFUSE
        opening["open"] += (Needs(1, _TRUNCATE, _WRITING),)
        opening["openat"] += (Needs(2, _TRUNCATE, _WRITING),)
    changed |= {name: Rule(errno.EPERM, conditions) for name, conditions in opening.items()}
    if pid is not None:
        changed |= dict.fromkeys(_SIGNALS.split(), Rule(errno.EPERM, (OneOf(0, (0, pid)),)))
        changed["pidfd_send_signal"] = REFUSE
    return {**RULES, **changed}


def numbered(machine: str, rules: Mapping[str, Rule]) -> dict[int, Rule]:
    """`rules` by the number that each call has on `machine`, those that it lacks left out.

    Raises:
        KeyError: another machine than x86_64 and aarch64, or a call that is in no table.
    """
    column = COLUMN[machine]
    by_number = ((NUMBERS[name][column], rule) for name, rule in rules.items())
    return {number: rule for number, rule in by_number if number is not None}


def name_of(machine: str, number: int) -> str:
    """The name of the call with this number on `machine`; `call <number>` where we know none."""
    column = COLUMN[machine]
    return next((name for name, numbers in NUMBERS.items() if numbers[column] == number), f"call {number}")
