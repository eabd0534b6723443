"""Every target of `fuzz_targets` holds for bytes that hypothesis chooses, and for those that a fuzzer has found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from fuzz_targets import TARGETS, walls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS: Final = Path(__file__).parent / "corpus"
#: Short ones are tried in every form, long ones make whole conversations and folders.
BYTES: Final = st.binary(max_size=40) | st.binary(min_size=100, max_size=300) | st.binary(min_size=300, max_size=800)
#: In CI always the same bytes: what a change breaks is seen there, and nothing else is.
settings.register_profile(
    "fuzz",
    max_examples=150,
    deadline=None,
    derandomize="CI" in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def within(tmp_path) -> Callable[[Callable[[], None]], None]:
    """`within(job)`: run it where nothing can be written but below the test's folder."""
    if not walls.can_stand():
        pytest.skip("this kernel has no Landlock: a target could write anywhere")
    return lambda job: walls.within(tmp_path, job)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_keep_the_promises(name, within, tmp_path):
    @settings(settings.get_profile("fuzz"))
    @given(BYTES)
    def holds(data: bytes) -> None:
        TARGETS[name](data, tmp_path)

    within(holds)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_fuzzer_found_keeps_the_promises(name, within, tmp_path):
    def replay() -> None:
        for path in sorted((CORPUS / name).iterdir()):
            try:
                TARGETS[name](path.read_bytes(), tmp_path)
            except BaseException as error:
                error.add_note(f"with tests/fuzz/corpus/{name}/{path.name}")
                raise

    within(replay)


def test_every_corpus_is_of_a_target_and_small():
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
    for name in TARGETS:
        files = list((CORPUS / name).iterdir())
        assert 0 < len(files) <= 40
        assert all(path.stat().st_size <= 4096 for path in files)


def test_a_target_cannot_write_outside_of_its_folder(within, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")

    def escape() -> None:
        with pytest.raises(PermissionError):
            (outside / "file").touch()
        with pytest.raises(PermissionError):
            (outside / "folder").mkdir()

    within(escape)

    assert not list(outside.iterdir())
