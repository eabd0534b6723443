"""Run as guest code by `bichat doctor`: tries to pass each wall and prints, as JSON, what stopped it.

Each answer is a pair: whether the wall held, and what was seen.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable


def status_field(name: str) -> str:
    """A line of this process's status, as the kernel tells it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return line.split(":", 1)[1].strip()
    return ""


def refused(attempt: Callable[[], object]) -> tuple[bool, str]:
    """Whether the kernel refuses `attempt`."""
    try:
        attempt()
    except OSError as error:
        return True, f"refused: {error.strerror}"
    return False, "got through"


def other_processes() -> tuple[bool, str]:
    """Whether there is nobody here but us: pids start anew in a namespace; without one nobody's are shown."""
    try:
        os.listdir("/proc")
    except PermissionError:
        return True, "sees no process"
    seen = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return max(seen, default=0) < 100 and os.getpid() < 100, f"sees processes {seen}, is {os.getpid()}"


def network() -> tuple[bool, str]:
    """Whether there is no interface, or none but a loopback of our own."""
    try:
        names = [name for _, name in socket.if_nameindex()]
    except OSError as error:
        return True, f"refused: {error.strerror}"
    return names in ([], ["lo"]), f"interfaces: {', '.join(names) or 'none'}"


def foreign_variables() -> set[str]:
    """Names of variables that bichat does not set itself."""
    own = "PATH LANG LC_CTYPE HOME TMPDIR USER PYTHONDONTWRITEBYTECODE MALLOC_ARENA_MAX MPLBACKEND MPLCONFIGDIR"
    own += " OPENBLAS_NUM_THREADS OMP_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS"
    own += " JE_ARROW_MALLOC_CONF _RJEM_MALLOC_CONF MIMALLOC_ARENA_RESERVE"
    return set(os.environ) - set(own.split())


def unshare() -> None:
    """Try to make a user namespace."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x1000_0000) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


answers = {
    "private_root": refused(lambda: os.listdir("/home")),
    "read_only_root": refused(lambda: os.mkdir("/usr/lib/bichat-was-here")),
    "landlock": refused(lambda: os.listdir("/")),
    "process_namespace": other_processes(),
    "network": network(),
    "sockets": refused(lambda: socket.socket(socket.AF_INET).close()),
    "user": (os.getuid() == 1000, f"uid {os.getuid()}"),
    "capabilities": (int(status_field("CapEff") or "1", 16) == 0, f"CapEff {status_field('CapEff')}"),
    "no_new_privileges": (status_field("NoNewPrivs") == "1", f"NoNewPrivs {status_field('NoNewPrivs')}"),
    "seccomp": (status_field("Seccomp") == "2", f"mode {status_field('Seccomp')}"),
    "namespaces_inside": refused(unshare),
    "environment": (
        not foreign_variables(),
        f"{len(os.environ)} variables, {len(foreign_variables())} of them foreign",
    ),
    "descriptors": (len(os.listdir("/proc/self/fd")) <= 5, f"{len(os.listdir('/proc/self/fd')) - 1} open"),
    "signals": refused(lambda: os.kill(os.getppid(), 0)),
}
print(json.dumps(answers))
