"""Names of files that a guest chose: shown, and saved as files of the person who asked."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bichat.errors import StorageError
from bichat.files import save_files
from bichat.names import MAX_NAME_BYTES, display_name, printable, safe_file_name
from fuzz_targets.checks import (
    assert_can_be_written_down,
    assert_steers_nothing,
    descriptors_kept,
    fresh_folder,
)
from fuzz_targets.choices import NAMES, Choices

_DEVICES: Final = frozenset({"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "LPT¹"})
_MAX_PATH_BYTES: Final = 4096


def names(data: bytes, room: Path) -> None:
    """Any name of a file becomes text, text that steers nothing, and a path that is harmless anywhere."""
    shown = display_name(Choices(data).spelled(NAMES, 64))

    assert_can_be_written_down(shown)
    assert_steers_nothing(printable(shown))
    _assert_harmless(str(safe_file_name(shown)))
    assert safe_file_name(str(safe_file_name(shown))) == safe_file_name(shown)


def saved(data: bytes, room: Path) -> None:
    """Files of any names, saved twice beside what is there, lie below the folder: one each, none lost, nothing followed."""
    choices = Choices(data)
    wanted = [display_name(choices.spelled(NAMES, choices.number(8))) for _ in range(1 + choices.number(12))]
    with descriptors_kept(), fresh_folder(room) as folder:
        target = folder / "out"
        target.mkdir()
        outside = folder / "outside"
        outside.write_bytes(b"untouched")
        for _ in range(choices.number(4)):
            _plant(choices, wanted[choices.number(len(wanted))], target)
        for _ in range(2):
            with suppress(StorageError):  # what was planted is in the way
                _save(wanted, target)

            assert outside.read_bytes() == b"untouched"
            assert sorted(os.listdir(folder)) == ["out", "outside"]
        assert not list(target.rglob(".bichat-*"))


def _save(wanted: list[str], target: Path) -> None:
    paths = save_files([(name, [str(at).encode()]) for at, name in enumerate(wanted)], target)

    assert [path.read_bytes() for path in paths] == [str(at).encode() for at in range(len(wanted))]
    assert all(path.resolve().is_relative_to(target) for path in paths)
    assert not any(path.is_symlink() for path in paths)


def _plant(choices: Choices, name: str, target: Path) -> None:
    """A link that leads out, or a folder, where a file or its folder is to be."""
    path = target / safe_file_name(name).parts[0]
    with suppress(FileExistsError):
        match choices.number(3):
            case 0:
                path.symlink_to("../outside")
            case 1:
                path.symlink_to("..")
            case _:
                path.mkdir()


def _assert_harmless(path: str) -> None:
    assert not path.startswith("/")
    assert len(path.encode()) <= 1024 + 2 * MAX_NAME_BYTES
    for part in path.split("/"):
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= MAX_NAME_BYTES
        assert not set(part) & set('\\:*?"<>|')
        assert not part.startswith((".", " "))
        assert not part.endswith((".", " "))
        assert part.partition(".")[0].rstrip().upper() not in _DEVICES
    assert_steers_nothing(path)
