"""Hosts that are set up in ways of their own: code runs there behind every wall, or is refused with what to do about it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = Path(__file__).with_name("without_call.py")
UNSHARE = {"x86_64": "272", "aarch64": "97"}
#: Where guests of root cannot reach the environment, which lies in root's own home, say, there is no level for them.
OUT_OF_REACH = b"every user may pass"
CODE = """
import multiprocessing, os, subprocess, sys, tempfile
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
    file.write("print('child')"); file.flush()
    print(subprocess.run([sys.executable, file.name], capture_output=True, text=True).stdout.strip())
open("a.txt", "w").write("made")
"""
HOSTS = {
    "hidepid": ("processes", "hidepid"),
    "no-shared-memory": ("empty:/dev/shm",),
    "read-only-home": ("read-only:{home}",),
    "noexec-temporary": ("noexec:{temporary}",),
    "umask-0777": ("umask:777",),
    "pid-1": ("processes", "pid-1"),
}


@pytest.fixture
def on_host(bichat, strange_host, tmp_path):
    """`on_host(steps, "run", ...)`: the command on a strange host, whose home and temporary folder are empty ones."""
    folders = {name: tmp_path / name for name in ("home", "temporary", "data")}
    for folder in folders.values():
        folder.mkdir()

    def run(steps, *arguments, level="namespaces", data_dir=None):
        words = strange_host(*(step.format(**folders) for step in steps))
        if level == "landlock":
            words += [sys.executable, str(WITHOUT), UNSHARE[platform.machine()]]
        variables = {"HOME": str(folders["home"]), "TMPDIR": str(folders["temporary"])}
        if data_dir:
            variables["BICHAT_DATA_DIR"] = data_dir.format(**folders)
        return subprocess.run(
            [*words, *bichat.command, *arguments],
            cwd=bichat.folder,
            env={**bichat.variables, **variables},
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
@pytest.mark.parametrize("steps", HOSTS.values(), ids=HOSTS)
def test_code_runs_behind_every_wall_and_its_files_come_out(on_host, bichat, steps, level):
    done = on_host(steps, "run", "--json", "-c", CODE, level=level)

    if level == "landlock" and done.returncode == 3 and os.geteuid() == 0:
        assert OUT_OF_REACH in done.stderr + done.stdout
        return
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    result = json.loads(done.stdout)
    assert (result["stdout"], result["stderr"]) == ("[1, 2]\nchild\n", "")
    assert result["isolation"]["level"] == level
    assert (bichat.folder / "bichat-output" / "a.txt").read_text(encoding="utf-8") == "made"


@pytest.mark.parametrize("steps", HOSTS.values(), ids=HOSTS)
def test_doctor_finds_every_wall_on(on_host, steps):
    done = on_host(steps, "doctor", "--json")

    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    report = json.loads(done.stdout)
    assert (report["ok"], report["level"]) == (True, "namespaces")


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_memory_is_held_where_nobody_sees_the_processes_of_others(on_host, level):
    bomb = """
import multiprocessing, time
def eat():
    held = bytearray(b"x") * (60 << 20)
    time.sleep(60)
for _ in range(8):
    multiprocessing.get_context("fork").Process(target=eat).start()
time.sleep(60)
"""
    done = on_host(HOSTS["hidepid"], "run", "--json", "--memory", "200m", "-c", bomb, level=level)

    if level == "landlock" and done.returncode == 3 and os.geteuid() == 0:
        assert OUT_OF_REACH in done.stderr + done.stdout
        return
    assert json.loads(done.stdout)["status"] == "out_of_memory"


@pytest.mark.parametrize("command", ["run -c 1", "doctor"])
@pytest.mark.parametrize(
    "step, reason", [("read-only:{data}", b"cannot be written to"), ("full:{data}", b"No space left")]
)
def test_a_data_directory_that_nothing_can_be_written_to_is_named_with_the_remedy(on_host, command, step, reason):
    done = on_host((step,), *command.split(), data_dir="{data}")

    said = done.stderr + done.stdout
    assert done.returncode == 3
    assert reason in b" ".join(said.split())
    assert b"BICHAT_DATA_DIR" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    "host, remark",
    [
        ("hidepid", "hidepid"),
        ("no-shared-memory", "no_shared_memory"),
        ("read-only-home", "read_only_home"),
        ("noexec-temporary", "noexec_temporary_folder"),
        ("pid-1", "process_1"),
    ],
)
def test_doctor_says_what_is_remarkable_about_the_host_and_what_follows(on_host, host, remark):
    done = on_host(HOSTS[host], "doctor", "--json")

    found = {each["name"]: each["follows"] for each in json.loads(done.stdout)["remarks"]}
    assert found[remark]


@pytest.mark.parametrize("command", ["run -c 1", "doctor"])
@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_that_there_is_no_proc_is_said_with_what_to_do(on_host, level, command):
    done = on_host(("empty:/proc",), *command.split(), level=level)

    said = b" ".join((done.stderr + done.stdout).split())
    assert done.returncode == 3
    assert b"there is no /proc" in said
    assert b"mount -t proc" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("descriptors", [12, 16])
def test_too_few_descriptors_are_named_with_what_to_do(bichat, descriptors):
    done = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$0" run -c 1', *bichat.command],
        cwd=bichat.folder,
        env=bichat.variables,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 3
    assert b"Raise ulimit -n." in done.stderr
    assert b"env build" not in done.stderr
