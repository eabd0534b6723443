"""Attacks on who the guest is: to become somebody else, or to be allowed more."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from bichat.attacks.attack import SMALL, Attack, Family
from bichat.sandbox.isolation.layers import Layer

_privileges = partial(
    Attack,
    family=Family.PRIVILEGES,
    layers=(Layer.NO_CAPABILITIES, Layer.NESTED_USER_NAMESPACE, Layer.SECCOMP),
    signs={
        "EPERM": (Layer.SECCOMP, Layer.NO_CAPABILITIES),
        "EINVAL": (Layer.NESTED_USER_NAMESPACE,),
        "EACCES": (Layer.SECCOMP, Layer.LANDLOCK, Layer.NO_CAPABILITIES),
        "ValueError": (Layer.NO_CAPABILITIES,),  # Python's word for EPERM of setrlimit
        "ENOSYS": (Layer.SECCOMP,),
        "none": (Layer.NO_CAPABILITIES,),
    },
)

ATTACKS: Final = (
    _privileges(
        name="become-root",
        tries="to become root: by setuid and its relatives",
        expected="the user stays who it is",
        code="""
        for name in ("setuid", "seteuid", "setgid", "setegid"):
            attempt(name, getattr(os, name), 0)
        attempt("setresuid", os.setresuid, 0, 0, 0)
        attempt("setreuid", os.setreuid, 0, 0)
        attempt("setresgid", os.setresgid, 0, 0, 0)
        """,
    ),
    _privileges(
        name="become-another-user",
        tries="to become another user of the host: the server's, nobody, the first account",
        expected="the user stays who it is",
        code="""
        for number in (1, 33, 65534, 999, 1001, 100000):
            attempt(f"setuid {number}", os.setuid, number)
            attempt(f"setgid {number}", os.setgid, number)
        """,
    ),
    _privileges(
        name="join-groups",
        tries="to join groups that may more: root, docker, disk",
        expected="the groups stay as they are",
        code="""
        attempt("setgroups", os.setgroups, [0, 6, 998])
        attempt("initgroups", os.initgroups, "root", 0)
        expect(0 not in os.getgroups(), "none", f"groups {os.getgroups()}")
        """,
    ),
    _privileges(
        name="file-system-user",
        tries="to be another user for the file system alone (setfsuid)",
        expected="the user stays who it is",
        code="""
        kernel("setfsuid", 0)
        kernel("setfsgid", 0)
        """,
    ),
    _privileges(
        name="use-capabilities",
        tries="to find a capability in any of its sets",
        expected="every set is empty; the bounding one at least of no use, for no program gives new privileges",
        layers=(Layer.NO_CAPABILITIES,),
        code="""
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            value = status_field(name)
            of_no_use = name == "CapBnd" and status_field("NoNewPrivs") == "1"
            expect(int(value or "1", 16) == 0 or of_no_use, "none", f"{name} is {value}")
        """,
    ),
    _privileges(
        name="gain-capabilities",
        tries="to give itself capabilities: capset, ambient ones, kept ones, loosened security bits",
        expected="none is gained",
        code="""
        import struct
        header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
        wanted = ctypes.create_string_buffer(struct.pack("IIIIII", 0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFF, 0xFF, 0))
        kernel("capset", header, wanted)
        kernel("prctl", 47, 2, 21, 0, 0)
        kernel("prctl", 8, 1, 0, 0, 0)
        kernel("prctl", 28, 0, 0, 0, 0)
        """,
    ),
    _privileges(
        name="gain-by-a-set-uid-program",
        tries="to run a program of its own that is set-uid, and to have it owned by root",
        expected="it runs as the same user",
        layers=(Layer.SECCOMP, Layer.MOUNT_NAMESPACE, Layer.NO_CAPABILITIES),
        signs={"same": (Layer.NO_CAPABILITIES, Layer.MOUNT_NAMESPACE), "EPERM": (Layer.SECCOMP,)},
        code="""
        import shutil
        shutil.copyfile("/bin/sh", "shell")
        os.chmod("shell", 0o700)
        works(os.chmod, "shell", 0o6755)
        try:
            os.chown("shell", 0, 0)
        except OSError as error:
            held("same", f"chown: {name_of(error)}")
        else:
            expect(os.stat("shell").st_uid == os.getuid(), "same", "chown to root")
        printed = program("./shell", "-p", "-c", "id -u; id -g").split()
        expect(printed == [str(os.getuid()), str(os.getgid())], "same", f"it runs as {printed}")
        """,
    ),
    _privileges(
        name="gain-by-a-program-of-the-host",
        tries="to have the host's set-uid programs work for it: su, sudo, mount, passwd, ping, pkexec",
        expected="none runs with another user's rights",
        layers=(Layer.NO_CAPABILITIES, Layer.PRIVATE_ROOT),
        signs={"1": (Layer.NO_CAPABILITIES,), "same": (Layer.NO_CAPABILITIES,), "absent": (Layer.PRIVATE_ROOT,)},
        code="""
        import shutil
        expect(status_field("NoNewPrivs") == "1", "1", "no_new_privs is " + status_field("NoNewPrivs"))
        for name in ("su", "sudo", "mount", "newgrp", "passwd", "chsh", "pkexec", "fusermount3"):
            path = shutil.which(name)
            if path is None or not os.stat(path).st_mode & 0o6000:
                held("absent", name)
                continue
            # The loader shows this to programs alone that run with the rights of who started them.
            os.environ["LD_SHOW_AUXV"] = "1"
            printed = program(path, "--help")
            del os.environ["LD_SHOW_AUXV"]
            shown = dict(line.split(":", 1) for line in printed.splitlines() if line.startswith("AT_"))
            own = str(os.getuid())
            is_same = shown.get("AT_SECURE", "1").strip() == "0" and shown.get("AT_EUID", "").strip() == own
            expect(is_same or "denied" in printed, "same", f"{name} ran with other rights than ours: {printed[:80]!r}")
        """,
    ),
    _privileges(
        name="gain-by-file-capabilities",
        tries="to give a program of its own capabilities (security.capability)",
        expected="none is written",
        signs={"ENOTSUP": (Layer.SECCOMP, "the file system"), "EPERM": (Layer.SECCOMP, Layer.NO_CAPABILITIES)},
        code="""
        open("program", "w").close()
        value = b"\\x01\\0\\0\\x02" + b"\\xff" * 16
        attempt("setxattr", os.setxattr, "program", "security.capability", value)
        """,
    ),
    _privileges(
        name="gain-in-a-new-user-namespace",
        tries="to be root in a user namespace of its own, and from there to mount and to open the network",
        expected="no such namespace is made",
        layers=(Layer.SECCOMP,),
        signs={"EPERM": (Layer.LANDLOCK, Layer.NO_CAPABILITIES), "EACCES": (Layer.LANDLOCK,)},
        code="""
        if kernel("unshare", 0x10020000) == 0:
            for name in ("setgroups", "uid_map", "gid_map"):
                value = "deny" if name == "setgroups" else f"0 {os.getuid()} 1"
                works(lambda: open(f"/proc/self/{name}", "w").write(value))
            kernel("mount", b"none\\0", b"/tmp\\0", b"tmpfs\\0", 0, None)
        """,
    ),
    _privileges(
        name="raise-priority",
        tries="to run before everybody: lower nice, real-time scheduling, deadlines, first in input and output",
        expected="priority stays or falls",
        signs={
            "EPERM": (Layer.NO_CAPABILITIES, Layer.SECCOMP),
            "EACCES": (Layer.NO_CAPABILITIES,),
        },
        code="""
        import struct
        attempt("nice", os.nice, -5)
        attempt("SCHED_FIFO", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
        attempt("SCHED_RR", os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(1))
        deadline = ctypes.create_string_buffer(struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 10**7, 3 * 10**7, 3 * 10**7))
        kernel("sched_setattr", 0, deadline, 0)
        kernel("ioprio_set", 1, 0, 1 << 13)
        """,
    ),
    _privileges(
        name="raise-limits",
        tries="to raise its own hard limits: memory, processes, file size, descriptors, locked memory",
        expected="hard limits stay or fall",
        layers=(Layer.RESOURCE_LIMITS, Layer.NO_CAPABILITIES),
        code="""
        import resource
        for name in ("DATA", "NPROC", "FSIZE", "NOFILE", "MEMLOCK", "CORE", "RTPRIO", "NICE", "MSGQUEUE", "SIGPENDING"):
            kind = getattr(resource, "RLIMIT_" + name, None)
            if kind is None or resource.getrlimit(kind)[1] == resource.RLIM_INFINITY:
                continue
            attempt(name, resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        limited = [resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)]
        expect(resource.RLIM_INFINITY not in limited, "ValueError", f"hard limits are {limited}")
        """,
    ),
    _privileges(
        name="more-processors",
        tries="to run on processors that it was not given",
        limits=replace(SMALL, cpus=1),
        expected="it runs on those that it was given",
        layers=(Layer.SECCOMP,),
        signs={"EPERM": (Layer.SECCOMP,), "same": (Layer.SECCOMP,)},
        code="""
        before = os.sched_getaffinity(0)
        if os.cpu_count() == 1:
            untried("this host has one processor")
        works(os.sched_setaffinity, 0, range(1024))
        expect(len(before) == 1 and os.sched_getaffinity(0) == before, "same", f"{before} became {os.sched_getaffinity(0)}")
        """,
    ),
)
