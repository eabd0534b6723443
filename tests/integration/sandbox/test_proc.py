"""What /proc tells: about the guest itself, and about nobody else."""

from __future__ import annotations

import os

import pytest

from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.supervisor import Supervisor

CANARY = "BICHAT_TEST_CANARY"


def test_only_own_processes_are_visible(run_code):
    outcome = run_code("answer(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()) == [os.getpid()])")

    assert outcome.answer is True


@pytest.mark.parametrize(
    "name", ["meminfo", "cpuinfo", "kcore", "kallsyms", "keys", "cmdline", "modules", "mounts/../sys", "net/unix"]
)
def test_figures_of_the_whole_machine_do_not_exist(run_code, name):
    outcome = run_code("answer(attempt(open, path))", given={"path": f"/proc/{name}"})

    assert outcome.answer in {"ENOENT", "EACCES"} or name.startswith("net/")


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd", "root", "cwd", "exe", "ns/pid", "task/1/mem"])
def test_nothing_of_init_can_be_looked_into(run_code, name):
    outcome = run_code(
        """
        import stat
        def look(path):
            os.readlink(path) if os.path.islink(path) else os.listdir(path) if os.path.isdir(path) else read(path)
        answer(attempt(look, path))
        """,
        given={"path": f"/proc/1/{name}"},
    )

    assert outcome.answer in {"ENOENT", "EACCES", "EPERM"}


def test_no_variable_of_the_server_reaches_the_guest(run_code, monkeypatch, portal, bare_environment, spool_folder):
    monkeypatch.setenv(CANARY, "secret")
    fresh = Supervisor(bare_environment, spool_folder=spool_folder)

    with portal.wrap_async_context_manager(fresh):
        outcome = run_code("answer([sorted(os.environ), read('/proc/self/environ')])", supervisor=fresh)

    names, environ = outcome.answer
    assert CANARY not in environ
    assert set(names) == {entry.partition("=")[0] for entry in environ.split("\0") if entry}
    assert {"PATH", "LANG", "HOME", "TMPDIR"} <= set(names)
    assert "LOGNAME" not in names


def test_no_variable_of_the_server_is_in_the_memory_of_launcher_zygote_or_init(
    monkeypatch, portal, bare_environment, spool_folder, open_sandbox, family
):
    monkeypatch.setenv(CANARY, "secret")
    fresh = Supervisor(bare_environment, spool_folder=spool_folder)

    with portal.wrap_async_context_manager(fresh), open_sandbox(fresh) as sandbox:
        zygote = portal.call(fresh.zygote)
        processes = family(zygote.pid)
        environs = [os.read(os.open(f"/proc/{pid}/environ", os.O_RDONLY), 65536) for pid in processes if readable(pid)]
        is_there = sandbox.pid in processes

    assert is_there
    assert environs
    assert not any(CANARY.encode() in environ for environ in environs)


def readable(pid: int) -> bool:
    try:
        os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY))
    except PermissionError:
        return False
    return True


def test_with_an_inherited_environment_the_servers_variables_would_leak(run_code, monkeypatch):
    monkeypatch.setenv(CANARY, "secret")

    outcome = run_code(
        "answer([os.environ.get(name), name in read('/proc/self/environ')])",
        given={"name": CANARY},
        layers=ALL_LAYERS - {Layer.EMPTY_ENVIRONMENT},
    )

    assert outcome.answer == ["secret", True]


def test_the_guest_holds_its_streams_and_its_channel_and_no_other_descriptor(run_code, leaky_descriptor):
    outcome = run_code("answer(descriptors())")

    kinds = sorted(target.partition(":")[0] for target in outcome.answer.values())
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]
    assert leaky_descriptor not in outcome.answer.values()


def test_the_zygote_holds_no_descriptor_of_the_server(portal, bare_environment, spool_folder, leaky_descriptor, family):
    fresh = Supervisor(bare_environment, spool_folder=spool_folder)

    with portal.wrap_async_context_manager(fresh):
        zygote = portal.call(fresh.zygote)
        held = [
            os.readlink(f"/proc/{pid}/fd/{number}")
            for pid in family(zygote.pid)
            for number in os.listdir(f"/proc/{pid}/fd")
        ]

    assert held
    assert leaky_descriptor not in held


def test_with_descriptors_left_open_the_servers_files_would_leak(run_code, leaky_descriptor):
    outcome = run_code(
        "answer(list(descriptors().values()))",
        layers=ALL_LAYERS - {Layer.CLOSED_DESCRIPTORS},
        fresh=True,
    )

    assert any(target.endswith(os.path.basename(leaky_descriptor)) for target in outcome.answer)


def test_nothing_of_the_server_is_in_the_guests_memory(run_code, monkeypatch):
    monkeypatch.setenv(CANARY, "bichat-heap-" + "canary")

    outcome = run_code(
        """
        needle = "-".join(["bichat", "heap", "can"]).encode() + b"ary"
        found = 0
        with open("/proc/self/mem", "rb", 0) as memory:
            for line in read("/proc/self/maps", 1 << 20).splitlines():
                span, mode = line.split()[:2]
                low, high = (int(word, 16) for word in span.split("-"))
                if "r" in mode and "[v" not in line and high - low < 1 << 28:
                    try:
                        memory.seek(low)
                        found += memory.read(high - low).count(needle)
                    except OSError:
                        continue
        import sys
        answer([found, sorted(name for name in sys.modules if name.startswith("bichat"))])
        """,
        fresh=True,
    )

    found, modules = outcome.answer
    # The attacker's own needle, put together, is there; the server's, which the guest never saw, would add to it.
    assert found <= 3
    assert not [name for name in modules if name.startswith(("bichat.interpreter", "bichat.sandbox.supervisor"))]


def test_without_its_own_pid_namespace_the_zygotes_processes_are_in_reach_of_kill_but_their_memory_is_not(run_code):
    outcome = run_code(
        """
        pids = [pid for pid in range(1, 50) if pid != os.getpid() and attempt(os.kill, pid, 0) != "ESRCH"]
        answer([pids, [attempt(os.kill, pid, 0) for pid in pids], [attempt(read, f"/proc/{pid}/environ") for pid in pids]])
        """,
        layers=ALL_LAYERS - {Layer.PID_NAMESPACE},
    )

    pids, kills, environs = outcome.answer
    # Landlock's scope keeps signals inside, and /proc hides what ptrace could not reach.
    assert 1 in pids
    assert kills[pids.index(1)] == "EPERM"
    assert environs[pids.index(1)] in {"ENOENT", "EACCES", "EPERM"}
