"""The installation's secret: made once, for its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from bichat.errors import StorageError
from bichat.settings.secret import load_secret


def test_it_is_made_once_and_stays(tmp_path):
    first = load_secret(tmp_path / "data")

    assert len(first) == 32
    assert load_secret(tmp_path / "data") == first
    assert load_secret(tmp_path / "other") != first
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret"]


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_nobody_else_may_read_it_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        tmp_path.chmod(0o700)
        load_secret(tmp_path)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_processes_that_start_at_the_same_moment_get_the_same_one(tmp_path):
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(load_secret, [tmp_path] * 64))

    assert len(found) == 1


def test_one_that_others_may_read_is_refused_with_the_remedy(tmp_path):
    load_secret(tmp_path)
    (tmp_path / "secret").chmod(0o640)

    with pytest.raises(StorageError, match="others may read") as told:
        load_secret(tmp_path)
    assert "chmod 600" in told.value.remedy


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_one_of_a_wrong_length_is_refused(tmp_path, content):
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "secret").chmod(0o600)

    with pytest.raises(StorageError, match="32 bytes"):
        load_secret(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"x" * 32)
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError):
        load_secret(tmp_path)
