"""Attacks by way of /proc, /sys and the process's own memory: to learn of others, to steer the kernel."""

from __future__ import annotations

from functools import partial
from typing import Final

from bichat.attacks.attack import PATH_SIGNS, PROCESS_SIGNS, Attack, Family
from bichat.attacks.canaries import MARK
from bichat.sandbox.isolation.layers import Layer

_SIGNS: Final = {**PATH_SIGNS, "ENOENT": (Layer.PRIVATE_ROOT, Layer.PID_NAMESPACE), "ESRCH": (Layer.PID_NAMESPACE,)}
_of_processes = partial(
    Attack,
    family=Family.PROC_AND_SYS,
    signs={**PROCESS_SIGNS, "ENOENT": (Layer.PID_NAMESPACE, Layer.PRIVATE_ROOT)},
    layers=(Layer.PID_NAMESPACE, Layer.PRIVATE_ROOT, Layer.LANDLOCK),
)
_of_kernel = partial(Attack, family=Family.PROC_AND_SYS, signs=_SIGNS, layers=(Layer.PRIVATE_ROOT, Layer.LANDLOCK))
_NOT_WRITTEN: Final = "none of them can be opened to be written"

ATTACKS: Final = (
    _of_processes(
        name="environment-of-other-processes",
        tries="to read the environment variables of every process in sight, the server and its parent among them",
        expected="no variable of another process is read",
        code="""
        for pid in strangers():
            steal(f"/proc/{pid}/environ")
        """,
    ),
    _of_processes(
        name="memory-of-other-processes",
        tries="to open the memory of every process in sight",
        expected="no memory of another process is opened",
        code="""
        for pid in strangers():
            for name in ("mem", f"task/{pid}/mem", "pagemap", "clear_refs"):
                attempt(f"{name} of {pid}", lambda: os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY)))
            attempt(f"mem of {pid}, to write", lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)))
        """,
    ),
    _of_processes(
        name="maps-and-stacks-of-other-processes",
        tries="to learn where the code and data of other processes lie",
        expected="no address of another process is read",
        code="""
        for pid in strangers():
            for name in ("maps", "smaps", "numa_maps", "stack", "syscall", "auxv", "wchan"):
                try:
                    found = read(f"/proc/{pid}/{name}")
                except OSError as error:
                    held(name_of(error), name)
                else:
                    expect(found in ("", "0"), "empty", f"{name} of {pid}: {found[:60]!r}")
        """,
    ),
    _of_processes(
        name="command-lines-of-other-processes",
        tries="to list the host's processes and what they were called with, where secrets often stand",
        expected="no command line of another process is read",
        code="""
        for pid in strangers():
            for name in ("cmdline", "comm", "status", "stat", "cgroup", "mountinfo"):
                try:
                    found = read(f"/proc/{pid}/{name}")
                except OSError as error:
                    held(name_of(error), name)
                else:
                    expect(not found, "empty", f"{name} of {pid}: {found[:60]!r}")
        """,
    ),
    _of_processes(
        name="descriptors-of-other-processes",
        tries="to open what other processes have open: the server's files, sockets, pipes",
        expected="no descriptor of another process is listed or opened",
        code="""
        for pid in strangers():
            attempt(f"descriptors of {pid}", os.listdir, f"/proc/{pid}/fd")
            for number in range(3, 12):
                attempt(f"descriptor {number} of {pid}", lambda: os.close(os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)))
        """,
    ),
    _of_processes(
        name="links-of-other-processes",
        tries="to follow exe, cwd, root and the namespaces of other processes",
        expected="none of them can be followed",
        code="""
        for pid in strangers():
            for name in ("exe", "cwd", "root", "ns/mnt", "ns/pid", "ns/user", "ns/net"):
                attempt(f"{name} of {pid}", lambda: os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY)))
        """,
    ),
    Attack(
        name="variables-of-the-server",
        family=Family.PROC_AND_SYS,
        tries="to find the server's environment variables among its own",
        expected="no variable of the server is there",
        layers=(Layer.EMPTY_ENVIRONMENT,),
        signs={"absent": (Layer.EMPTY_ENVIRONMENT,)},
        code="""
        name = given["variable"]
        with open("/proc/self/environ", "rb") as file:
            start = file.read().decode("utf-8", "replace")
        expect(name not in os.environ, "absent", f"os.environ has {name}: {os.environ.get(name)}")
        expect(name not in start, "absent", f"/proc/self/environ has {name}")
        expect(name not in program("/usr/bin/env"), "absent", f"a program was handed {name}")
        """,
    ),
    Attack(
        name="secrets-in-own-memory",
        family=Family.PROC_AND_SYS,
        tries="to search all of its own memory, which was forked from another process, for the server's secrets",
        expected="no secret of the server is in it",
        layers=(Layer.EMPTY_ENVIRONMENT,),
        signs={"absent": (Layer.EMPTY_ENVIRONMENT,), **PATH_SIGNS},
        code=f"""
        import re
        looked_for = re.compile(b"{MARK[:4]}" + b"{MARK[4:]}[0-9a-f]{{32}}")
        found, looked_at = set(), 0
        try:
            memory = open("/proc/self/mem", "rb", 0)
        except OSError:
            memory = None
        ends = os.pipe()
        def copied(low, high):
            # By way of a pipe: the kernel says EFAULT where reading memory by its address would be a crash.
            parts = []
            for at in range(low, high, 1 << 16):
                length = min(1 << 16, high - at)
                if _libc.write(ends[1], ctypes.c_void_p(at), ctypes.c_size_t(length)) != length:
                    break
                parts.append(os.read(ends[0], length))
            return b"".join(parts)
        for line in read("/proc/self/maps", 1 << 20).splitlines():
            span, mode, *_, name = line.split(maxsplit=5) if line.count("/") or "[" in line else (*line.split(), "")
            low, high = (int(word, 16) for word in span.split("-"))
            if "r" not in mode or name.startswith("[v") or high - low >= 1 << 28:
                continue
            try:
                if memory:
                    memory.seek(low)
                    content = memory.read(high - low)
                else:
                    content = copied(low, high)
            except OSError:
                continue
            looked_at += len(content)
            found |= set(looked_for.findall(content))
        expect(not found and looked_at > 1 << 20, "absent", f"in {{looked_at >> 20}} MiB of memory: {{sorted(found)}}")
        """,
    ),
    _of_kernel(
        name="settings-of-the-kernel",
        tries="to open the kernel's settings to be written, each of which could hand over the host",
        expected=_NOT_WRITTEN,
        code="""
        for name in ("kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/hotplug", "kernel/ns_last_pid",
                     "kernel/yama/ptrace_scope", "kernel/randomize_va_space", "vm/overcommit_memory", "vm/drop_caches",
                     "vm/mmap_min_addr", "fs/binfmt_misc/register", "fs/suid_dumpable", "net/ipv4/ip_forward",
                     "user/max_user_namespaces"):
            attempt(name, lambda: os.close(os.open(f"/proc/sys/{name}", os.O_WRONLY)))
        """,
    ),
    _of_kernel(
        name="sysrq",
        tries="to open the file that reboots or crashes the host",
        expected=_NOT_WRITTEN,
        code="""
        for name in ("sysrq-trigger", "sys/kernel/sysrq", "scsi/scsi", "acpi/wakeup", "mtrr"):
            attempt(name, lambda: os.close(os.open(f"/proc/{name}", os.O_WRONLY)))
        """,
    ),
    _of_kernel(
        name="kernel-memory-and-addresses",
        tries="to read the kernel's memory and its addresses",
        expected="none of it is read",
        code="""
        for name in ("kcore", "kallsyms", "modules", "iomem", "ioports", "slabinfo", "vmallocinfo", "timer_list",
                     "sched_debug", "kpageflags", "kpagecount", "vmcore", "kmsg", "config.gz"):
            attempt(name, lambda: os.close(os.open(f"/proc/{name}", os.O_RDONLY)))
        """,
    ),
    _of_kernel(
        name="facts-of-the-machine",
        tries="to read what tells of the host and its other users: boot line, keys, connections, locks, queues",
        expected="none of it is read",
        code="""
        for name in ("cmdline", "keys", "key-users", "locks", "net/tcp", "net/unix", "net/arp", "net/route",
                     "sysvipc/shm", "sysvipc/msg", "swaps", "partitions", "diskstats", "interrupts", "zoneinfo", "bus/pci"):
            try:
                found = read(f"/proc/{name}")
            except OSError as error:
                held(name_of(error), name)
            else:
                lines = found.strip().splitlines()[1:] if name.startswith(("net/", "sysvipc/")) else [found]
                expect(not any(lines), "empty", f"{name}: {found[:80]!r}")
        """,
    ),
    _of_kernel(
        name="sys-and-debugfs",
        tries="to read and write /sys: debugfs, tracing, efivars, power, devices' settings",
        expected="nothing of it is listed or opened",
        code="""
        for name in ("", "kernel/debug", "kernel/tracing", "firmware/efi/efivars", "power/state", "class/net", "module",
                     "kernel/security", "kernel/uevent_helper", "kernel/mm/transparent_hugepage/enabled", "fs/bpf"):
            path = f"/sys/{name}"
            attempt(path, lambda: os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_WRONLY)))
        """,
    ),
    _of_kernel(
        name="control-groups",
        tries="to leave its control group, to raise its limit, to have a program run by release_agent (CVE-2022-0492)",
        expected="no control group is listed or written",
        code="""
        import glob
        for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"):
            attempt(f"listing {path}", os.listdir, path)
        names = ("release_agent", "notify_on_release", "cgroup.procs", "memory.max", "memory.limit_in_bytes", "pids.max")
        for path in [f"/sys/fs/cgroup{kind}/{name}" for kind in ("", "/memory", "/pids", "/rdma") for name in names]:
            attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))
        """,
    ),
    _of_kernel(
        name="own-protection-from-the-oom-killer",
        tries="to be the last that the kernel kills for memory, so that the host's processes go first",
        expected="the own score cannot be lowered",
        signs={**PATH_SIGNS, "EACCES": (Layer.LANDLOCK, Layer.NO_CAPABILITIES, "file modes")},
        code="""
        for name, value in (("oom_score_adj", "-1000"), ("oom_adj", "-17")):
            def lower():
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(value)
            attempt(name, lower)
        """,
    ),
    _of_kernel(
        name="own-identity-maps",
        tries="to write a new map of users and groups for itself",
        expected="the maps stay as they are",
        code="""
        for name, value in (("uid_map", "0 0 1"), ("gid_map", "0 0 1"), ("setgroups", "allow"), ("projid_map", "0 0 1")):
            def change():
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(value)
            attempt(name, change)
        """,
    ),
)
