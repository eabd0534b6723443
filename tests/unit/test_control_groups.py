"""Version 2 of control groups, by its documentation: folders of plain files stand for a tree that was delegated to us.

What the kernel itself does (it makes the files of a new group, moves processes, refuses writes) is done here by hand or
missing; version 1 is tried on the real kernel in `tests/integration/sandbox/test_control_groups.py`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bichat.sandbox import control_groups
from bichat.sandbox.control_groups import ControlGroup, ControlGroups
from bichat.sizes import MIB

UNIT = "system.slice/bichat.service"
#: What the kernel puts into a new group that has both controllers; the last is not on every kernel.
FILES = {
    "cgroup.procs": "",
    "memory.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
    "pids.max": "max\n",
    "memory.swap.max": "max\n",
}


class Tree:
    """A cgroup2 file system at `root`, with this process in the group `UNIT`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "with space" / "cgroup"
        self.unit = self.root / UNIT
        self.mounts, self.own = folder / "mountinfo", folder / "own"
        self.unit.mkdir(parents=True)
        self.write("cgroup.controllers", "cpu memory pids\n")
        self.write("cgroup.subtree_control", "\n")
        self.write("cgroup.procs", f"{os.getpid()}\n")
        self.place(UNIT)
        escaped = str(self.root).replace(" ", "\\040")
        self.mounts.write_text(
            "22 1 0:20 / / rw,relatime - ext4 /dev/root rw\n"
            f"30 22 0:26 / {escaped} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            encoding="utf-8",
        )

    def write(self, name: str, text: str) -> None:
        (self.unit / name).write_text(text, encoding="ascii")

    def read(self, name: str) -> str:
        return (self.unit / name).read_text(encoding="ascii").strip()

    def place(self, group: str) -> None:
        self.own.write_text(f"0::/{group}\n", encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(control_groups, "_MOUNTS", made.mounts)
    monkeypatch.setattr(control_groups, "_OWN", made.own)
    make = Path.mkdir

    def mkdir(path: Path, *arguments: object, **options: object) -> None:
        """As the kernel does: a group comes with its files."""
        is_there = path.exists()
        make(path, *arguments, **options)  # pyright: ignore[reportArgumentType]
        if path.is_relative_to(made.root) and not is_there:
            for name, text in FILES.items():
                (path / name).write_text(text, encoding="ascii")

    def rmdir(path: Path) -> None:
        """The files go with it."""
        for file in path.iterdir():
            file.unlink()
        os.rmdir(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    return made


@pytest.fixture
def find(tree: Tree) -> Callable[[], ControlGroups | None]:
    return ControlGroups.find


def ours(tree: Tree) -> list[Path]:
    return sorted(tree.unit.glob("bichat-[0-9]*"))


def test_a_delegated_group_is_made_ready_with_the_server_a_level_down(tree, find):
    found = find()

    assert found is not None
    assert found.kind == "v2"
    assert tree.read("cgroup.subtree_control") == "+memory +pids"
    assert tree.read("bichat-server/cgroup.procs") == str(os.getpid())
    found.close()
    assert ours(tree) == []


def test_a_group_is_limited_in_memory_without_swap_in_processes_and_dies_as_a_whole(tree, find):
    found = find()
    assert found is not None

    found.take(100 * MIB, 12)

    (folder,) = ours(tree)
    said = {name: (folder / name).read_text(encoding="ascii") for name in FILES}
    assert said["memory.max"] == str(100 * MIB)
    assert said["memory.swap.max"] == "0"
    assert said["memory.oom.group"] == "1"
    assert said["pids.max"] == "12"


def test_a_kernel_without_swap_has_no_file_for_it_and_needs_none(tree, find, monkeypatch):
    monkeypatch.delitem(FILES, "memory.swap.max")
    found = find()
    assert found is not None

    found.take(100 * MIB, 12)

    assert not (ours(tree)[0] / "memory.swap.max").exists()


def test_what_enters_writes_itself_into_the_one_folder_that_there_is(tree, find):
    found = find()
    assert found is not None
    group = found.take(MIB, 1)

    (entrance,) = group.entrances()
    os.write(entrance, b"0")
    os.close(entrance)

    assert (ours(tree)[0] / "cgroup.procs").read_text(encoding="ascii") == "0"


def test_only_kills_since_it_was_taken_count(tree, find):
    found = find()
    assert found is not None
    group = found.take(MIB, 1)
    events = ours(tree)[0] / "memory.events"

    assert not group.was_exceeded
    events.write_text("oom 3\noom_kill 2\noom_group_kill 1\n", encoding="ascii")
    assert group.was_exceeded
    found.give_back(group)
    assert found.take(MIB, 1) is group
    assert not group.was_exceeded


def test_a_group_with_a_process_in_it_is_not_given_to_another(tree, find):
    found = find()
    assert found is not None
    group = found.take(MIB, 1)
    (ours(tree)[0] / "cgroup.procs").write_text("4194304\n", encoding="ascii")
    found.give_back(group)

    assert found.take(MIB, 1) is not group


def test_a_server_that_starts_again_in_its_own_place_finds_its_way_out(tree, find):
    """Its unit's processes are in `bichat-server` already; the group above it is the one that is divided."""
    first = find()
    assert first is not None
    first.close()
    tree.place(f"{UNIT}/bichat-server")

    again = find()

    assert again is not None
    again.take(MIB, 1)
    assert len(ours(tree)) == 1


@pytest.mark.parametrize("lacking", ["memory", "pids"])
def test_without_one_of_the_controllers_there_are_none(tree, find, lacking):
    tree.write("cgroup.controllers", " ".join({"cpu", "memory", "pids"} - {lacking}))

    assert find() is None
    assert ours(tree) == []
    assert not (tree.unit / "bichat-server").exists()


def test_a_group_that_is_shared_with_processes_of_others_is_left_alone(tree, find):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        tree.write("cgroup.procs", f"{os.getpid()}\n{other.pid}\n")

        found = find()
        other.kill()

    assert found is None
    assert tree.read("cgroup.subtree_control") == ""


def test_the_root_of_all_groups_is_left_alone(tree, find):
    tree.place("")
    for name in ("cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"):
        (tree.root / name).write_text(tree.read(name), encoding="ascii")

    assert find() is None


def test_groups_of_a_server_that_is_gone_are_swept_and_those_of_others_are_not(tree, find):
    found = find()
    assert found is not None
    namespace = os.stat("/proc/self/ns/pid").st_ino
    gone = tree.unit / f"bichat-99999999-1-{namespace}-{'0' * 12}"
    elsewhere = tree.unit / f"bichat-99999999-1-1-{'0' * 12}"
    foreign = tree.unit / "bichat-backup"
    for folder in (gone, elsewhere, foreign):
        folder.mkdir()

    found.sweep()

    assert not gone.exists()
    assert elsewhere.exists()
    assert foreign.exists()


def test_a_group_whose_folder_has_gone_is_removed_without_a_word(tree):
    group = ControlGroup([tree.unit / "bichat-gone"], control_groups._Version2())

    group.remove()
