"""From a fresh fork to a room with its init, and from another to guest code in it: every wall, in the order each needs.

The porter's fork makes the room: it is pid 1 of a fresh pid namespace, mounts, and becomes *init*.  The zygote's fork
enters: it becomes the *guest*, which runs the user's code as pid 2, so that signals and exit codes mean what they mean
anywhere.  Both stand behind the same walls.  At the level `landlock` there are none: the room is a folder on the host,
and init and guest are processes like others, with fewer calls and files than others.  If one step fails, the process says which, and ends: guest code never
runs behind fewer walls than were asked for.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from bichat.sandbox import init, wire
from bichat.sandbox.guest import shell
from bichat.sandbox.isolation import kernel, landlock, namespaces, policy, rlimits, rootfs, seccomp
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import DATA, LaunchPlan, SandboxPlan

#: The kernel's out-of-memory killer takes guests first.
_OOM_SCORE = "1000"
#: Where libraries look for the limits of the container they are in; duckdb dies when it sees a file there and may not
#: read it.
_LIMITS: Final = ("/sys/fs/cgroup",)
#: Room for processes of the same user that come after the launcher's start.
_TASKS_OF_OTHERS: Final = 4096
_WRITABLE = (rootfs.DATA_FOLDER, rootfs.TEMPORARY_FOLDER, rootfs.SHARED_MEMORY_FOLDER, "/dev/null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What all sandboxes of one launcher have in common."""

    prefixes: tuple[str, ...]
    layers: frozenset[Layer]
    readable: tuple[str, ...]
    """What Landlock lets a guest read and execute."""
    init_filter: bytes
    """The packed seccomp program of inits, which may pass descriptors on."""
    guest_rules: Mapping[str, policy.Rule]
    guest_filter: bytes
    """Those rules, packed."""
    landlock_abi: int
    data_bytes: int
    """What RLIMIT_DATA counts of the process that is forked."""
    tasks: int
    """Processes and threads that the user had when the launcher began, and that RLIMIT_NPROC would count too."""

    @staticmethod
    def of(plan: LaunchPlan, data_bytes: int) -> Base:
        """What follows from the plan of the launcher, for forks of this process."""
        root = rootfs.plan_root(plan.prefixes)
        is_apart = Layer.MOUNT_NAMESPACE in plan.layers
        abi = landlock.abi_version()
        rules = policy.RULES if is_apart else policy.among_others(landlock_abi=abi, pid=None)
        return Base(
            prefixes=plan.prefixes,
            layers=frozenset(plan.layers),
            readable=root.readable if is_apart else root.readable_on_host,
            init_filter=seccomp.packed_filter(allowed=("sendmsg", "prctl")),
            guest_rules=rules,
            guest_filter=seccomp.packed_filter(rules=rules),
            landlock_abi=abi,
            data_bytes=data_bytes,
            tasks=0 if is_apart else rlimits.tasks_of(os.getuid()),
        )

    @property
    def is_apart(self) -> bool:
        """Whether rooms have namespaces of their own."""
        return Layer.MOUNT_NAMESPACE in self.layers

    def of_guests(self, data_bytes: int) -> Base:
        """The same, for forks of a process of another size."""
        return replace(self, data_bytes=data_bytes)


def make_room(
    plan: SandboxPlan, base: Base, box: socket.socket, to_zygote: socket.socket, descriptors: Sequence[int]
) -> NoReturn:
    """In the porter's fork: wall in, hand over to the supervisor, ask the zygote for a guest on `streams`, be its init.

    `descriptors`: the guest's channel, stdout and stderr, and the entrances to its control group.
    """
    step = _Step(box)
    streams, entrances = descriptors[:3], descriptors[3:]
    try:
        step("descriptors", lambda: _redirect({box.fileno(), to_zygote.fileno(), *descriptors}, base))
        step("process group", lambda: _leave_process_group(base))
        if base.is_apart:
            step("namespaces", lambda: kernel.unshare(_namespaces(base)))
            step("mounts", lambda: _mount(plan, base))
        else:
            step("user", lambda: _become_user(plan))
            # In the way that the supervisor has it end, with the guest.
            step("end with porter", lambda: kernel.die_with_parent(signal.SIGTERM))
        process = os.pidfd_open(os.getpid())
        step("hand over", lambda: _hand_over(box, process, _folder(plan)))
        if base.is_apart:
            step("user namespace", lambda: _make_user_namespace(base))
        ask = _Asking(plan, box, to_zygote, process, entrances)
        step("guest", lambda: ask(streams))
        step("privileges", lambda: _give_up_privileges(base))
        step("resource limits", lambda: _limit_resources(plan, base))
        # Without the scope of signals: init passes them on, to processes outside its own domain.
        step("landlock", lambda: _restrict_files(plan, base, scoped=False))
        step("seccomp", lambda: _filter_calls(base, base.init_filter))
        init.run(box, ask, is_pid_1=Layer.PID_NAMESPACE in base.layers)
    finally:
        os._exit(99)


def enter_room(plan: SandboxPlan, base: Base, process: int, box: socket.socket, descriptors: Sequence[int]) -> NoReturn:
    """In the zygote's fork: join the room of the init that `process` stands for, wall in, and run guest code.

    `descriptors`: its channel, stdout and stderr, where it is a folder on the host the room, and the entrances to its
    control group.
    """
    step = _Step(box)
    channel, output, errors, *entrances = descriptors
    if not base.is_apart:
        room, *entrances = entrances
        plan = replace(plan, room=os.readlink(f"/proc/self/fd/{room}"))
    try:
        step("descriptors", lambda: _redirect({process, box.fileno(), channel, *entrances}, base, output, errors))
        step("control group", lambda: _enter_group(entrances))
        step("process group", lambda: _leave_process_group(base))
        step("processors", lambda: _bind_processors(plan))
        if base.is_apart:
            step("namespaces", lambda: kernel.setns(process, _namespaces(base)))
        else:
            step("user", lambda: _become_user(plan))
            # Its children are found by their process group.
            step("die with zygote", kernel.die_with_parent)
        step("folder", lambda: os.chdir(_folder(plan)))
        step("out-of-memory score", _go_first)
        if base.is_apart:
            step("user namespace", lambda: _join_user_namespace(base, process))
        os.close(process)
        # The last time that init is needed: it closes itself when the supervisor tells it that we are in, and no code
        # comes before it has said so.
        step("hand over", lambda: _introduce(box))
        step("privileges", lambda: _give_up_privileges(base))
        step("resource limits", lambda: _limit_resources(plan, base))
        step("landlock", lambda: _restrict_files(plan, base, scoped=True))
        step("seccomp", lambda: _filter_guest(plan, base, box))
        box.close()
        shell.run(channel, warm_up=plan.warm_up, room=plan.room)
    finally:
        os._exit(99)


class _Step:
    """Takes one step; where it fails, the supervisor is told which and why, and this process ends."""

    def __init__(self, box: socket.socket) -> None:
        self._box = box

    def __call__(self, name: str, take: Callable[[], object]) -> None:
        try:
            take()
        except OSError as error:
            wire.send_control(self._box, {"failed": name, "errno": error.errno, "message": str(error)})
            os._exit(99)


class _Asking:
    """Asks the zygote for a guest in this room: once at the start, and at each restart."""

    def __init__(
        self, plan: SandboxPlan, box: socket.socket, to_zygote: socket.socket, process: int, entrances: Sequence[int]
    ) -> None:
        self._plan = plan
        self._box = box
        self._to_zygote = to_zygote
        self._process = process
        self._entrances = entrances
        self._asked = 0
        # By a descriptor, not by its name: what the zygote is told stays in its memory, and so in every later guest's.
        self._room = [os.open(plan.room, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)] if plan.room else []

    def __call__(self, streams: Sequence[int]) -> None:
        """`streams`: its channel, stdout and stderr, closed here once they are sent."""
        # What was taken for the first guest is taken for good: only a ready one is worth warming up.
        plan = self._plan if self._asked == 0 else replace(self._plan, warm_up=False, explain_denials=False)
        self._asked += 1
        message = {"plan": replace(plan, room="").to_message(), "guest": self._asked}
        try:
            descriptors = [self._process, self._box.fileno(), *streams, *self._room, *self._entrances]
            wire.send_control(self._to_zygote, message, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(99)  # the zygote is dead, and in a moment all of us are
        for descriptor in streams:
            os.close(descriptor)


def _redirect(kept: set[int], base: Base, output: int | None = None, errors: int | None = None) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null if output is None else output, 1)
    os.dup2(null if errors is None else errors, 2)
    if Layer.CLOSED_DESCRIPTORS in base.layers:
        kernel.close_all_but({0, 1, 2, *kept})


def _enter_group(entrances: Sequence[int]) -> None:
    for entrance in entrances:
        os.write(entrance, b"0")
        os.close(entrance)


def _leave_process_group(base: Base) -> None:
    if Layer.OWN_PROCESS_GROUP in base.layers:
        os.setsid()


def _bind_processors(plan: SandboxPlan) -> None:
    os.sched_setaffinity(0, plan.cpus)
    os.nice(plan.niceness)


def _namespaces(base: Base) -> int:
    """Those of a room, beside its pid and user namespaces."""
    flags = kernel.CLONE_NEWNS
    for layer, flag in (
        (Layer.IPC_NAMESPACE, kernel.CLONE_NEWIPC),
        (Layer.UTS_NAMESPACE, kernel.CLONE_NEWUTS),
        (Layer.NET_NAMESPACE, kernel.CLONE_NEWNET),
    ):
        if layer in base.layers:
            flags |= flag
    return flags


def _mount(plan: SandboxPlan, base: Base) -> None:
    rootfs.mount_scratch(plan.disk_bytes, plan.inodes, base.prefixes)
    rootfs.mount_process_view("hidepid=invisible,subset=pid")


def _become_user(plan: SandboxPlan) -> None:
    if plan.user is not None:
        namespaces.become(plan.user)


def _folder(plan: SandboxPlan) -> str:
    return f"{plan.room}/{DATA}" if plan.room else rootfs.DATA_FOLDER


def _hand_over(box: socket.socket, process: int, data_folder: str) -> None:
    """Give the supervisor its own handles: on this process, and on the data folder, to read it without asking us."""
    _go_first()
    folder = os.open(data_folder, os.O_RDONLY | os.O_DIRECTORY)
    wire.send_control(box, {"handles": ["process", "data folder"]}, [process, folder])
    os.close(folder)


def _introduce(box: socket.socket) -> None:
    """Give the supervisor a handle on this process, from which it knows its pids."""
    own = os.pidfd_open(os.getpid())
    wire.send_control(box, {"handles": ["guest"]}, [own])
    os.close(own)


def _go_first() -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_OOM_SCORE)


def _make_user_namespace(base: Base) -> None:
    if Layer.NESTED_USER_NAMESPACE in base.layers:
        kernel.unshare(kernel.CLONE_NEWUSER)
        namespaces.map_identity(namespaces.GUEST_ID, 0, 0)


def _join_user_namespace(base: Base, process: int) -> None:
    if Layer.NESTED_USER_NAMESPACE in base.layers:
        kernel.setns(process, kernel.CLONE_NEWUSER)


def _give_up_privileges(base: Base) -> None:
    kernel.forbid_new_privileges()
    if Layer.NO_CAPABILITIES in base.layers:
        kernel.drop_capabilities()


def _limit_resources(plan: SandboxPlan, base: Base) -> None:
    if Layer.RESOURCE_LIMITS in base.layers:
        limits = rlimits.process_limits(
            memory_bytes=plan.memory_bytes,
            base_data_bytes=base.data_bytes,
            disk_bytes=plan.disk_bytes,
            pids=_processes(plan, base),
        )
        rlimits.apply_limits(limits)


def _processes(plan: SandboxPlan, base: Base) -> int:
    """What RLIMIT_NPROC says.  Init is a process of the session too, but not one of the user's.

    Where the user is the server's, everybody's count: then it only bounds what may happen between two looks of the
    watchdog, which holds the limit.
    """
    if base.is_apart or plan.user is not None:
        return plan.pids + 1
    return base.tasks + _TASKS_OF_OTHERS


def _restrict_files(plan: SandboxPlan, base: Base, *, scoped: bool) -> None:
    if Layer.LANDLOCK not in base.layers:
        return
    if base.is_apart:
        landlock.restrict(base.readable, _WRITABLE, scoped=scoped)
    else:
        landlock.restrict(base.readable, (plan.room, "/dev/null"), unlisted=_LIMITS, scoped=scoped)


def _filter_guest(plan: SandboxPlan, base: Base, box: socket.socket) -> None:
    rules, packed = base.guest_rules, base.guest_filter
    if not base.is_apart and plan.user is None and base.landlock_abi < landlock.SCOPES_ABI:
        # Nothing but the filter keeps its signals from the server's processes.
        rules = policy.among_others(landlock_abi=base.landlock_abi, pid=os.getpid())
        packed = seccomp.packed_filter(rules=rules)
    if plan.explain_denials:
        _explain_calls(box, rules)
    else:
        _filter_calls(base, packed)


def _filter_calls(base: Base, call_filter: bytes) -> None:
    if Layer.SECCOMP in base.layers:
        seccomp.install(call_filter)


def _explain_calls(box: socket.socket, rules: Mapping[str, policy.Rule]) -> None:
    """As `_filter_calls`, with the filter that asks, whose listener is the supervisor's from then on.

    Behind that filter no descriptor can be passed on; so a thread does it that was there before, shares our
    descriptors, and has ended before any other code runs.
    """
    import threading  # a usual launcher has no need of it

    installed = threading.Event()
    listeners: list[int] = []

    def pass_on() -> None:
        installed.wait()
        for listener in listeners:
            try:
                wire.send_control(box, {"handles": ["denials"]}, [listener])
            finally:
                os.close(listener)

    outside = threading.Thread(target=pass_on)
    outside.start()
    try:
        listeners.append(seccomp.install(seccomp.packed_explaining_filter(rules), listen=True))
    finally:
        installed.set()
        outside.join()
