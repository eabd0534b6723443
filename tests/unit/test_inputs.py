"""Input files: refused by name before anything is touched, then written as the guest's user and nobody else."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bichat.domain import Limits
from bichat.errors import LimitError, UserInputError
from bichat.sandbox.artifacts import Snapshot, capture
from bichat.sandbox.inputs import InputSource, acting_as, check_inputs, write_input
from bichat.sizes import GIB, KIB, MIB

#: A host uid without an account, as the sandbox uses as root.
GUEST_UID = 210_000

#: Mounts a tmpfs in a user namespace of its own, sends a descriptor of it, and lives until the socket closes.
GUEST = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
uid = int(sys.argv[1])
wire = socket.socket(fileno=int(sys.argv[2]))
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid); libc.prctl(4, 1, 0, 0, 0)
if libc.unshare(0x10000000 | 0x20000):
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {uid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
if libc.mount(b"none", b"/mnt", b"tmpfs", 6, b"size=1m,nr_inodes=50,mode=755"):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
socket.send_fds(wire, [b"x"], [os.open("/mnt", os.O_RDONLY | os.O_DIRECTORY)])
wire.recv(1)
"""


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """A tmpfs of 1 MiB that belongs to another user namespace, and who owns it on the host."""

    dirfd: int
    owner: tuple[int, int] | None

    def read(self, name: str) -> bytes:
        with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=self.dirfd), "rb") as file:
            return file.read()

    def names(self) -> list[str]:
        with os.scandir(self.dirfd) as entries:
            return [entry.name for entry in entries]

    def write(self, name: str, source: InputSource) -> None:
        (file,) = check_inputs({name: source}, Limits())
        write_input(self.dirfd, file, self.owner)


@pytest.fixture
def disk() -> Iterator[GuestDisk]:
    is_root = os.geteuid() == 0
    uid = GUEST_UID if is_root else os.getuid()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", GUEST, str(uid), str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as guest:
            theirs.close()
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            if not descriptors:
                pytest.skip(f"no user namespace here: {guest.communicate()[1].decode()}")
            yield GuestDisk(descriptors[0], (uid, uid) if is_root else None)
            os.close(descriptors[0])
            ours.close()


def _refused(files: dict[str, object], limits: Limits = Limits()) -> UserInputError:  # noqa: B008
    with pytest.raises(UserInputError) as caught:
        check_inputs(files, limits)  # pyright: ignore[reportArgumentType]

    assert caught.value.stage == "input"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "../x", "nul\0", "x" * 256, "é" * 128, "\ud800", "a" * 10_000_000]
)
def test_a_name_that_cannot_stand_in_the_folder_is_refused(name: str):
    assert len(_refused({name: b""}).message) < 300


@pytest.mark.parametrize("name", ["sales.csv", "売上 2024.csv", "line\nbreak", "x" * 255, ".hidden", "..."])
def test_any_other_name_is_taken(name: str):
    assert [file.name for file in check_inputs({name: b"x"}, Limits())] == [name]


def test_a_missing_file_is_named_with_its_path(tmp_path: Path):
    assert str(tmp_path / "no.csv") in _refused({"sales.csv": tmp_path / "no.csv"}).message


@pytest.mark.parametrize(
    "make,word",
    [
        (lambda path: path.mkdir(), "folder"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("loop"), "missing"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
    ],
    ids=["folder", "fifo", "dangling", "loop"],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], word: str):
    make(tmp_path / "x")

    assert word in _refused({"x": tmp_path / "x"}).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path):
    (tmp_path / "x").write_text("x")
    (tmp_path / "x").chmod(0)

    assert "Permission denied" in _refused({"x": tmp_path / "x"}).message


@pytest.mark.parametrize("source", [io.StringIO("text"), 5, None, ["x"]])
def test_what_gives_no_bytes_is_refused(source: object):
    assert "'x'" in _refused({"x": source}).message


def test_a_stream_that_cannot_seek_is_refused_with_what_to_do_instead():
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert "read()" in _refused({"x": pipe}).remedy


def test_a_path_with_a_nul_is_refused():
    assert "'x'" in _refused({"x": "a\0b"}).message


def test_a_three_gigabyte_file_is_refused_before_a_byte_is_copied(tmp_path: Path):
    with (tmp_path / "big.csv").open("wb") as file:
        file.truncate(3 * GIB)

    error = _refused({"small.csv": b"x", "big.csv": tmp_path / "big.csv"})

    assert isinstance(error, LimitError)
    assert error.message.startswith("the input file 'big.csv' has 3.0 GiB")
    assert "1.0 GiB (disk_bytes)" in error.message


def test_files_that_only_together_are_too_large_are_refused():
    assert isinstance(_refused({"a": b"x" * 600, "b": b"x" * 600}, Limits(disk_bytes=1000)), LimitError)


def test_more_files_than_the_disk_has_inodes_are_refused():
    assert isinstance(_refused({str(number): b"" for number in range(11)}, Limits(inodes=10)), LimitError)


def test_paths_bytes_and_streams_all_arrive_with_the_guest_as_their_owner(disk: GuestDisk, tmp_path: Path):
    content = os.urandom(300 * KIB)
    (tmp_path / "source").write_bytes(content)
    stream = io.BytesIO(b"skipped:rest")
    stream.seek(8)
    before = os.umask(0o077)
    try:
        for file in check_inputs({"path": tmp_path / "source", "bytes": b"abc", "stream": stream}, Limits()):
            write_input(disk.dirfd, file, disk.owner)
    finally:
        os.umask(before)

    assert [disk.read(name) for name in ("path", "bytes", "stream")] == [content, b"abc", b"rest"]
    status = os.stat("path", dir_fd=disk.dirfd)
    assert (status.st_uid, status.st_gid) == (disk.owner or (os.getuid(), os.getgid()))
    assert stat.S_IMODE(status.st_mode) == 0o644


def test_an_input_can_be_written_again_into_the_next_sandbox(disk: GuestDisk):
    (file,) = check_inputs({"a": io.BytesIO(b"abc")}, Limits())

    write_input(disk.dirfd, file, disk.owner)
    write_input(disk.dirfd, replace(file, name="b"), disk.owner)

    assert disk.read("a") == disk.read("b") == b"abc"


def test_an_input_that_the_code_leaves_alone_is_no_artifact_and_one_that_it_changes_at_once_is(
    disk: GuestDisk, tmp_path: Path
):
    for file in check_inputs({"kept.csv": b"a,b", "changed.csv": b"a,b"}, Limits()):
        write_input(disk.dirfd, file, disk.owner)
    before = capture(disk.dirfd, Snapshot({}), Limits(), tmp_path).after

    with os.fdopen(os.open("changed.csv", os.O_WRONLY, dir_fd=disk.dirfd), "wb") as changed:
        changed.write(b"c,d")

    captured = capture(disk.dirfd, before, Limits(), tmp_path)
    assert [(artifact.name, artifact.read_bytes()) for artifact in captured.artifacts] == [("changed.csv", b"c,d")]


def test_a_symlink_planted_under_the_name_is_replaced_and_not_followed(disk: GuestDisk, tmp_path: Path):
    (tmp_path / "secret").write_text("untouched")
    with acting_as(disk.owner):
        os.symlink(tmp_path / "secret", "a", dir_fd=disk.dirfd)

    disk.write("a", b"new")

    assert (tmp_path / "secret").read_text() == "untouched"
    assert disk.read("a") == b"new"


def test_a_folder_under_the_name_is_an_error_in_words(disk: GuestDisk):
    with acting_as(disk.owner):
        os.mkdir("a", dir_fd=disk.dirfd)

    with pytest.raises(UserInputError):
        disk.write("a", b"new")


def test_a_disk_that_is_full_is_named_and_the_half_file_removed(disk: GuestDisk):
    with pytest.raises(LimitError) as caught:
        disk.write("big", b"x" * 2 * MIB)

    assert "1.0 MiB is full (disk_bytes" in caught.value.message
    assert disk.names() == []


def test_a_source_that_grew_since_it_was_checked_is_stopped(disk: GuestDisk, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    (file,) = check_inputs({"a": tmp_path / "a"}, Limits())
    (tmp_path / "a").write_bytes(b"abcdef")

    with pytest.raises(LimitError):
        write_input(disk.dirfd, file, disk.owner)

    assert disk.names() == []


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"a"), Path.unlink], ids=["shrank", "gone"])
def test_a_source_that_shrank_or_went_away_is_never_half_an_input(
    disk: GuestDisk, tmp_path: Path, change: Callable[[Path], object]
):
    (tmp_path / "a").write_bytes(b"abc")
    (file,) = check_inputs({"a": tmp_path / "a"}, Limits())
    change(tmp_path / "a")

    with pytest.raises(UserInputError):
        write_input(disk.dirfd, file, disk.owner)

    assert disk.names() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_root_itself_cannot_make_a_file_there_which_is_why_it_acts_as_the_owner(disk: GuestDisk):
    with pytest.raises(OSError, match="Value too large"):
        os.open("a", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=disk.dirfd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
def test_only_this_thread_acts_as_the_owner_and_only_for_the_block(tmp_path: Path):
    tmp_path.chmod(0o777)
    acting = threading.Event()
    folder = os.open(tmp_path, os.O_RDONLY)

    def make(name: str) -> int:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        return os.stat(name, dir_fd=folder).st_uid

    def make_elsewhere() -> int:
        acting.wait()
        return make("elsewhere")

    def fail_as_the_guest() -> None:
        with acting_as((GUEST_UID, GUEST_UID)):
            acting.set()
            owners.extend([make("here"), elsewhere.result()])
            raise ZeroDivisionError

    owners: list[int] = []
    with ThreadPoolExecutor() as threads:
        elsewhere = threads.submit(make_elsewhere)
        with pytest.raises(ZeroDivisionError):
            fail_as_the_guest()
    owners.append(make("after"))
    os.close(folder)

    assert owners == [GUEST_UID, 0, 0]


def test_no_descriptor_stays_open(disk: GuestDisk, tmp_path: Path, open_descriptors):
    (tmp_path / "a").write_bytes(b"abc")
    before = open_descriptors()

    for file in check_inputs({"a": tmp_path / "a", "b": b"b"}, Limits()):
        write_input(disk.dirfd, file, disk.owner)
    with pytest.raises(LimitError):
        disk.write("big", b"x" * 2 * MIB)

    assert open_descriptors() == before
