"""What several targets promise: nothing is left open, nothing steers a terminal, a folder is empty before and gone after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from bichat.domain import Artifact


def assert_steers_nothing(text: str, *, but: str = "") -> None:
    """No character of it moves a cursor, hides or turns what follows; the joiners of scripts and those in `but` may stand."""
    if text.isascii() and text.isprintable():
        return
    seen = {unicodedata.category(char) for char in text if char not in f"\u200c\u200d{but}"}
    assert not seen & {"Cc", "Cf", "Cs", "Zl", "Zp"}, ascii(text)


def assert_can_be_written_down(text: str) -> None:
    """It is Unicode, as JSON in UTF-8 has it."""
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text


def sha256(artifact: Artifact) -> str:
    """Of the bytes that it has."""
    return hashlib.sha256(artifact.read_bytes()).hexdigest()


@contextmanager
def fresh_folder(room: Path) -> Generator[Path]:
    """An empty folder below `room`, removed afterwards with whatever modes are in it."""
    folder = tempfile.mkdtemp(dir=room)
    try:
        yield Path(folder)
    finally:
        # Nothing is in the way of root; an ordinary user must unlock what was locked.
        for _, folders, _, descriptor in os.fwalk(folder):
            for name in folders:
                if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o700, dir_fd=descriptor)
        shutil.rmtree(folder)


@contextmanager
def descriptors_kept() -> Generator[None]:
    """What is open afterwards was open before; files of /proc, which other threads look into, aside."""
    before = _open_descriptors()
    yield
    left = _open_descriptors().items() - before.items()
    assert not left, left


def _open_descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return {number: target for number, target in found.items() if not target.startswith("/proc/")}
