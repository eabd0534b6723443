"""The installed command, run as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

COMMAND = Path(sys.executable).parent / "bichat"


class Bichat(Protocol):
    """Runs `bichat ARGUMENTS` in an empty folder and waits for it."""

    folder: Path
    command: list[str]
    variables: dict[str, str]

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


class _Command:
    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder = folder
        self.command = [str(COMMAND)]
        self.variables = {**os.environ, "BICHAT_DATA_DIR": str(data_dir)}

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            input=stdin,
            env={**self.variables, **(variables or {})},
            capture_output=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(name="bichat")
def _bichat(tmp_path: Path, data_environment: object, data_dir: Path) -> Bichat:
    """The command with the `data` environment at hand."""
    return _Command(tmp_path, data_dir)


@pytest.fixture(name="fresh_bichat")
def _fresh_bichat(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command with an empty data directory."""
    work = tmp_path / "work"
    work.mkdir()
    return _Command(work, tmp_path / "data")
