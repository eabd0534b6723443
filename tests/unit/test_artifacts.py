"""Capture: what a guest leaves is taken or refused with a reason, whatever it does meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bichat.domain import Artifact, Limits, RefusedFile
from bichat.errors import StorageError
from bichat.sandbox.artifacts import MAX_REFUSALS, Capture, Snapshot, capture, capture_one
from bichat.sizes import GIB, KIB, MIB

NOTHING = Snapshot({})


class GuestFolder:
    """A folder that stands for `/mnt/data`, seen as the supervisor sees it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "data"
        self.spool = root / "spool"
        self.path.mkdir()
        self.spool.mkdir()
        self.dirfd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def snapshot(self) -> Snapshot:
        return self.capture().after

    def capture(self, before: Snapshot = NOTHING, limits: Limits = Limits()) -> Capture:  # noqa: B008
        return capture(self.dirfd, before, limits, self.spool)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[GuestFolder]:
    folder = GuestFolder(tmp_path)
    yield folder
    os.close(folder.dirfd)


def _names(captured: Capture) -> list[str]:
    return [artifact.name for artifact in captured.artifacts]


def _reasons(captured: Capture) -> dict[str, str]:
    return {refused.name: refused.reason for refused in captured.refused}


@contextmanager
def _meanwhile(act: Callable[[], object]) -> Generator[None]:
    """`act` again and again in a thread of its own, for as long as the block runs."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            act()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_new_and_changed_files_are_captured_and_untouched_ones_are_not(guest: GuestFolder):
    (guest.path / "input.csv").write_text("a,b\n")
    (guest.path / "rewritten.csv").write_text("a,b\n")
    before = guest.snapshot()
    (guest.path / "rewritten.csv").write_text("c,d\n")
    (guest.path / "plots").mkdir()
    (guest.path / "plots" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    captured = guest.capture(before)

    assert [artifact.to_dict() for artifact in captured.artifacts] == [
        {
            "name": "plots/a.png",
            "mime_type": "image/png",
            "size_bytes": 8,
            "sha256": hashlib.sha256(b"\x89PNG\r\n\x1a\n").hexdigest(),
            "source": "file",
            "is_complete": True,
            "id": "",
            "url": "",
            "not_kept": "",
        },
        {
            "name": "rewritten.csv",
            "mime_type": "text/csv",
            "size_bytes": 4,
            "sha256": hashlib.sha256(b"c,d\n").hexdigest(),
            "source": "file",
            "is_complete": True,
            "id": "",
            "url": "",
            "not_kept": "",
        },
    ]
    assert captured.refused == ()


def test_a_change_is_seen_although_the_guest_puts_the_time_and_size_back(guest: GuestFolder):
    file = guest.path / "input.csv"
    file.write_text("a,b\n")
    status = file.stat()
    before = guest.snapshot()

    file.write_text("c,d\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert _names(guest.capture(before)) == ["input.csv"]


def test_captured_bytes_outlive_the_guest_and_its_changes(guest: GuestFolder):
    (guest.path / "a.txt").write_text("as it was")
    (artifact,) = guest.capture().artifacts

    (guest.path / "a.txt").write_text("later")

    assert artifact.read_bytes() == b"as it was"


def test_hidden_files_are_captured_and_byte_code_is_passed_over(guest: GuestFolder):
    (guest.path / ".hidden").write_text("x")
    (guest.path / "__pycache__").mkdir()
    (guest.path / "__pycache__" / "helper.cpython-311.pyc").write_bytes(b"\0")

    captured = guest.capture()

    assert captured.refused == ()
    assert _names(captured) == [".hidden"]


@pytest.mark.parametrize(
    "name,shown",
    [
        (b"line\nbreak", "line\nbreak"),
        (b"..\\..\\boot.ini", "..\\..\\boot.ini"),
        (b"\xff\xfe.csv", "\\xff\\xfe.csv"),
        (b"n" * 255, "n" * 255),
        (b"CON", "CON"),
        (b" ", " "),
        ("売上.png".encode(), "売上.png"),
    ],
)
def test_a_strange_name_is_data_like_any_other(guest: GuestFolder, name: bytes, shown: str):
    Path(os.fsdecode(os.fsencode(guest.path) + b"/" + name)).write_text("x")

    assert _names(guest.capture()) == [shown]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    name=st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
)
def test_whatever_name_the_kernel_takes_is_captured(guest: GuestFolder, name: bytes):
    path = Path(os.fsdecode(os.fsencode(guest.path) + b"/" + name))
    path.write_text("x")

    captured = guest.capture()
    path.unlink()

    assert [artifact.size_bytes for artifact in captured.artifacts] == [1]


def test_what_is_no_regular_file_is_refused_with_its_kind(guest: GuestFolder, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (guest.path / "link").symlink_to(secret)
    (guest.path / "loop").symlink_to("loop")
    (guest.path / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(guest.path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(".", os.O_PATH)
        os.chdir(guest.path)
        try:
            listener.bind("socket")
        finally:
            os.fchdir(here)
            os.close(here)
        captured = guest.capture()

    assert captured.artifacts == ()
    assert {name: reason.split(":")[0] for name, reason in _reasons(captured).items()} == {
        "fifo": "a FIFO",
        "link": "a symbolic link",
        "loop": "a symbolic link",
        "socket": "a socket",
        "up": "a symbolic link",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_refused_and_never_opened(guest: GuestFolder):
    os.mknod(guest.path / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))

    assert _reasons(guest.capture())["zero"].startswith("a device")


def test_what_was_refused_before_is_not_reported_again(guest: GuestFolder):
    os.mkfifo(guest.path / "fifo")
    before = guest.snapshot()

    assert guest.capture(before) == Capture(artifacts=(), refused=(), after=before)


def test_locked_files_and_folders_are_read_and_stay_locked(guest: GuestFolder):
    (guest.path / "locked").mkdir()
    (guest.path / "locked" / "a.txt").write_text("a")
    (guest.path / "locked" / "a.txt").chmod(0)
    (guest.path / "locked").chmod(0)
    guest.path.chmod(0)
    try:
        captured = guest.capture()
        modes = [stat.S_IMODE(os.fstat(guest.dirfd).st_mode)]
    finally:
        guest.path.chmod(0o700)
    modes.append(stat.S_IMODE((guest.path / "locked").stat().st_mode))
    (guest.path / "locked").chmod(0o700)
    modes.append(stat.S_IMODE((guest.path / "locked" / "a.txt").stat().st_mode))

    assert [(artifact.name, artifact.read_bytes()) for artifact in captured.artifacts] == [("locked/a.txt", b"a")]
    assert captured.refused == ()
    assert modes == [0, 0, 0]


def test_a_locked_file_is_captured_once_and_again_when_it_was_written_to(guest: GuestFolder):
    file = guest.path / "locked.txt"
    file.write_text("a")
    file.chmod(0)
    first = guest.capture()
    capture_one(guest.dirfd, "locked.txt", Limits(), guest.spool)
    second = guest.capture(first.after)
    file.chmod(0o200)
    with file.open("a") as stream:
        stream.write("b")
    file.chmod(0)

    third = guest.capture(second.after)

    assert [_names(each) for each in (first, second, third)] == [["locked.txt"], [], ["locked.txt"]]


def test_a_file_under_a_lease_holds_nobody_up(guest: GuestFolder):
    (guest.path / "leased").write_text("x")
    handler = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with (guest.path / "leased").open("r+") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            captured = guest.capture()
    finally:
        signal.signal(signal.SIGIO, handler)

    assert captured.refused == (RefusedFile(name="leased", reason="cannot be read: Resource temporarily unavailable"),)


def test_folders_nested_three_hundred_deep_are_read_to_the_limit_and_refused_below_it(guest: GuestFolder):
    folder = os.dup(guest.dirfd)
    for depth in range(300):
        file = os.open(f"at{depth}.txt", os.O_CREAT | os.O_WRONLY, dir_fd=folder)
        os.close(file)
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)

    captured = guest.capture()

    assert len(captured.artifacts) == 33
    assert _reasons(captured) == {"/".join("d" * 33): "nested more than 32 folders deep"}


def test_a_path_longer_than_the_kernel_takes_is_refused(guest: GuestFolder):
    folder = os.dup(guest.dirfd)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("a.txt", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)

    captured = guest.capture()

    assert captured.artifacts == ()
    assert [refused.reason for refused in captured.refused] == ["its path has 5,025 bytes, the limit is 4,095"]


def test_a_sparse_terabyte_is_refused_before_a_byte_is_read(guest: GuestFolder):
    with (guest.path / "huge").open("wb") as file:
        file.truncate(1024 * GIB)
    (guest.path / "small").write_text("x")

    captured = guest.capture()

    assert _names(captured) == ["small"]
    assert _reasons(captured) == {
        "huge": "1024.0 GiB is above the limit of 512.0 MiB for one file (artifact_bytes)",
    }


def test_hard_links_to_one_big_file_cannot_fill_the_hosts_disk(guest: GuestFolder):
    (guest.path / "00").write_bytes(b"x" * MIB)
    for number in range(1, 50):
        os.link(guest.path / "00", guest.path / f"{number:02}")

    captured = guest.capture(limits=Limits(disk_bytes=10 * MIB))

    assert _names(captured) == [f"{number:02}" for number in range(10)]
    assert set(_reasons(captured).values()) == {"the files together pass the limit of 10.0 MiB (disk_bytes)"}
    assert len(captured.refused) == 40


def test_files_beyond_the_number_allowed_are_refused_and_those_at_the_top_come_first(guest: GuestFolder):
    (guest.path / "frames").mkdir()
    for number in range(5):
        (guest.path / "frames" / f"{number}.png").write_text("x")
    (guest.path / "report.pdf").write_text("x")

    captured = guest.capture(limits=Limits(artifacts=3))

    assert _names(captured) == ["frames/0.png", "frames/1.png", "report.pdf"]
    assert _reasons(captured) == {f"frames/{number}.png": "more than 3 files (artifacts)" for number in (2, 3, 4)}


def test_twenty_thousand_files_give_a_bounded_answer(guest: GuestFolder):
    for number in range(20_000):
        os.close(os.open(f"{number:05}", os.O_CREAT | os.O_WRONLY, dir_fd=guest.dirfd))

    captured = guest.capture()

    assert len(captured.artifacts) == 200
    assert len(captured.refused) == MAX_REFUSALS + 1
    assert captured.refused[-1] == RefusedFile(name="…", reason="19,700 more were refused")


def test_more_entries_than_the_disk_may_have_end_the_search(guest: GuestFolder):
    for number in range(1_100):
        (guest.path / str(number)).symlink_to("x")

    captured = guest.capture(limits=Limits(inodes=10))

    assert _reasons(captured)["."] == "more than 1,010 files and folders: the rest was not looked at"
    assert captured.refused[-1].reason == "910 more were refused"


def test_a_symlink_swapped_in_while_capturing_never_leaks_what_it_points_to(guest: GuestFolder, tmp_path: Path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "file").write_text("secret")
    (guest.path / "folder").mkdir()
    (guest.path / "folder" / "file").write_text("honest")
    (guest.path / "file").write_text("honest")
    turns = iter(range(10**9))

    def swap() -> None:
        fresh = tmp_path / "fresh"
        if next(turns) % 2:
            fresh.write_text("honest")
            fresh.replace(guest.path / "file")
            (guest.path / "folder").rename(tmp_path / "aside")
            (guest.path / "folder").symlink_to(secrets)
        else:
            fresh.symlink_to(secrets / "file")
            fresh.replace(guest.path / "file")
            if (tmp_path / "aside").exists():
                (guest.path / "folder").unlink()
                (tmp_path / "aside").rename(guest.path / "folder")

    contents: set[bytes] = set()
    reasons: set[str] = set()
    with _meanwhile(swap):
        for _ in range(400):
            captured = guest.capture()
            contents |= {artifact.read_bytes() for artifact in captured.artifacts}
            reasons |= set(_reasons(captured).values())

    assert b"secret" not in contents
    assert contents <= {b"honest", b""}
    assert reasons <= {
        "a symbolic link: only regular files are captured",
        "a folder where a file was",
        "a file where a folder was",
    }


def test_a_file_that_grows_and_shrinks_while_it_is_read_is_described_as_it_was_copied(guest: GuestFolder):
    limits = Limits(artifact_bytes=2 * MIB)
    path = guest.path / "restless"
    path.write_bytes(b"")
    sizes = iter(range(10**9))

    def resize() -> None:
        os.truncate(path, (0, 64 * KIB, 1 * MIB, 3 * MIB)[next(sizes) % 4])

    artifacts: list[Artifact] = []
    with _meanwhile(resize):
        for _ in range(200):
            artifacts += guest.capture(limits=limits).artifacts

    for artifact in artifacts:
        content = artifact.read_bytes()
        assert len(content) == artifact.size_bytes <= 2 * MIB
        assert hashlib.sha256(content).hexdigest() == artifact.sha256


def test_a_folder_without_content_opens_no_spool(guest: GuestFolder):
    guest.spool.rmdir()
    (guest.path / "empty.txt").write_text("")

    assert [artifact.size_bytes for artifact in guest.capture().artifacts] == [0]


def test_a_spool_that_cannot_be_written_is_an_error_and_not_a_missing_file(guest: GuestFolder):
    guest.spool.rmdir()
    (guest.path / "a.txt").write_bytes(bytes(2 << 20))

    with pytest.raises(StorageError) as caught:
        guest.capture()

    assert caught.value.stage == "capture"


def test_a_folder_that_is_gone_is_an_error_in_words(tmp_path: Path):
    file = os.open(tmp_path, os.O_RDONLY)
    os.close(file)

    with pytest.raises(StorageError) as caught:
        capture(file, NOTHING, Limits(), tmp_path)

    assert "/mnt/data" in caught.value.message


def test_the_read_position_of_the_shared_descriptor_does_not_matter(guest: GuestFolder):
    (guest.path / "a.txt").write_text("x")
    os.lseek(guest.dirfd, 2**40, os.SEEK_SET)

    assert _names(guest.capture()) == ["a.txt"]


def test_no_descriptor_stays_open_whether_capture_works_or_fails(guest: GuestFolder, open_descriptors):
    (guest.path / "a" / "b").mkdir(parents=True)
    (guest.path / "a" / "b" / "c.txt").write_bytes(bytes(2 << 20))
    os.mkfifo(guest.path / "a" / "fifo")
    before = open_descriptors()

    guest.capture()
    guest.capture(limits=Limits(artifacts=1, inodes=1))
    guest.spool.rmdir()
    with pytest.raises(StorageError):
        guest.capture()

    assert open_descriptors() == before
