"""From how an execution ended to its status and an error in words: pure functions over what is known."""

from __future__ import annotations

import errno
import re
import signal
from typing import Any, Final

from bichat.domain import CodeError, Limits, Status
from bichat.sandbox import wire
from bichat.sizes import format_size

#: EFBIG: one file would have been larger than the whole disk, which RLIMIT_FSIZE holds.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: How libraries that have no errno to show say it.
_NO_SPACE: Final = re.compile(r"no space|disk (?:is )?full", re.IGNORECASE)

Verdict = tuple[Status, CodeError | None]

GARBLED: Final[Verdict] = (
    Status.KILLED,
    CodeError(
        name="ProtocolError",
        message="the code wrote into the channel between the sandbox and its supervisor, and was killed",
    ),
)
ZYGOTE_DIED: Final[Verdict] = (
    Status.SESSION_LOST,
    CodeError(name="SessionLost", message="the sandbox's parent process died while the code ran"),
)
KILLED_FROM_OUTSIDE: Final[Verdict] = (
    Status.KILLED,
    CodeError(
        name="ProcessKilled",
        message="the whole sandbox was killed from outside (the host's out-of-memory killer, or somebody)",
    ),
)

RESTARTED: Final[Verdict] = (
    Status.CANCELLED,
    CodeError(name="Cancelled", message="the session was restarted while the code ran"),
)


def stopped(reason: Status, reported: Verdict, timeout_s: float) -> Verdict:
    """It was interrupted, for `reason`, and heeded that: its own account says where.  The session goes on."""
    status, error = reported
    traceback = error.traceback if error else ""
    if reason is Status.TIMEOUT:
        message = f"the code ran longer than {timeout_s:g} s and was interrupted"
        return reason, CodeError(name="Timeout", message=message, traceback=traceback)
    if error is None or error.name != "KeyboardInterrupt":
        return status, error  # it had ended by itself, or took the interrupt for what it was meant for
    return reason, CodeError(name=error.name, message="the code was interrupted by the caller", traceback=traceback)


def killed(reason: Status, limits: Limits, timeout_s: float) -> Verdict:
    """The supervisor killed it, for `reason`."""
    name, message = {
        Status.TIMEOUT: ("Timeout", f"the code ran longer than {timeout_s:g} s and was killed"),
        Status.OUT_OF_MEMORY: (
            "MemoryLimit",
            f"the code's processes together used more than {format_size(limits.memory_bytes)} of memory and were killed",
        ),
        Status.OUTPUT_LIMIT: (
            "OutputLimit",
            f"the code printed more than {format_size(limits.output_kill_bytes)} and was killed",
        ),
        Status.DISK_FULL: (
            "DiskLimit",
            f"it was killed: more than {format_size(limits.disk_bytes)} or {limits.inodes:,} files on its disk",
        ),
        Status.SESSION_LOST: ("SessionLost", "the sandbox could not be looked after any more and was killed"),
        Status.KILLED: (
            "ProcessLimit",
            f"the code had more than {limits.pids:,} processes and threads (pids), or too many to watch, and was killed",
        ),
    }.get(reason, ("Cancelled", "the code was stopped by the caller"))
    return reason, CodeError(name=name, message=message)


def exited(code: int) -> Verdict:
    """The guest's process ended without saying so: `os._exit`, exec of another program, or a signal (negative)."""
    if code == 0:
        return Status.COMPLETED, None
    if code == wire.CHANNEL_LOST_EXIT:
        message = "the code closed the connection to the program that runs it, or put something else in its place"
        return Status.ERROR, CodeError(name="ProcessExited", message=message)
    if code > 0:
        message = f"the code ended its process with exit code {code}"
        return Status.ERROR, CodeError(name="ProcessExited", message=message)
    try:
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    except ValueError:
        name = f"signal {-code}"
    return Status.KILLED, CodeError(name="ProcessKilled", message=f"the code's process was killed by {name}")


def reported(outcome: dict[str, Any], *, disk_is_full: bool) -> Verdict:
    """What the guest says of itself, with what the kernel knows better: whether its disk is full."""
    if outcome.get("status") == "completed":
        return Status.COMPLETED, None
    error = CodeError(
        name=_text(outcome, "name") or "Error", message=_text(outcome, "message"), traceback=_text(outcome, "traceback")
    )
    if outcome.get("memory") is True:
        return Status.OUT_OF_MEMORY, error
    if outcome.get("errno") in _FULL or (disk_is_full and _NO_SPACE.search(error.message)):
        return Status.DISK_FULL, error
    return Status.ERROR, error


def _text(outcome: dict[str, Any], name: str) -> str:
    """A field as valid Unicode: JSON may carry halves of surrogate pairs."""
    value = outcome.get(name)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""
