"""The spool: captured bytes live exactly as long as somebody holds them, and leave no trace."""

from __future__ import annotations

import gc
import os
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from bichat.errors import StorageError
from bichat.sandbox.spool import Spool
from bichat.sizes import MIB


def _open_files(folder: Path) -> int:
    targets: list[Path] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(descriptor.readlink())
    return sum(target.is_relative_to(folder) for target in targets)


def test_contents_come_back_as_they_were_and_more_than_once(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    big = os.urandom(2 * MIB + 5)
    spool.append(b"small")
    spool.append(big)

    small, large = spool.content(0, 5), spool.content(5, len(big))

    assert b"".join(large.chunks()) == b"".join(large.chunks()) == big
    assert [len(chunk) for chunk in large.chunks()] == [MIB, MIB, 5]
    assert list(small.chunks()) == [b"small"]


def test_two_readers_do_not_disturb_each_other(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    content = os.urandom(3 * MIB)
    spool.append(content)

    pairs = list(zip(spool.content(0, 3 * MIB).chunks(), spool.content(0, 3 * MIB).chunks(), strict=True))

    assert b"".join(first for first, _ in pairs) == b"".join(second for _, second in pairs) == content


def test_an_empty_file_needs_no_disk(tmp_path: Path):
    spool = Spool(tmp_path / "missing")

    assert list(spool.content(0, 0).chunks()) == []


def test_nothing_has_a_name_on_the_disk_even_while_it_is_held(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    spool.append(b"x")

    assert list(tmp_path.iterdir()) == []
    assert _open_files(tmp_path) == 1


def test_the_disk_space_is_given_back_with_the_last_content(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    spool.append(b"ab")
    first, second = spool.content(0, 1), spool.content(1, 1)

    del spool, first
    gc.collect()
    assert list(second.chunks()) == [b"b"]
    del second
    gc.collect()

    assert _open_files(tmp_path) == 0


def test_what_is_cut_off_is_overwritten(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    spool.append(b"keep")
    spool.append(b"half of a file that")
    spool.cut(4)
    spool.append(b"!")

    assert b"".join(spool.content(0, spool.size_bytes).chunks()) == b"keep!"


def test_a_missing_folder_is_an_error_in_words(tmp_path: Path):
    with pytest.raises(StorageError) as caught:
        Spool(tmp_path / "missing", memory_bytes=0).append(b"x")

    assert caught.value.stage == "capture"
    assert "No such file or directory" in caught.value.message


def test_a_full_disk_is_an_error_in_words_and_leaves_nothing(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError) as caught:
            spool.append(b"x" * 8192)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.stage == "capture"
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_the_disk_lost_are_an_error_and_never_a_shorter_file(tmp_path: Path):
    spool = Spool(tmp_path, memory_bytes=0)
    spool.append(b"abc")
    content = spool.content(0, 10)

    with pytest.raises(StorageError):
        list(content.chunks())
