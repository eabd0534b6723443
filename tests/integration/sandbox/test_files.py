"""What guest code may read and write outside its own folder: nothing but what Python needs, read-only."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/../../etc/shadow",
        "/mnt/data/../../etc/shadow",
        "/proc/self/root/etc/shadow",
        "/proc/1/root/etc/shadow",
        "/etc/hostname",
        "/var/log/dpkg.log",
    ],
)
def test_files_of_the_host_do_not_exist(run_code, path):
    outcome = run_code("answer(attempt(open, path))", given={"path": path})

    assert outcome.answer in {"ENOENT", "EACCES"}


@pytest.mark.parametrize("path", ["/root", "/home", "/var", "/sys", "/run", "/.old", "/opt", "/srv", "/boot"])
def test_folders_of_the_host_cannot_be_listed(run_code, path):
    outcome = run_code("answer(attempt(os.listdir, path))", given={"path": path})

    assert outcome.answer in {"ENOENT", "EACCES"}


def test_a_file_of_the_host_that_everybody_may_read_cannot_be_read(run_code, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("secret", encoding="utf-8")

    outcome = run_code("answer(attempt(open, path))", given={"path": str(canary)})

    assert outcome.answer in {"ENOENT", "EACCES"}


def test_the_guest_sees_no_account_of_the_host(run_code):
    outcome = run_code("import pwd; answer([entry.pw_name for entry in pwd.getpwall()])")

    assert outcome.answer == ["user"]


@pytest.mark.parametrize(
    "path, errors",
    [
        ("/x", {"EROFS", "EACCES"}),
        ("/etc/x", {"EROFS", "EACCES"}),
        ("/etc/passwd", {"EROFS", "EACCES"}),
        ("/usr/bin/x", {"EROFS", "EACCES"}),
        ("/usr/lib/x", {"EROFS", "EACCES"}),
        ("/dev/x", {"EROFS", "EACCES"}),
        ("/mnt/x", {"EROFS", "EACCES"}),
        ("/proc/self/oom_score_adj", {"EACCES"}),
        ("/proc/self/uid_map", {"EACCES"}),
        ("/proc/self/mem", {"EACCES"}),
        ("/proc/1/oom_score_adj", {"ENOENT", "EACCES"}),
        ("/proc/sys/kernel/hostname", {"ENOENT", "EACCES"}),
        ("/proc/sysrq-trigger", {"ENOENT", "EACCES"}),
    ],
)
def test_nothing_outside_the_own_folders_can_be_written(run_code, path, errors):
    outcome = run_code("answer(attempt(open, path, 'w'))", given={"path": path})

    assert outcome.answer in errors


def test_neither_the_environment_nor_its_python_can_be_changed(run_code):
    outcome = run_code(
        """
        import sys
        folders = (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))
        answer([attempt(open, os.path.join(folder, "planted.py"), "w") for folder in folders])
        """
    )

    assert set(outcome.answer) <= {"EROFS", "EACCES"}


@pytest.mark.parametrize("folder", ["/mnt/data", "/tmp", "/dev/shm"])
def test_the_own_folders_can_be_written(run_code, folder):
    outcome = run_code("answer(attempt(open, folder + '/x', 'w'))", given={"folder": folder})

    assert outcome.answer == "ok"


def test_a_device_cannot_be_made(run_code):
    outcome = run_code("answer(attempt(os.mknod, 'zero', 0o20666, os.makedev(1, 5)))")

    assert outcome.answer in {"EPERM", "EACCES"}


@pytest.mark.parametrize("folder", ["/", "/dev", "/mnt"])
def test_folders_that_lead_to_the_own_ones_cannot_be_listed(run_code, folder):
    outcome = run_code("answer(attempt(os.listdir, folder))", given={"folder": folder})

    assert outcome.answer == "EACCES"


@pytest.mark.parametrize("device", ["kvm", "mem", "kmsg", "fuse", "net/tun", "tty", "ptmx"])
def test_devices_of_the_host_do_not_exist(run_code, device):
    outcome = run_code("answer(attempt(os.open, device, os.O_RDWR))", given={"device": f"/dev/{device}"})

    assert outcome.answer == "ENOENT"


def test_the_mount_table_shows_read_only_binds_and_own_memory_disks(run_code):
    outcome = run_code(
        """
        rows = [line.split(" - ") for line in read("/proc/self/mountinfo").splitlines()]
        answer([[left.split()[4], left.split()[5].split(",")[0], right.split()[0]] for left, right in rows])
        """
    )

    writable = {point for point, mode, kind in outcome.answer if mode == "rw" and kind != "proc"}
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}
    assert {point for point in writable - devices if not point.startswith(("/tmp", "/mnt/data", "/dev/shm"))} == set()
    assert "/.old" not in {point for point, _, _ in outcome.answer}


def test_a_set_user_id_program_gives_no_power(run_code):
    outcome = run_code(
        """
        import shutil, subprocess
        shutil.copy("/bin/sh", "shell")
        os.chmod("shell", 0o6755)
        printed = subprocess.run(["./shell", "-p", "-c", "id -u; id -g"], capture_output=True, text=True).stdout
        answer(printed.split())
        """
    )

    assert outcome.answer == ["1000", "1000"]
