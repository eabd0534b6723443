"""What to do about a call that the filter refused, in words.  Pure."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from bichat.sandbox.isolation.policy import CHECKED, MISSING, RULES

#: Calls whose first argument says what was wanted, beside those that the policy checks.
_FIRST_ARGUMENT: Final = frozenset({"unshare", "keyctl", "personality", "bpf", "seccomp"})
_FAMILIES: Final = {family.value: family.name for family in socket.AddressFamily}

_NO_NETWORK: Final = (
    "There is no network in a sandbox. Put the data in as files (--file), or install packages with `bichat env build`."
)
_OWN: Final = "Limits and priorities can be changed of the calling process alone: pass 0, not a pid."
_FALLBACK: Final = "Nothing: whoever makes this call does without it. If something failed, the cause is another line."
_SHARED: Final = (
    "Share memory by multiprocessing.shared_memory or a file in /dev/shm, which count as disk; "
    "multiprocessing's Value, Array and Queue do so by themselves."
)
_WORDS: Final[dict[str, str]] = {
    "socket bind connect listen accept accept4 recvmmsg sendto": _NO_NETWORK,
    "socketpair": "Only pairs of AF_UNIX sockets are made: call socket.socketpair() without a family.",
    "recvfrom recvmsg": "Receive without MSG_OOB: there is no urgent data between two ends of a pair.",
    "sendmsg sendmmsg": "Send with send(); descriptors cannot be passed on. Pass data through pipes, queues or files.",
    "setsockopt getsockopt": "Leave the option as it is: buffers to send from are of a fixed size, and others tell of the peer.",
    "mmap": _SHARED,
    "memfd_create memfd_secret": "Use a file in /tmp or /dev/shm (tempfile.TemporaryFile): it counts as disk.",
    "shmget shmat shmctl shmdt": _SHARED,
    "semget semop semctl semtimedop msgget msgsnd msgrcv msgctl": (
        "Use multiprocessing's Lock, Semaphore and Queue: System V objects are not to be had."
    ),
    "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr": "Use multiprocessing's Queue.",
    "clone": "Start processes with subprocess or multiprocessing; new namespaces are not to be had.",
    "unshare setns": "New namespaces are not to be had; the sandbox is one already.",
    "mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount mount_setattr": (
        "File systems stay as they are. Work in /mnt/data, /tmp and /dev/shm."
    ),
    "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp get_robust_list": (
        "Processes cannot be debugged or read here. Use traceback, faulthandler or pdb in the process itself."
    ),
    "perf_event_open bpf": "Hardware counters and kernel tracing are not to be had: measure with time and cProfile.",
    "inotify_init inotify_init1 inotify_add_watch fanotify_init fanotify_mark": (
        "Files cannot be watched: look at them again, or have the one that writes tell the one that reads."
    ),
    "io_setup io_submit io_getevents io_uring_setup io_uring_enter io_uring_register": (
        "Read and write as usual or in threads: queues of work in the kernel are not to be had."
    ),
    "sched_setaffinity": "Nothing: the sandbox is bound to its processors already; their number is a limit (cpus).",
    "prlimit64 setpriority ioprio_set sched_setparam sched_setscheduler sched_setattr": _OWN,
    "setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset": (
        "There is one user in a sandbox, without privileges: leave the call out."
    ),
    "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr": (
        "Nothing in most cases: copying goes on without extended attributes."
    ),
    "setsid setpgid": (
        "Leave it out (start_new_session, process_group, preexec_fn): where the host forbids namespaces, the process "
        "group is how all that a session has started is found and ended."
    ),
    "chown fchown lchown fchownat": "Leave the owner as it is: where the host forbids namespaces, files are not given away.",
    "mknod mknodat": "Only regular files and FIFOs are made; for a socket between processes use socket.socketpair().",
    "sync syncfs": "Use os.fsync on the file: what lies here is memory, and other people's disks are not flushed.",
    "fcntl": "Locks, flags and duplicates are to be had; leases, notices and owners of descriptors are not.",
    "ioctl": "Nothing in most cases: programs such as cp do without. Questions to terminals are answered.",
    "madvise": "Nothing: it is a hint. Merging pages and sending them out of sight are refused.",
    "prctl arch_prctl seccomp": "Leave it out: the process stands behind a filter already, and stays visible to the watchdog.",
    "keyctl add_key request_key": "The kernel's keyrings are not to be had: keep secrets in variables.",
    "clone3": "Nothing: libc falls back to clone by itself.",
    "personality": "The address layout stays as it is: leave it out.",
}
_BY_CALL: Final = {call: words for calls, words in _WORDS.items() for call in calls.split()}


def advice(call: str, arguments: Sequence[int]) -> str:
    """What to do about `call`, refused with these arguments."""
    if call == "socket" and arguments[0] & 0xFFFF_FFFF == socket.AF_UNIX:
        return (
            "No socket has a name here, as multiprocessing's Manager needs: use its Queue, Pipe or shared_memory, or "
            "socket.socketpair(). Programs that look for a name service so (id, ls) do without."
        )
    if call == "mmap" and arguments[3] & 0x4_0000:
        return "Nothing: libraries do without the host's huge pages; madvise with MADV_HUGEPAGE is allowed."
    if call == "sendto" and not arguments[5] & 0xFFFF_FFFF:
        return "Send without MSG_OOB and MSG_ZEROCOPY: there is no urgent data between two ends of a pair."
    known = _BY_CALL.get(call)
    if known is not None:
        return known
    if RULES.get(call, MISSING) is MISSING:
        return _FALLBACK
    return "Code needs no such call to work with data: do without it, or run that part outside of a sandbox."


def spelled(call: str, arguments: Sequence[int]) -> str:
    """The call with the arguments that decide about it: `socket(AF_INET)`, `madvise(0xc)`."""
    if call in ("socket", "socketpair"):
        family = arguments[0] & 0xFFFF_FFFF
        return f"{call}({_FAMILIES.get(family, family)})"
    places = [condition.argument for condition in CHECKED[call].conditions] if call in CHECKED else []
    places += [0] if call in _FIRST_ARGUMENT else []
    return f"{call}({', '.join(hex(arguments[place] & 0xFFFF_FFFF) for place in dict.fromkeys(places))})"
