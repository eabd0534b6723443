from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bichat.sandbox.environments.environment import MANIFEST, Environment, Preload, read_manifest


def make(path: Path) -> Environment:
    """An environment with every field set."""
    return Environment(
        name="finance",
        path=path,
        base_prefix=Path("/usr"),
        base_python=Path("/usr/bin/python3.11"),
        python_version="3.11.7",
        lock_hash="ab" * 32,
        base="data",
        packages={"numpy": "2.4.6"},
        preload=("numpy",),
        preload_rss_bytes=25_000_000,
        tried=(
            Preload(module="numpy", seconds=0.1, rss_bytes=25_000_000),
            Preload(module="polars", threads=("polars-ooc-clea",), refused="leaves threads behind"),
        ),
        variables={"MPLCONFIGDIR": "/tmp/.matplotlib"},
        size_bytes=1_000,
        created_at=datetime(2026, 11, 22, 17, 30, tzinfo=UTC),
    )


def test_a_manifest_says_all_of_an_environment_but_where_it_stands(tmp_path: Path):
    environment = make(tmp_path)

    (tmp_path / MANIFEST).write_text(json.dumps(environment.to_dict()), encoding="utf-8")

    assert read_manifest(tmp_path) == environment
    assert str(tmp_path) not in (tmp_path / MANIFEST).read_text(encoding="utf-8")


def test_refused_modules_keep_their_reasons(tmp_path: Path):
    assert [(candidate.module, candidate.refused) for candidate in make(tmp_path).refused] == [
        ("polars", "leaves threads behind")
    ]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"manifest_version": 1}', b'{"manifest_version": 99}', b"\xff\xfe"],
)
def test_what_is_not_a_whole_manifest_is_as_good_as_none(tmp_path: Path, content: bytes):
    (tmp_path / MANIFEST).write_bytes(content)

    assert read_manifest(tmp_path) is None


def test_a_folder_without_manifest_or_no_folder_is_no_environment(tmp_path: Path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "none") is None


def test_finding_an_environment_imports_nothing_that_only_building_needs():
    code = "import sys, bichat.sandbox.environments as e; e.EnvironmentStore; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    heavy = {"subprocess", "asyncio", "pydantic", "rich", "anyio", "uv", "bichat.sandbox.environments.builder"}
    assert heavy.isdisjoint(loaded)
