"""Who the guest is: nobody, without a capability, in a user namespace of its own, as a host uid that no account uses."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a server run by root changes its guests' uid")
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def test_the_guest_sees_itself_as_an_ordinary_user(run_code):
    outcome = run_code("answer([os.getresuid(), os.getresgid()])")

    assert outcome.answer == [[1000] * 3, [1000] * 3]


@as_root
def test_the_guest_runs_as_a_host_uid_of_no_account(portal, supervise, open_sandbox):
    with open_sandbox(supervise()) as sandbox:
        owners = {(os.stat(f"/proc/{pid}/task").st_uid, uids(pid)) for pid in (sandbox.pid, sandbox.guest_pid)}

    taken = {entry.pw_uid for entry in pwd.getpwall()}
    assert all(0 not in real and not taken & set(real) for _, real in owners)


def uids(pid: int) -> tuple[int, ...]:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return tuple(map(int, status.split("Uid:")[1].splitlines()[0].split()))


def test_no_capability_is_left(run_code):
    outcome = run_code("answer([status_field(name) for name in names])", given={"names": CAPABILITIES})

    assert {int(value, 16) for value in outcome.answer} == {0}


@pytest.mark.parametrize("call", ["setuid", "setgid", "setegid", "seteuid"])
@pytest.mark.parametrize("number", [0, 1, 65534])
def test_nobody_else_can_be_become(run_code, call, number):
    outcome = run_code("answer(attempt(getattr(os, call), number))", given={"call": call, "number": number})

    assert outcome.answer in {"EINVAL", "EPERM"}


def test_groups_cannot_be_changed(run_code):
    outcome = run_code("answer([attempt(os.setgroups, [0]), attempt(os.initgroups, 'user', 0)])")

    assert outcome.answer == ["EPERM", "EPERM"]


def test_files_cannot_be_given_away(run_code):
    outcome = run_code("open('x', 'w').close(); answer(attempt(os.chown, 'x', 0, 0))")

    assert outcome.answer in {"EPERM", "EINVAL"}


def test_priority_cannot_be_raised(run_code):
    outcome = run_code(
        """
        answer([
            attempt(os.nice, -5),
            attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
        ])
        """
    )

    assert set(outcome.answer) <= {"EPERM", "EACCES"}


def test_hard_limits_cannot_be_raised(run_code):
    outcome = run_code(
        """
        import resource
        kinds = [resource.RLIMIT_DATA, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE]
        answer([attempt(resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)) for kind in kinds])
        """
    )

    # A ValueError is how Python says EPERM here: "not allowed to raise maximum limit".
    assert set(outcome.answer) == {"ValueError"}


def test_without_dropped_capabilities_the_filter_and_landlock_still_forbid_mounts(run_code):
    outcome = run_code(
        """
        answer([int(status_field("CapEff"), 16) > 0, attempt(os.chroot, "/tmp"), attempt(os.listdir, "/")])
        """,
        layers=ALL_LAYERS - {Layer.NO_CAPABILITIES},
    )

    assert outcome.answer == [True, "EPERM", "EACCES"]


def test_without_a_user_namespace_of_its_own_the_guest_has_no_capability_either(run_code):
    outcome = run_code(
        "answer([os.getuid(), status_field('CapEff'), attempt(os.chroot, '/tmp'), attempt(open, '/etc/x', 'w')])",
        layers=ALL_LAYERS - {Layer.NESTED_USER_NAMESPACE},
    )

    number, capabilities, chroot, written = outcome.answer
    assert number == 0  # the zygote's root, which is nobody outside
    assert int(capabilities, 16) == 0
    assert chroot == "EPERM"
    assert written in {"EACCES", "EROFS"}


def test_capabilities_in_the_zygotes_user_namespace_would_allow_mounts_but_for_filter_and_landlock(run_code):
    outcome = run_code(
        """
        answer(attempt(os.sethostname, "taken") if hasattr(os, "sethostname") else _libc.sethostname(b"taken", 5))
        """,
        layers=ALL_LAYERS - {Layer.NESTED_USER_NAMESPACE, Layer.NO_CAPABILITIES, Layer.SECCOMP},
    )

    assert outcome.answer == 0


def test_a_host_name_of_ones_own_is_seen_by_nobody_else(run_code):
    # The layers that forbid it are off; what remains is the UTS namespace of each sandbox.
    layers = ALL_LAYERS - {Layer.NESTED_USER_NAMESPACE, Layer.NO_CAPABILITIES, Layer.SECCOMP}
    host = os.uname().nodename

    run_code("_libc.sethostname(b'taken', 5)", layers=layers)
    outcome = run_code("answer(os.uname().nodename)", layers=layers)

    assert outcome.answer == "bichat"
    assert os.uname().nodename == host


def test_without_uts_namespaces_two_sandboxes_of_one_zygote_would_share_a_host_name(run_code):
    layers = ALL_LAYERS - {Layer.NESTED_USER_NAMESPACE, Layer.NO_CAPABILITIES, Layer.SECCOMP, Layer.UTS_NAMESPACE}

    run_code("_libc.sethostname(b'taken', 5)", layers=layers)
    outcome = run_code("answer(os.uname().nodename)", layers=layers)

    assert outcome.answer == "taken"


def test_without_ipc_namespaces_and_filter_two_sandboxes_would_share_memory_segments(run_code):
    code = "answer(_libc.shmget(4711, 4096, 0o1666) >= 0 if make else _libc.shmget(4711, 4096, 0o666) >= 0)"
    shared = ALL_LAYERS - {Layer.SECCOMP, Layer.IPC_NAMESPACE}
    apart = ALL_LAYERS - {Layer.SECCOMP}

    made = [run_code(code, given={"make": True}, layers=layers).answer for layers in (shared, apart)]
    found = [run_code(code, given={"make": False}, layers=layers).answer for layers in (shared, apart)]

    assert made == [True, True]
    assert found == [True, False]


def test_without_a_private_root_landlock_still_hides_the_hosts_files(
    run_code, world_readable_canary, readable_environment
):
    outcome = run_code(
        "answer([attempt(open, path), attempt(os.listdir, '/etc'), attempt(open, '/etc/shadow')])",
        given={"path": str(world_readable_canary)},
        layers=ALL_LAYERS - {Layer.PRIVATE_ROOT},
        environment=readable_environment,
        fresh=True,
    )

    canary, _, shadow = outcome.answer
    assert canary == "EACCES"
    assert shadow == "EACCES"


def test_without_landlock_the_private_root_still_hides_the_hosts_files(run_code, world_readable_canary):
    outcome = run_code(
        "answer([attempt(open, path), attempt(open, '/etc/shadow'), attempt(open, '/etc/x', 'w'), sorted(os.listdir('/')), os.listdir('/.old')])",
        given={"path": str(world_readable_canary)},
        layers=ALL_LAYERS - {Layer.LANDLOCK},
    )

    canary, shadow, written, root, old = outcome.answer
    assert canary == "ENOENT"
    assert shadow == "ENOENT"
    assert written in {"EROFS", "EACCES"}
    assert not {"boot", "srv", "sys", "run"} & set(root)
    assert old == []


def test_without_private_root_and_landlock_a_file_of_the_host_could_be_read(
    run_code, world_readable_canary, readable_environment
):
    outcome = run_code(
        "answer([read(path), attempt(open, '/etc/shadow')])",
        given={"path": str(world_readable_canary)},
        layers=ALL_LAYERS - {Layer.PRIVATE_ROOT, Layer.LANDLOCK},
        environment=readable_environment,
        fresh=True,
    )

    canary, shadow = outcome.answer
    assert canary == "secret"
    assert shadow == "EACCES"  # the host's file modes are what is left


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of the host that every user may enter, outside /tmp, of which each sandbox has one of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bichat-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def world_readable_canary(open_folder: Path) -> Path:
    canary = open_folder / "canary"
    canary.write_text("secret", encoding="utf-8")
    canary.chmod(0o644)
    return canary


@pytest.fixture
def readable_environment(open_folder: Path, make_bare_environment) -> Environment:
    """A bare environment that every user may read: without a private root nobody binds one that they may not."""
    for python in (Path(sys.base_prefix) / "bin" / "python3", Path("/usr/bin/python3")):
        command = [python, "-Ic", "import sys; assert sys.version_info >= (3, 11); print(sys.base_prefix)"]
        user = 65534 if os.geteuid() == 0 else None
        with suppress(OSError, subprocess.CalledProcessError):
            prefix = subprocess.run(command, check=True, capture_output=True, text=True, user=user, cwd="/").stdout
            return make_bare_environment(open_folder / "environment", python.resolve(), Path(prefix.strip()))
    pytest.skip("no Python 3.11 or later on this host that every user may run")
