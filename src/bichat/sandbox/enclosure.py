"""From a fresh fork of the zygote to guest code: every wall put up, in the order that each needs.

The fork is pid 1 of its pid namespace and becomes the sandbox's *init*; guest code runs in its child, so that
signals and exit codes mean what they mean anywhere.  All walls stand before that child exists and bind init too.
If one step fails, the process says which, and ends: guest code never runs behind fewer walls than were asked for.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from bichat.sandbox import init, wire
from bichat.sandbox.guest import shell
from bichat.sandbox.isolation import kernel, landlock, namespaces, rlimits, rootfs, seccomp
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import SandboxPlan

#: The kernel's out-of-memory killer takes guests first.
_OOM_SCORE = "1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every sandbox of one zygote has in common."""

    prefixes: tuple[str, ...]
    layers: frozenset[Layer]
    readable: tuple[str, ...]
    """What Landlock lets a guest read and execute."""
    call_filter: bytes
    """The packed seccomp program."""
    data_bytes: int
    """What RLIMIT_DATA counts of the zygote."""


def run(plan: SandboxPlan, base: Base, box: socket.socket, channel: int, output: int, errors: int) -> NoReturn:
    """In the fork: wall in, tell the supervisor over `box`, start the guest on its `channel`, and be its init."""
    step = "descriptors"
    try:
        _redirect(box.fileno(), channel, output, errors, base.layers)
        for name, build in (
            ("process group", _leave_process_group),
            ("processors", _bind_processors),
            ("namespaces", _enter_namespaces),
            ("mounts", _mount),
            ("hand over", _hand_over),
            ("user namespace", _enter_user_namespace),
            ("privileges", _give_up_privileges),
            ("resource limits", _limit_resources),
            ("landlock", _restrict_files),
            ("seccomp", _filter_calls),
        ):
            step = name
            build(plan, base, box)
        step = "guest"
        pid = os.fork()
        if pid == 0:
            _become_guest(box, channel, plan)
        _become_init(box, pid, channel)
    except OSError as error:
        wire.send_control(box, {"failed": step, "errno": error.errno, "message": str(error)})
    finally:
        os._exit(99)


def _redirect(box: int, channel: int, output: int, errors: int, layers: frozenset[Layer]) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    if Layer.CLOSED_DESCRIPTORS in layers:
        kernel.close_all_but({0, 1, 2, box, channel})


def _leave_process_group(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    if Layer.OWN_PROCESS_GROUP in base.layers:
        os.setsid()


def _bind_processors(plan: SandboxPlan, _base: Base, _box: socket.socket) -> None:
    os.sched_setaffinity(0, plan.cpus)
    os.nice(plan.niceness)


def _enter_namespaces(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    flags = kernel.CLONE_NEWNS
    for layer, flag in (
        (Layer.IPC_NAMESPACE, kernel.CLONE_NEWIPC),
        (Layer.UTS_NAMESPACE, kernel.CLONE_NEWUTS),
        (Layer.NET_NAMESPACE, kernel.CLONE_NEWNET),
    ):
        if layer in base.layers:
            flags |= flag
    kernel.unshare(flags)


def _mount(plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    rootfs.mount_scratch(plan.disk_bytes, plan.inodes, base.prefixes)
    rootfs.mount_process_view("hidepid=invisible,subset=pid")
    os.chdir(rootfs.DATA_FOLDER)


def _hand_over(_plan: SandboxPlan, _base: Base, box: socket.socket) -> None:
    """Give the supervisor its own handles: on this process, and on the data folder, to read it without asking us."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_OOM_SCORE)
    own = os.pidfd_open(os.getpid())
    folder = os.open(rootfs.DATA_FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    wire.send_control(box, {"handles": ["process", "data folder"]}, [own, folder])
    os.close(own)
    os.close(folder)


def _enter_user_namespace(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    if Layer.NESTED_USER_NAMESPACE in base.layers:
        kernel.unshare(kernel.CLONE_NEWUSER)
        namespaces.map_identity(namespaces.GUEST_ID, 0, 0)


def _give_up_privileges(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    kernel.forbid_new_privileges()
    if Layer.NO_CAPABILITIES in base.layers:
        kernel.drop_capabilities()


def _limit_resources(plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    if Layer.RESOURCE_LIMITS in base.layers:
        limits = rlimits.process_limits(
            memory_bytes=plan.memory_bytes,
            base_data_bytes=base.data_bytes,
            disk_bytes=plan.disk_bytes,
            # Init is a process of the session too, but not one of the user's.
            pids=plan.pids + 1,
        )
        rlimits.apply_limits(limits)


def _restrict_files(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    if Layer.LANDLOCK in base.layers:
        writable = (rootfs.DATA_FOLDER, rootfs.TEMPORARY_FOLDER, rootfs.SHARED_MEMORY_FOLDER, "/dev/null")
        landlock.restrict(base.readable, writable)


def _filter_calls(_plan: SandboxPlan, base: Base, _box: socket.socket) -> None:
    if Layer.SECCOMP in base.layers:
        seccomp.install(base.call_filter)


def _become_guest(box: socket.socket, channel: int, plan: SandboxPlan) -> NoReturn:
    box.close()
    shell.run(channel, warm_up=plan.warm_up)


def _become_init(box: socket.socket, pid: int, channel: int) -> NoReturn:
    os.close(channel)
    for stream in (1, 2):
        os.dup2(0, stream)

    def start_guest(channel: int, output: int, errors: int) -> int:
        pid = os.fork()
        if pid == 0:
            _become_next_guest(box, channel, output, errors)
        return pid

    init.run(box, pid, start_guest)


def _become_next_guest(box: socket.socket, channel: int, output: int, errors: int) -> NoReturn:
    """A guest after the first, out of init, which is as the zygote was and stands behind the same walls."""
    try:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        box.close()
        os.dup2(output, 1)
        os.dup2(errors, 2)
        kernel.close_all_but({0, 1, 2, channel})
        shell.run(channel)
    finally:
        os._exit(99)
