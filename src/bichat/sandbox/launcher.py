"""The launcher: a freshly exec'd process that walls itself in and forks the porter.

It starts with an empty environment and one socket, knows nothing of the server, and follows one order of calls, in
which each step needs what the next one gives up:

    root:  mount namespace -> build root -> pivot -> unmount the host's root -> become an unused host uid
    both:  user, pid, net, ipc, uts (and mount) namespaces -> map that uid to 0 inside
    user:  build root -> pivot                                 -> fork the porter, pid 1 -> fresh /proc
                                                                  -> unmount the host's root

At the level `landlock` there is no wall to put up yet: it becomes an unused uid if it is root, keeping the power to
give each guest another one, and forks the porter.

The launcher then only waits, so that the porter dies with it and it with the porter.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import NoReturn

from bichat.sandbox import porter, wire
from bichat.sandbox.children import end_children
from bichat.sandbox.isolation import kernel, landlock, namespaces, rootfs
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.plan import LaunchPlan

#: Room for what the zygote writes (font caches, joblib's probe of /dev/shm); sandboxes get their own.
_ZYGOTE_SCRATCH_BYTES = 64 << 20
_ZYGOTE_INODES = 4096
#: How long a porter that nobody can reach any more has to end.
_PATIENCE_MS = 2000


def main(control_descriptor: int, life: int) -> NoReturn:
    """Run in the fresh process: wall it in, fork the porter, die with it, and with whoever holds the other end of `life`."""
    control = socket.socket(fileno=control_descriptor)
    control.set_inheritable(False)  # positional in the standard library
    received = wire.receive_control(control)
    if received is None:
        sys.exit(0)
    plan = LaunchPlan.from_message(received[0])
    step = _Step()
    os.set_inheritable(life, False)  # positional in the standard library
    try:
        wall_in = _wall_in if Layer.MOUNT_NAMESPACE in plan.layers else _stay_outside
        pid = wall_in(plan, control, life, step)
    except OSError as error:
        wire.send_control(control, {"failed": step.name, "errno": error.errno, "message": str(error)})
        sys.exit(1)
    control.close()
    _die_with(pid, life)


class _Step:
    """Name of the step under way, for the report of a failure."""

    name = "start"


def _prepare(plan: LaunchPlan, control: socket.socket, life: int) -> None:
    os.umask(0o022)
    if Layer.CLOSED_DESCRIPTORS in plan.layers:
        kernel.close_all_but({0, 1, 2, control.fileno(), life})


def _wall_in(plan: LaunchPlan, control: socket.socket, life: int, step: _Step) -> int:
    _prepare(plan, control, life)
    is_root = os.geteuid() == 0
    inner = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID
    # The cgroup namespace hides the host's cgroup path, which may hold a container's or a user's name.
    inner |= kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET | kernel.CLONE_NEWCGROUP
    uid, gid = os.getuid(), os.getgid()
    if is_root:
        step.name = "unused uid"
        uid = gid = namespaces.unused_host_id()
        step.name = "mount namespace"
        kernel.unshare(kernel.CLONE_NEWNS)
        _enter_private_root(plan, step)
        if Layer.PRIVATE_ROOT in plan.layers:
            rootfs.leave_old_root()
        step.name = "give up root"
        namespaces.become(uid)
    step.name = "user namespace"
    kernel.unshare(inner)
    namespaces.map_identity(0, uid, gid)
    if not is_root:
        _enter_private_root(plan, step)
    step.name = "fork"
    pid = os.fork()
    if pid == 0:
        os.close(life)
        _become_porter(plan, control, host_id=uid, leave_old_root=not is_root)
    return pid


def _stay_outside(plan: LaunchPlan, control: socket.socket, life: int, step: _Step) -> int:
    """Without namespaces.  Root's own uid is given up all the same: no guest, and no library, runs under it."""
    _prepare(plan, control, life)
    uid = os.getuid()
    if os.geteuid() == 0:
        step.name = "unused uid"
        uid = namespaces.unused_host_id()
        step.name = "scratch"
        os.chown(plan.scratch, uid, uid)
        step.name = "give up root"
        kernel.empty_bounding_set()
        namespaces.become(uid, keep=(kernel.CAP_KILL, kernel.CAP_SETGID, kernel.CAP_SETUID))
    step.name = "environment"
    for prefix in plan.prefixes:
        os.close(os.open(prefix, os.O_RDONLY | os.O_DIRECTORY))
    step.name = "landlock"
    if Layer.LANDLOCK in plan.layers:
        landlock.require()
    kernel.adopt_orphans()
    step.name = "fork"
    pid = os.fork()
    if pid == 0:
        os.close(life)
        try:
            kernel.die_with_parent()
            kernel.adopt_orphans()
            os.chdir(plan.scratch)
            porter.run(control, plan, uid)
        except OSError as error:
            wire.send_control(control, {"failed": "fork", "errno": error.errno, "message": str(error)})
        finally:
            os._exit(1)
    return pid


def _enter_private_root(plan: LaunchPlan, step: _Step) -> None:
    step.name = "private mounts"
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    step.name = "root folder"
    if Layer.PRIVATE_ROOT in plan.layers:
        rootfs.build_root(rootfs.plan_root(plan.prefixes))
        step.name = "pivot"
        rootfs.enter_root()
    else:
        rootfs.use_host_root()


def _become_porter(plan: LaunchPlan, control: socket.socket, *, host_id: int, leave_old_root: bool) -> NoReturn:
    step = _Step()
    try:
        step.name = "die with launcher"
        kernel.die_with_parent()
        step.name = "process view"
        rootfs.mount_process_view()
        if leave_old_root and Layer.PRIVATE_ROOT in plan.layers:
            rootfs.leave_old_root()
        step.name = "host name"
        kernel.set_hostname("bichat")
        step.name = "scratch"
        rootfs.mount_scratch(_ZYGOTE_SCRATCH_BYTES, _ZYGOTE_INODES, plan.prefixes)
        step.name = "fork"
        porter.run(control, plan, host_id)
    except OSError as error:
        wire.send_control(control, {"failed": step.name, "errno": error.errno, "message": str(error)})
    finally:
        os._exit(1)


def _die_with(pid: int, life: int) -> NoReturn:
    """Wait for the porter; SIGTERM ends it first, so that whoever waits for us knows that all of it is gone.

    When the server has gone the porter ends by itself, unless it is stopped: then it is killed after a while.
    """
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os.kill(pid, signal.SIGKILL))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    porter_ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(porter_ended, select.POLLIN)
    poll.register(life, 0)
    patience_ms = None
    while porter_ended not in (events := dict(poll.poll(patience_ms))):
        if events:
            poll.unregister(life)
            patience_ms = _PATIENCE_MS
        else:
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    end_children()
    os._exit(0)
