"""The level `landlock`: no namespaces, and yet no file, process, network or other sandbox of the host's.

What holds at both levels in the same way is tried at both by `test_faults.py` and the attack suite; here is what is
kept by other means than at the level `namespaces`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bichat.domain import Status
from bichat.errors import LimitError
from bichat.events import Stdout
from bichat.sandbox import rooms, wire
from bichat.sandbox.inputs import check_inputs
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer, Level
from bichat.sandbox.process_group import ProcessGroup
from bichat.sandbox.sandbox import Ended
from bichat.sizes import MIB

LANDLOCK = Level.LANDLOCK.layers


@pytest.fixture(scope="module")
def supervisor(supervise, open_environment):
    return supervise(open_environment, LANDLOCK)


@pytest.fixture(scope="module")
def run(run_code, supervisor):
    def run(code, **options):
        return run_code(code, supervisor=supervisor, **options)

    return run


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file of the server's own user, in a folder that every user may enter; not in `/tmp`, which means another to code."""
    with tempfile.TemporaryDirectory(prefix="bichat-canary-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "canary.txt"
        path.write_text("secret", encoding="utf-8")
        path.chmod(0o644)
        yield path


def rooms_now() -> set[Path]:
    return {room for folder in Path(tempfile.gettempdir()).glob("bichat-rooms-*") for room in _entries(folder)}


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # another user's
        return []


# ------------------------------------------------------------------------------------------------------------- files


def test_a_file_of_the_same_user_can_be_neither_read_nor_changed(run, canary):
    before = canary.stat()
    answers = run(
        """
        answer([
            attempt(open, path), attempt(open, path, "a"), attempt(os.truncate, path, 0), attempt(os.unlink, path),
            attempt(os.rename, path, "mine"), attempt(os.link, path, "mine"), attempt(os.listdir, os.path.dirname(path)),
            attempt(os.open, path, os.O_RDONLY | os.O_TRUNC), attempt(os.symlink, "a", path + "2"),
            attempt(os.mkdir, path + "3"), attempt(os.execv, path, [path]),
        ])
        """,
        given={"path": str(canary)},
    ).answer

    assert set(answers) <= {"EACCES", "EXDEV", "EPERM"}
    assert canary.read_text(encoding="utf-8") == "secret"
    assert os.listdir(canary.parent) == ["canary.txt"]
    assert (canary.stat().st_mtime_ns, canary.stat().st_nlink) == (before.st_mtime_ns, 1)


def test_modes_owners_and_times_of_files_are_left_alone_however_they_are_asked_for(run, canary):
    before = canary.stat()
    run(
        """
        for call in (
            lambda: os.chmod(path, 0), lambda: os.utime(path, (1, 1)), lambda: os.chown(path, 1, 1),
            lambda: os.chmod(sys.executable, 0), lambda: os.fchmod(os.open(sys.executable, os.O_RDONLY), 0),
            lambda: syscall(452, -100, path.encode(), 0, 0), lambda: os.setxattr(path, "user.a", b"b"),
        ):
            attempt(call)
        """.replace("for call", "import sys\n        for call", 1),
        given={"path": str(canary)},
    )

    after = canary.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == (before.st_mode, before.st_mtime_ns, before.st_uid)
    assert os.access(Path("/usr/bin/python3"), os.X_OK)
    assert os.listxattr(canary) == []


def test_programs_that_copy_modes_and_times_do_not_fail_for_it(run):
    outcome = run(
        """
        import shutil, subprocess, tarfile, pathlib
        open("a", "w").write("1")
        shutil.copy("a", "b"); shutil.copy2("a", "c"); os.makedirs("d"); shutil.copytree("d", "e")
        pathlib.Path("a").touch()
        with tarfile.open("t.tar", "w") as tar: tar.add("a")
        with tarfile.open("t.tar") as tar: tar.extractall("f")
        answer([sorted(os.listdir(".")), subprocess.run(["cp", "-p", "a", "g"]).returncode])
        """
    )

    assert outcome.answer == [["a", "b", "c", "d", "e", "f", "t.tar"], 0]


def test_paths_of_a_room_of_its_own_mean_the_ones_that_it_has(run):
    outcome = run(
        """
        import subprocess, tempfile
        open("/mnt/data/a.txt", "w").write("1")
        open('/tmp/b.txt', "w").write("2")
        answer([os.listdir("/mnt/data"), os.listdir("/tmp"), tempfile.gettempdir() == "/tmp", os.path.isdir("/tmp/"),
                subprocess.run("cat /mnt/data/a.txt /tmp/b.txt", shell=True, capture_output=True, text=True).stdout,
                "https://example.org/tmp/x", "/tmpfiles"])
        """
    )

    assert outcome.answer == [["a.txt"], ["b.txt"], True, True, "12", "https://example.org/tmp/x", "/tmpfiles"]
    assert set(outcome.files) == {"a.txt"}


def test_a_room_goes_with_its_sandbox_whatever_was_made_of_it(portal, supervisor, open_sandbox, limits):
    code = """
import os
for _ in range(400):
    os.mkdir("deep"); os.chdir("deep")
os.chdir(os.environ["TMPDIR"])
os.mkdir("locked", 0); os.mkdir("full"); open("full/a", "w").close(); os.symlink("/etc", "full/etc")
os.mkfifo(b"\\xff\\n")
print("made")
"""
    before = rooms_now()
    with open_sandbox(supervisor) as sandbox:
        during = rooms_now()
        portal.call(_execute, sandbox, code)

    assert len(during - before) == 1
    assert rooms_now() == before
    assert os.path.isdir("/etc")


async def _execute(sandbox, code, timeout_s=20.0):
    with anyio.fail_after(40):
        *_, ended = [event async for event in sandbox.execute(code, name="main.py", timeout_s=timeout_s)]
    assert isinstance(ended, Ended)
    return ended


def test_a_sandbox_reads_and_changes_nothing_of_another(run, portal, supervisor, open_sandbox):
    with open_sandbox(supervisor) as sandbox:
        portal.call(_execute, sandbox, "import os; open('secret.txt', 'w').write('s'); print(os.getcwd(), os.getpid())")
        ended = portal.call(_execute, sandbox, "print(os.getcwd(), os.getpid())")
        folder, pid = ended.stdout.text.split()
        answers = run(
            """
            folder = "/".join(folder)
            answer([attempt(os.listdir, folder), attempt(open, folder + "/secret.txt"), attempt(open, folder + "/x", "w"),
                    attempt(os.listdir, os.path.dirname(os.path.dirname(folder))), attempt(open, f"/proc/{pid}/environ"),
                    attempt(open, f"/proc/{pid}/cmdline"), attempt(os.listdir, f"/proc/{pid}/fd"),
                    attempt(os.kill, pid, 9), attempt(os.killpg, pid, 9), attempt(os.kill, pid, 0)])
            """,
            given={"folder": folder.split("/"), "pid": int(pid)},
        ).answer
        still = portal.call(_execute, sandbox, "print(sorted(os.listdir('.')))")

    assert set(answers) <= {"EACCES", "EPERM"}
    assert still.stdout.text == "['secret.txt']\n"


# --------------------------------------------------------------------------------------------------------- processes


def test_no_process_of_the_host_is_seen_or_signalled(run):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        answers = run(
            """
            answer([attempt(os.listdir, "/proc"), attempt(open, f"/proc/{pid}/cmdline"), attempt(open, f"/proc/{pid}/maps"),
                    attempt(os.kill, pid, 9), attempt(os.kill, os.getppid(), 9), attempt(os.kill, 1, 9),
                    attempt(os.setpriority, os.PRIO_PROCESS, pid, 19), attempt(os.sched_setaffinity, pid, {0}),
                    attempt(__import__("resource").prlimit, pid, 7, (1, 1)),
                    attempt(lambda: __import__("signal").pidfd_send_signal(os.pidfd_open(pid), 9))])
            """,
            given={"pid": victim.pid},
        ).answer
        run("attempt(os.kill, -1, 9)")
        alive = victim.poll() is None
        victim.communicate(b"\n")

    assert set(answers) <= {"EACCES", "EPERM", "ESRCH"}
    assert alive


def test_nobody_leaves_the_process_group_by_which_all_are_killed(run):
    answers = run(
        """
        import subprocess
        answer([attempt(os.setsid), attempt(os.setpgid, 0, 0),
                attempt(subprocess.run, ["true"], start_new_session=True), attempt(subprocess.run, ["true"])])
        """
    ).answer

    assert answers == ["EPERM", "EPERM", "EPERM", "ok"]


def test_a_daemon_that_was_left_behind_dies_with_its_sandbox(portal, supervisor, open_sandbox, family):
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    os.wait()
print("left")
"""
    launcher = portal.call(supervisor.zygote).pid
    before = set(family(launcher))
    with open_sandbox(supervisor) as sandbox:
        portal.call(_execute, sandbox, code)
        # The kernel's list of children may leave some out while it changes.
        while len(set(family(launcher)) - before) != 5:  # init, guest, three orphans
            os.sched_yield()

    assert set(family(launcher)) <= before


def test_an_interrupt_that_nobody_waits_for_does_not_keep_init_from_ending_the_rest(
    portal, supervisor, open_sandbox, family
):
    async def interrupt_and_close(sandbox) -> list[int]:
        await _execute(sandbox, "import os, time\nif os.fork() == 0: time.sleep(1000)")
        for _ in range(200):
            wire.send_control(sandbox._handles.box, {"interrupt": True})
        await sandbox.close()
        return family(launcher)

    launcher = portal.call(supervisor.zygote).pid
    before = set(family(launcher))
    with open_sandbox(supervisor) as sandbox:
        after = portal.call(interrupt_and_close, sandbox)

    assert set(after) <= before


def test_a_restart_leaves_no_process_of_before_and_the_files(portal, supervisor, open_sandbox, family):
    async def restart(sandbox) -> str:
        await _execute(sandbox, "import os, time\nopen('a', 'w').close()\nif os.fork() == 0: time.sleep(1000)")
        sandbox.begin_restart()
        await sandbox.finish_restart()
        return (await _execute(sandbox, "import os\nprint(os.listdir('.'), os.getpgid(0) == os.getpid())")).stdout.text

    launcher = portal.call(supervisor.zygote).pid
    before = set(family(launcher))
    with open_sandbox(supervisor) as sandbox:
        printed = portal.call(restart, sandbox)
        during = set(family(launcher)) - before

    assert printed == "['a'] True\n"
    assert len(during) == 2  # init and the new guest


def test_an_interrupt_reaches_the_code_and_what_it_waits_for(portal, supervisor, open_sandbox):
    async def interrupted(sandbox) -> Ended:
        with anyio.fail_after(20):
            code = "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '1000'])"
            async for event in sandbox.execute(code, name="main.py", timeout_s=15):
                if isinstance(event, Stdout):
                    sandbox.interrupt()
                elif isinstance(event, Ended):
                    return event
        raise AssertionError("an execution ends with Ended")

    with open_sandbox(supervisor) as sandbox:
        ended = portal.call(interrupted, sandbox)
        after = portal.call(_execute, sandbox, "print('goes on')")

    assert ended.status is Status.CANCELLED
    assert after.stdout.text == "goes on\n"


def test_a_process_group_is_no_longer_there_when_another_has_come_by_its_number():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0) as leader:
        group = ProcessGroup(leader.pid)
        assert group.send(0)
        leader.communicate(b"")

    assert not group.send(0)
    assert not group._send_by_number(0)
    group.close()


# ------------------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    "bomb",
    [
        "with open('a', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
        "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
        "kept = []\nwhile True:\n    kept.append(open('a', 'wb')); kept[-1].write(bytes(4 << 20)); kept[-1].flush(); os.unlink('a')",
        (
            "import mmap\nkept = []\nwhile True:\n    with open('a', 'w+b') as file: file.truncate(4 << 20); kept.append("
            "mmap.mmap(file.fileno(), 4 << 20)); kept[-1].write(bytes(4 << 20))\n    os.unlink('a')"
        ),
        "n = 0\nwhile True:\n    n += 1\n    open(f'{n}', 'w').close()",
        "while True: os.mkdir('d'); os.chdir('d')",
        (
            "kept = []\nwhile True:\n    home, folders = os.getcwd(), [c * 250 for c in 'abcdefghijklmnopqr']\n"
            "    for name in folders: os.mkdir(name); os.chdir(name)\n"
            "    kept.append(os.open('f', os.O_RDWR | os.O_CREAT)); os.unlink('f')\n"
            "    for name in reversed(folders): os.chdir('..'); os.rmdir(name)\n"
            "    for _ in range(8): os.write(kept[-1], bytes(1 << 20))"
        ),
        (
            "import ctypes, threading, time\ndef hold():\n    time.sleep(0.2); kept = []\n    while True:\n"
            "        kept.append(open('a', 'wb', buffering=0)); kept[-1].write(bytes(4 << 20)); os.unlink('a')\n"
            "if os.fork() == 0:\n    threading.Thread(target=hold, daemon=True).start()\n"
            "    ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\nos.wait()"
        ),
    ],
    ids=[
        *("one file", "many files", "deleted and open", "deleted and mapped", "names", "folders in folders"),
        *("deleted and too deep for a name", "deleted, behind a dead main thread"),
    ],
)
def test_a_disk_bomb_is_ended_and_named_so(run, limits, bomb):
    outcome = run("import os\n" + bomb, limits=limits)

    assert outcome.status is Status.DISK_FULL or outcome.error.name == "OSError"
    assert shutil.disk_usage(tempfile.gettempdir()).free > 100 * MIB


def test_a_folder_that_becomes_a_link_is_not_followed_while_it_is_measured(tmp_path, monkeypatch):
    room, outside = tmp_path / "room", tmp_path / "outside"
    for folder in (room / "inner", outside / "inner"):
        folder.mkdir(parents=True)
    (outside / "large").write_bytes(bytes(MIB))
    real = rooms._Count._listed

    def listed(count, folder):
        found = real(count, folder)
        if (room / "inner").is_dir() and not (room / "inner").is_symlink():
            (room / "inner").rename(room / "other")
            (room / "inner").symlink_to(outside)
        return found

    monkeypatch.setattr(rooms._Count, "_listed", listed)

    assert rooms.measure(str(room)).bytes < MIB


def test_measuring_stops_where_more_is_there_than_may_be(tmp_path):
    for number in range(50):
        (tmp_path / f"{number}").mkdir()

    assert rooms.measure(str(tmp_path), most=rooms.Usage(MIB, 10)).inodes == 11


def test_a_tree_is_removed_without_following_a_link_that_takes_the_place_of_a_locked_folder(tmp_path, monkeypatch):
    room, outside = tmp_path / "room", tmp_path / "outside"
    (room / "a" / "locked").mkdir(parents=True)
    outside.mkdir(mode=0o500)
    (room / "a" / "locked").chmod(0)
    real = rooms._unlock

    def unlock(folder, name):
        if name == b"locked":
            (room / "a" / "locked").chmod(0o700)  # one that is moved must be writable
            (room / "a" / "locked").rename(room / "moved")
            (room / "a" / "locked").symlink_to(outside)
        real(folder, name)

    monkeypatch.setattr(rooms, "_unlock", unlock)

    rooms.remove_tree(str(room))

    assert not room.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_a_sandbox_whose_init_is_killed_while_nothing_runs_in_it_ends_with_all_that_it_left(
    portal, supervisor, open_sandbox, until, family
):
    launcher = portal.call(supervisor.zygote).pid
    before = set(family(launcher))
    code = "import os, signal, time\nif os.fork() == 0:\n    signal.signal(15, 1); time.sleep(1000)"
    with open_sandbox(supervisor) as sandbox:
        portal.call(_execute, sandbox, code)
        assert len(set(family(launcher)) - before) == 3  # init, guest, and what it left
        os.kill(sandbox.pid, signal.SIGKILL)

        portal.call(until, lambda: set(family(launcher)) <= before)


@pytest.mark.parametrize("kind", list(Level), ids=str)
def test_all_of_a_sandbox_stands_still_while_it_is_held_and_goes_on_after_it_but_for_what_was_stopped_before(
    kind, portal, supervise, open_environment, open_sandbox, until
):
    code = """
import os, signal
for _ in range(3):
    if os.fork() == 0:
        if os.fork() == 0:  # an orphan
            signal.pause()
        signal.pause()
"""
    with open_sandbox(supervise(open_environment, kind.layers)) as sandbox:
        portal.call(_execute, sandbox, code)
        tree = sandbox._tree
        portal.call(until, lambda: len(tree.pids()) == 7)

        with tree.held():
            assert {_state(pid) for pid in tree.pids()} == {"T"}

        portal.call(until, lambda: "T" not in {_state(pid) for pid in tree.pids()})
        (_, first, *_) = tree.pids()
        os.kill(first, signal.SIGSTOP)
        portal.call(until, lambda: _state(first) == "T")
        with tree.held():
            pass
        portal.call(until, lambda: [pid for pid in tree.pids() if _state(pid) == "T"] == [first])
        assert portal.call(_execute, sandbox, "print('goes on')").stdout.text == "goes on\n"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_fork_bomb_is_ended_or_gets_no_more_than_it_may_have(run, limits):
    outcome = run(
        "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60)\n        n += 1\n"
        "except OSError: answer(n)\ntime.sleep(1)",
        limits=limits,
    )

    if os.geteuid() == 0:
        assert outcome.answer <= limits.pids
    else:
        assert outcome.status is Status.KILLED
        assert outcome.error.name == "ProcessLimit"


def test_memory_of_many_children_together_is_held(run, limits):
    outcome = run(
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        held = bytearray(os.urandom(1 << 20) * 60)\n"
        "        time.sleep(20)\ntime.sleep(20)",
        limits=limits,
    )

    assert outcome.status is Status.OUT_OF_MEMORY


def test_input_files_that_do_not_fit_are_refused(portal, supervisor, open_sandbox, limits):
    async def fill(sandbox) -> None:
        await sandbox.put(check_inputs({"a": bytes(limits.disk_bytes - MIB)}, limits))
        await sandbox.put(check_inputs({"b": bytes(2 * MIB)}, limits))

    with open_sandbox(supervisor) as sandbox:
        with pytest.raises(LimitError):
            portal.call(fill, sandbox)
        ended = portal.call(_execute, sandbox, "import os; print(os.listdir('.'))")

    assert ended.stdout.text == "['a']\n"


# -------------------------------------------------------------------------------------------------- single layers off


def test_without_a_mount_namespace_there_is_none_at_all_and_code_finds_out_which_files_there_are(
    run_code, open_environment, canary
):
    outcome = run_code(
        "answer([os.path.exists(path), attempt(open, path), attempt(os.kill, os.getppid(), 0)])",
        environment=open_environment,
        layers=ALL_LAYERS - {Layer.MOUNT_NAMESPACE},
        given={"path": str(canary)},
    )

    assert outcome.answer == [True, "EACCES", "EPERM"]


def test_without_landlock_the_files_of_the_same_user_are_open(run_code, open_environment, canary):
    outcome = run_code(
        "answer(attempt(open, path))",
        environment=open_environment,
        layers=LANDLOCK - {Layer.LANDLOCK},
        given={"path": str(canary)},
    )

    assert outcome.answer == "ok"


def test_without_the_filter_landlock_still_keeps_files_signals_and_tcp(run_code, open_environment, canary):
    outcome = run_code(
        """
        import socket
        answer([attempt(open, path), attempt(os.kill, os.getppid(), 0),
                attempt(socket.create_connection, ("127.0.0.1", 9), 1)])
        """,
        environment=open_environment,
        layers=LANDLOCK - {Layer.SECCOMP},
        given={"path": str(canary)},
    )

    assert outcome.answer == ["EACCES", "EPERM", "EACCES"]


# ------------------------------------------------------------------------------------------------------------- rooms


def test_what_a_killed_server_has_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "bichat-rooms-left"
    (left / "room" / "data").mkdir(parents=True)
    live = rooms.Rooms()

    other = rooms.Rooms()

    assert not left.exists()
    assert Path(live._folder).exists()
    other.close()
    live.close()
    assert list(tmp_path.iterdir()) == []


def test_a_server_whose_new_folder_another_sweeps_away_makes_another(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock, seen = rooms._locked, []

    def lock_second(folder):
        seen.append(folder)
        if len(seen) == 1:
            rooms.remove_tree(folder)
        elif len(seen) == 2:
            lock(folder)  # which another holds, then
        return lock(folder)

    monkeypatch.setattr(rooms, "_locked", lock_second)
    made = rooms.Rooms()

    assert [Path(path).exists() for path in seen[:3]] == [False, False, True]
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_measured_with_what_was_deleted_and_is_still_open(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    gone = (tmp_path / "gone").open("wb")
    gone.write(bytes(200_000))
    gone.flush()
    (tmp_path / "gone").unlink()

    pipe = subprocess.PIPE
    with gone, subprocess.Popen(["/bin/cat"], stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[gone.fileno()]) as holder:
        usage = rooms.measure(str(tmp_path), [holder.pid])
        holder.kill()

    assert usage.inodes == 2
    assert 300_000 <= usage.bytes < 400_000


def test_a_tree_is_removed_without_following_links_and_however_deep_it_is(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept", encoding="utf-8")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    here = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", 0o700, dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.symlink(str(outside), "link", dir_fd=here) if _ else None
        os.close(here)
        here = below
    os.close(here)

    rooms.remove_tree(str(tree))

    assert not tree.exists()
    assert json.dumps((outside / "kept").read_text(encoding="utf-8")) == '"kept"'
