"""Run a command on a host that is not like this one: `python strange_host.py STEP... -- COMMAND ARGUMENT...`.

Mounts are made in namespaces of its own alone, so that nothing of the real host changes, and nothing has to be undone.
Nobody becomes another user by it.  Each step is a word, taken in order:

    tmpfs:PATH:BYTES   a disk of that size at PATH for 200 files, which everybody may write to
    full:PATH          a disk without room for one byte or file more at PATH
    noexec:PATH        the same of 64 MiB, from which no program can be executed
    read-only:PATH     what lies there cannot be changed
    empty:PATH         an empty folder is there that nobody can write to
    processes          pids of its own, from 1 on; `/proc` shows them
    hidepid            `/proc` shows nobody the processes of others (needs `processes`)
    umask:MODE         octal
    pid-1              the command is the first process itself, as in a container (needs `processes`)
"""

from __future__ import annotations

import os
import subprocess
import sys

from bichat.sandbox.isolation import kernel, namespaces


def main() -> None:
    separator = sys.argv.index("--")
    steps, command = sys.argv[1:separator], sys.argv[separator + 1 :]
    uid, gid = os.getuid(), os.getgid()
    own = kernel.CLONE_NEWNS | (kernel.CLONE_NEWPID if "processes" in steps else 0)
    if uid == 0:
        kernel.unshare(own)
    else:
        kernel.unshare(own | kernel.CLONE_NEWUSER)
        namespaces.map_identity(uid, uid, gid)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    if "processes" in steps:
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status) % 256)
        kernel.die_with_parent()
        _mount("proc", "/proc", "hidepid=2" if "hidepid" in steps else None)
    for step in steps:
        _take(*step.split(":"))
    if "processes" in steps and "pid-1" not in steps:
        sys.exit(subprocess.run(command, check=False).returncode % 256)
    os.execv(command[0], command)


def _take(step: str, path: str = "", size: str = "") -> None:
    match step:
        case "tmpfs":
            _mount("tmpfs", path, f"size={size},nr_inodes=200,mode=1777")
        case "full":
            _mount("tmpfs", path, "size=4k,nr_inodes=3,mode=1777")
            for name in ("byte", "file"):
                with open(os.path.join(path, name), "wb") as file:
                    file.write(bytes(4096) if name == "byte" else b"")
        case "noexec":
            _mount("tmpfs", path, "size=64m,mode=1777")
            kernel.set_mount_attributes(path, kernel.MOUNT_ATTR_NOEXEC, recursive=False)
        case "read-only":
            kernel.bind(path, path)
            kernel.set_mount_attributes(path, kernel.MOUNT_ATTR_RDONLY, recursive=True)
        case "empty":
            _mount("tmpfs", path, "size=4k,mode=555")
            kernel.set_mount_attributes(path, kernel.MOUNT_ATTR_RDONLY, recursive=False)
        case "umask":
            os.umask(int(path, 8))
        case "processes" | "hidepid" | "pid-1":
            pass
        case _:
            sys.exit(f"there is no step {step!r}")


def _mount(kind: str, path: str, options: str | None) -> None:
    kernel.mount(kind, path, kind, kernel.MS_NOSUID | kernel.MS_NODEV, options)


if __name__ == "__main__":
    main()
