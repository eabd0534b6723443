"""Processes of one session: they reach each other, nobody else, and none outlives it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import anyio
import pytest

from bichat.domain import Status
from bichat.sandbox.inputs import check_inputs
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.supervisor import Supervisor

SIGKILL = 9


def test_kill_of_everybody_ends_the_own_session_only(run_code, supervise, open_sandbox):
    with open_sandbox(supervise()) as other:
        outcome = run_code("answer(attempt(os.kill, -1, 9))")
        alive = other.pid

    assert outcome.answer == "ESRCH"
    assert alive > 0


@pytest.mark.parametrize("number", [9, 19, 15])
def test_init_is_out_of_reach_of_signals(run_code, number):
    outcome = run_code(
        f"""
try:
    os.kill(1, {number})
except PermissionError:  # from Landlock, where the kernel has scopes of signals
    pass
answer("lives")
"""
    )

    assert outcome.answer == "lives"
    assert outcome.status is Status.COMPLETED


@pytest.mark.parametrize("call", ["os.kill(0, 9)", "os.killpg(0, 9)", "os.killpg(os.getpgrp(), 9)"])
def test_kill_of_the_own_group_ends_nothing_but_the_own_session(run_code, supervise, open_sandbox, portal, call):
    supervisor = supervise()
    before = portal.call(supervisor.zygote)
    with open_sandbox(supervisor) as other:
        outcome = run_code(call)
        alive = other.pid

    assert outcome.status is Status.KILLED
    assert "SIGKILL" in outcome.error.message
    assert alive > 0
    assert portal.call(supervisor.zygote) is before


def test_without_a_group_of_its_own_init_would_share_the_zygotes(portal, supervise, open_sandbox, bare_environment):
    # The guest has a group of its own besides (job control); what setsid adds is seen on init.
    apart, shared = supervise(), supervise(layers=ALL_LAYERS - {Layer.OWN_PROCESS_GROUP})
    with open_sandbox(apart) as one, open_sandbox(shared) as two:
        launchers = [portal.call(supervisor.zygote).pid for supervisor in (apart, shared)]
        groups = [os.getpgid(sandbox.pid) for sandbox in (one, two)]
        own = one.pid

    assert groups == [own, launchers[1]]


def test_without_a_group_of_its_own_landlock_keeps_signals_inside(run_code, portal, supervise):
    layers = ALL_LAYERS - {Layer.OWN_PROCESS_GROUP}
    before = portal.call(supervise(layers=layers).zygote)

    outcome = run_code("os.killpg(0, 9)", layers=layers)

    assert outcome.status is Status.KILLED
    assert portal.call(supervise(layers=layers).zygote) is before


@pytest.mark.parametrize(
    "code, status, name, word",
    [
        ("import os; os._exit(7)", Status.ERROR, "ProcessExited", "7"),
        ("import os; os._exit(0)", Status.COMPLETED, None, ""),
        ("import ctypes; ctypes.string_at(0)", Status.KILLED, "ProcessKilled", "SIGSEGV"),
        ("import os; os.abort()", Status.KILLED, "ProcessKilled", "SIGABRT"),
        ("import os; os.kill(os.getpid(), 15)", Status.KILLED, "ProcessKilled", "SIGTERM"),
        ("import os; os.kill(os.getpid(), 9)", Status.KILLED, "ProcessKilled", "SIGKILL"),
        ("import signal; signal.alarm(1); signal.pause()", Status.KILLED, "ProcessKilled", "SIGALRM"),
        ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 3'])", Status.ERROR, "ProcessExited", "3"),
    ],
)
def test_the_way_a_process_ended_is_named_as_the_kernel_names_it(run_code, code, status, name, word):
    outcome = run_code(code)

    assert outcome.status is status
    assert name is None or (outcome.error.name, word in outcome.error.message) == (name, True)


def test_a_guest_that_stops_itself_is_timed_out(run_code, limits):
    outcome = run_code(
        "import signal; os.kill(os.getpid(), signal.SIGSTOP)", limits=replace(limits, timeout_s=0.5, grace_s=0.2)
    )

    assert outcome.status is Status.TIMEOUT


def test_a_guest_that_waits_for_a_stopped_child_is_timed_out_and_the_child_dies_too(run_code, limits):
    outcome = run_code(
        """
        import signal
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        os.waitpid(child, 0)
        """,
        limits=replace(limits, timeout_s=1),
    )

    assert outcome.status is Status.TIMEOUT


def test_a_loop_that_ignores_every_signal_is_killed_at_the_timeout(run_code, limits):
    outcome = run_code(
        """
        import signal
        for number in range(1, 65):
            attempt(signal.signal, number, signal.SIG_IGN)
        print("ignoring", flush=True)
        while True:
            pass
        """,
        limits=replace(limits, timeout_s=1, grace_s=0.2),
    )

    assert outcome.status is Status.TIMEOUT
    assert outcome.stdout == "ignoring\n"


def test_an_orphaned_daemon_dies_with_its_session(portal, bare_environment, spool_folder, open_sandbox, family):
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
"""
    fresh = Supervisor(bare_environment, spool_folder=spool_folder)

    async def execute(sandbox) -> None:
        with anyio.fail_after(30):
            async for _ in sandbox.execute(code, name="main.py", timeout_s=20):
                pass

    with portal.wrap_async_context_manager(fresh):
        zygote = portal.call(fresh.zygote)
        idle = family(zygote.pid)
        with open_sandbox(fresh) as sandbox:
            portal.call(execute, sandbox)
            running = family(zygote.pid)
        after = family(zygote.pid)

    assert len(running) == len(idle) + 3  # init, the guest, the daemon
    assert after == idle


def test_two_sandboxes_of_one_zygote_see_neither_each_others_files_nor_processes(portal, supervise, limits, with_probe):
    code = """
        for folder in ("/mnt/data", "/tmp", "/dev/shm"):
            open(f"{folder}/{mark}", "w").close()
        print("written", flush=True)
        while not os.path.exists("/mnt/data/go"):
            pass
        marks = {"first", "second", "go"}
        seen = [sorted(marks & set(os.listdir(folder))) for folder in ("/mnt/data", "/tmp", "/dev/shm")]
        answer([seen, sum(name.isdigit() for name in os.listdir("/proc"))])
        """

    go = check_inputs({"go": b""}, limits)
    answers = {}

    async def both() -> None:
        """Neither looks before the other has written."""
        supervisor = supervise()
        written = {"first": anyio.Event(), "second": anyio.Event()}

        async def one(mark: str, other: str) -> None:
            sandbox = await supervisor.open(limits)
            try:
                async for event in sandbox.execute(with_probe(code, {"mark": mark}), name="main.py", timeout_s=20):
                    if getattr(event, "text", "") == "written\n":
                        written[mark].set()
                        await written[other].wait()
                        await sandbox.put(go)
                    answers[mark] = event
            finally:
                await sandbox.close()

        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, "first", "second")
                tasks.start_soon(one, "second", "first")

    portal.call(both)

    seen = {mark: json.loads(answers[mark].stdout.text.splitlines()[-1])["answer"] for mark in answers}
    assert seen == {
        "first": [[["first", "go"], ["first"], ["first"]], 1],
        "second": [[["go", "second"], ["second"], ["second"]], 1],
    }


def test_randomness_differs_between_two_sandboxes_of_one_zygote(run_code):
    code = "import random, uuid, secrets, tempfile; answer([random.random(), str(uuid.uuid4()), secrets.token_hex(), next(tempfile._get_candidate_names())])"

    first, second = run_code(code).answer, run_code(code).answer

    assert not set(first) & set(second)


def test_numpys_randomness_differs_between_two_sandboxes_of_one_zygote(run_code, data_environment):
    code = "import numpy; answer([numpy.random.rand(), numpy.random.default_rng().random()])"

    first, second = (run_code(code, environment=data_environment).answer for _ in range(2))

    assert not set(first) & set(second)


@pytest.mark.parametrize("step", ["", "if os.fork(): os.wait(); os._exit(0)"], ids=["itself", "its first child"])
def test_a_library_that_knows_forks_by_their_pid_sees_that_a_guest_is_one(
    make_own_bare_environment, portal, spool_folder, limits, attack, tmp_path, step
):
    environment = make_own_bare_environment(tmp_path / "drawing")
    (packages,) = environment.path.glob("lib/python3*/site-packages")
    (packages / "drawing.py").write_text("import ssl\nssl.RAND_bytes(8)\n", encoding="utf-8")
    code = f"import os, sys\n{step}\nprint(sys.modules['drawing'].ssl.RAND_bytes(8), flush=True)"

    async def run():
        async with Supervisor(environment, spool_folder=spool_folder, preload=("drawing",)) as supervisor:
            await supervisor.warmed()
            return [await attack(supervisor, code, limits=limits) for _ in range(2)]

    first, second = portal.call(run)

    assert (first.status, second.status) == (Status.COMPLETED, Status.COMPLETED)
    assert first.stdout != second.stdout
