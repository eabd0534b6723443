"""A sandbox's folder, seen from the supervisor while somebody else changes it."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from bichat.domain import Limits
from bichat.sandbox.folder import Folder
from bichat.sandbox.inputs import check_inputs


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Vanishing(BytesIO):
    """A source whose copy is taken away as soon as it is whole: it is rewound then, for the next use."""

    def __init__(self, content: bytes, copy: Path) -> None:
        super().__init__(content)
        self._copy = copy

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._copy.unlink(missing_ok=True)
        return super().seek(offset, whence)


@pytest.mark.anyio
async def test_a_file_that_the_code_takes_away_as_soon_as_it_is_there_was_put_all_the_same(tmp_path):
    inside, spool = tmp_path / "inside", tmp_path / "spool"
    inside.mkdir()
    spool.mkdir()
    limits = Limits()
    folder = Folder(os.open(inside, os.O_RDONLY | os.O_DIRECTORY), owner=None, spool_folder=spool)

    await folder.put(check_inputs({"a": _Vanishing(b"x", inside / "a"), "b": b"y"}, limits), limits)
    names = [file.name for file in await folder.files(limits)]
    captured = await folder.capture(limits)
    await folder.close()

    assert names == ["b"]
    assert captured.artifacts == ()
