"""Folders that a guest filled: links, FIFOs, sockets, locked and deep folders, names of any bytes."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bichat.domain import Limits
from bichat.errors import LimitError, NotFoundError
from bichat.files import save_files
from bichat.names import display_name
from bichat.sandbox.artifacts import Snapshot, capture, capture_one, listing
from bichat.sandbox.walk import MAX_DEPTH
from fuzz_targets.checks import (
    assert_can_be_written_down,
    assert_steers_nothing,
    descriptors_kept,
    fresh_folder,
    sha256,
)
from fuzz_targets.choices import NAMES, Choices

_LIMITS: Final = Limits(artifact_bytes=256, artifacts=8, inodes=64)
_MAX_ENTRIES: Final = 24

#: Name and bytes of a regular file; two may have the same name, where one is spelled with the escapes of the other.
_Files = list[tuple[str, bytes]]


def captures(data: bytes, room: Path) -> None:
    """Each regular file is captured with its bytes or refused with a reason, nothing else is, and once unless it changes."""
    choices = Choices(data)
    with descriptors_kept(), fresh_folder(room) as folder, _filled(choices, folder) as (root, there):
        captured = capture(root, Snapshot({}), _LIMITS, folder)
        again = capture(root, captured.after, _LIMITS, folder)

        taken = [(artifact.name, artifact.read_bytes()) for artifact in captured.artifacts]
        refused = {one.name: one.reason for one in captured.refused}
        assert all(one in there for one in taken)
        assert all(refused.values())
        assert all(name in refused or _cut(name) in refused for name, _ in set(there) - set(taken))
        assert len(taken) <= _LIMITS.artifacts
        assert all(sha256(artifact) == artifact.sha256 for artifact in captured.artifacts)
        assert not again.artifacts
        saved = save_files([(one.name, one.content.chunks()) for one in captured.artifacts], folder / "out")
        assert [path.read_bytes() for path in saved] == [content for _, content in taken]


def listings(data: bytes, room: Path) -> None:
    """Files are listed as they are, and each is given out by its name; no other name, or word, gives anything."""
    choices = Choices(data)
    asked = choices.spelled(NAMES, choices.number(5)).decode("utf-8", "surrogateescape")
    with descriptors_kept(), fresh_folder(room) as folder, _filled(choices, folder) as (root, there):
        listed = listing(root, _LIMITS)

        assert sorted((one.name, one.size_bytes) for one in listed) == sorted(
            (name, len(content)) for name, content in there
        )
        for name in {asked, *(one.name for one in listed)}:
            try:
                artifact = capture_one(root, name, _LIMITS, folder)
            except (NotFoundError, LimitError) as error:
                assert_steers_nothing(error.message)
                assert all(len(content) > _LIMITS.artifact_bytes for each, content in there if each == name)
                continue
            assert (name, artifact.read_bytes()) in there
            assert_can_be_written_down(name)


def _cut(name: str) -> str:
    """As one that was refused is told of."""
    return f"{name[:1_024]}…"


@contextmanager
def _filled(choices: Choices, folder: Path) -> Generator[tuple[int, _Files]]:
    """A descriptor of a folder with what was chosen in it, and the regular files that can be captured.

    Beside it lies what no name in it may lead to.
    """
    (folder / "data").mkdir()
    (folder / "secret").write_bytes(b"secret")
    root = os.open(folder / "data", os.O_RDONLY | os.O_DIRECTORY)
    locks: dict[bytes, int] = {}
    try:
        for _ in range(_MAX_ENTRIES):
            if choices.left:
                with suppress(OSError):  # a name that is taken, empty, too long, or below what is no folder
                    _make(choices, root, locks)
        there = _regular(root)
        for name, mode in locks.items():
            with suppress(OSError):
                _lock(name, mode, root)
        yield root, there
    finally:
        os.close(root)


def _make(choices: Choices, root: int, locks: dict[bytes, int]) -> None:
    kind = choices.number(12)
    # No slash at the start, and no `..`: what is made lies below the folder.
    parts = choices.spelled(NAMES, choices.number(5)).replace(b"\0", b"x").split(b"/")
    name = b"/".join(part for part in parts if part not in (b"", b".", b".."))
    match kind:
        case 0:
            os.mkdir(name, dir_fd=root)
        case 1:
            os.symlink((b"../secret", b".", b"..", name)[choices.number(4)], name, dir_fd=root)
        case 2:
            os.mkfifo(name, dir_fd=root)
        case 3:
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(f"/proc/self/fd/{root}/{os.fsdecode(name)}")
        case 4:
            os.link(
                next(iter(sorted(os.listdir(root))), ""), name, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False
            )
        case 5:
            _make_deep(name, MAX_DEPTH - 1 + choices.number(3), root)
        case 6:
            locks[name] = choices.number(8)
        case 7:
            os.utime(name, ns=(0, (-1, 2**62, 2**33 * 10**9)[choices.number(3)]), dir_fd=root, follow_symlinks=False)
        case _:
            _write(name, choices.chunk(64) * (1 + 8 * (kind == 8)), root)


def _write(name: bytes, content: bytes, root: int) -> None:
    with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root), "wb") as file:
        file.write(content)


def _make_deep(name: bytes, depth: int, root: int) -> None:
    """Folders of that name inside one another, with a file in the last."""
    for at in range(1, depth + 1):
        os.mkdir(b"/".join([name] * at), dir_fd=root)
    _write(b"/".join([name] * (depth + 1)), b"deep", root)


def _lock(name: bytes, mode: int, root: int) -> None:
    """As far as the owner goes; nothing of what others may do."""
    if not stat.S_ISLNK(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
        os.chmod(name, mode << 6, dir_fd=root)


def _regular(root: int) -> _Files:
    found: _Files = []
    for path, folders, files, descriptor in os.fwalk(b".", dir_fd=root):
        folders[:] = [name for name in folders if name != b"__pycache__"]
        if path.count(b"/") > MAX_DEPTH:
            continue
        for name in files:
            if stat.S_ISREG(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                with open(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb") as file:
                    found.append((display_name(os.path.join(path, name)[2:]), file.read()))
    return sorted(found)
