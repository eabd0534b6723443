"""Names of files that go in, which a server may have from its own users."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from bichat.domain import Limits
from bichat.errors import UserInputError
from bichat.sandbox.inputs import check_inputs, write_input
from fuzz_targets.checks import assert_steers_nothing, descriptors_kept, fresh_folder
from fuzz_targets.choices import NAMES, Choices


def inputs(data: bytes, room: Path) -> None:
    """A file goes in under exactly its name, whatever lies there but a folder, or is refused in words with nothing changed."""
    choices = Choices(data)
    files: dict[str, bytes] = {}
    planted: dict[str, int] = {}
    while choices.left and len(files) < 4:
        name = choices.spelled(NAMES, choices.number(8)).decode("utf-8", "surrogateescape")
        planted[name] = choices.number(5)
        files[name] = choices.chunk(16)
    with descriptors_kept(), fresh_folder(room) as folder:
        (folder / "outside").write_bytes(b"untouched")
        (folder / "data").mkdir()
        root = os.open(folder / "data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            _put(files, planted, root)
        finally:
            os.close(root)

        assert (folder / "outside").read_bytes() == b"untouched"
        assert sorted(os.listdir(folder)) == ["data", "outside"]


def _put(files: dict[str, bytes], planted: dict[str, int], root: int) -> None:
    for name, content in files.items():
        source = BytesIO(content) if len(content) % 2 else content
        try:
            (checked,) = check_inputs({name: source}, Limits())
        except UserInputError as error:
            assert_steers_nothing(error.message)
            continue
        before = set(os.listdir(root))
        _plant(name, planted[name], root)
        try:
            write_input(root, checked, None)
        except UserInputError as error:
            assert_steers_nothing(error.message)
            assert planted[name] == 3
            continue
        assert set(os.listdir(root)) == before | {name}
        assert not os.path.islink(f"/proc/self/fd/{root}/{name}")
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=root), "rb") as file:
            assert file.read() == content


def _plant(name: str, kind: int, root: int) -> None:
    """What the code has put where the file is to lie."""
    match kind:
        case 1:
            os.symlink("../outside", name, dir_fd=root)
        case 2:
            os.mkfifo(name, dir_fd=root)
        case 3:
            os.mkdir(name, dir_fd=root)
        case 4:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0, dir_fd=root))
        case _:
            pass
