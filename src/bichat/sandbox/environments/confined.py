"""Run a command behind the walls of the level `landlock`: `python confined.py HOME PREFIX... -- COMMAND ARGUMENT...`.

For trials of imports, which run what the packages of a new environment do when they are imported.  The command may
read and execute what lies below the prefixes, the system's programs and libraries, and the folder of this file; it
may write into HOME alone, reaches no network and no process outside, makes no call of the kernel that guests may not
make, and has no capability.  On a kernel that lacks one of these walls it goes without that one: packages are trusted,
and a host without Landlock can still build environments for another one.  Standard library and `isolation` only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_OWN_FOLDER = Path(__file__).resolve().parent
#: DuckDB looks there for what it may use, and aborts where it cannot.
_LIMITS = ("/sys/fs/cgroup",)


def main(arguments: list[str]) -> None:
    """Become the command, behind as many walls as there are."""
    sys.path.insert(0, str(_OWN_FOLDER.parents[2]))
    from bichat.sandbox.isolation import kernel, landlock, policy, rootfs, seccomp

    end = arguments.index("--")
    (home, *prefixes), command = arguments[:end], arguments[end + 1 :]
    abi = landlock.abi_version()
    pid = None if abi >= landlock.SCOPES_ABI else os.getpid()
    call_filter = seccomp.packed_filter(rules=policy.among_others(landlock_abi=abi, pid=pid))
    readable = (*rootfs.plan_root(tuple(prefixes)).readable_on_host, str(_OWN_FOLDER), "/proc/self/task")
    kernel.forbid_new_privileges()
    kernel.drop_capabilities()
    with contextlib.suppress(OSError):
        landlock.restrict(readable, (home, "/dev/null"), unlisted=_LIMITS)
    with contextlib.suppress(OSError):
        seccomp.install(call_filter)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
