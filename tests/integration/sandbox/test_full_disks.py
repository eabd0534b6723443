"""Disks that are full, or not to be written to: the owner is told, nothing is left half-written, and it goes on with room.

Each test is a child process on a host whose disks are its own (`strange_host.py`); this file is its program, too.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import pytest

import bichat.interpreter
from bichat import CodeInterpreter, Limits
from bichat.errors import BichatError
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.supervisor import Supervisor
from bichat.settings.settings import Settings
from bichat.sizes import KIB, MIB

DISK = 6 * MIB
LARGE = "open('large', 'wb').write(bytes(3 << 20))"


@pytest.fixture
def on_small_disks(open_data_dir, strange_host):
    """`on_small_disks("story", level)`: what a child tells that lives through it on two small disks of its own."""
    for name in ("spool", "temporary"):
        (open_data_dir / name).mkdir(mode=0o711, exist_ok=True)

    def run(story: str, level: Level = Level.NAMESPACES) -> Any:
        disks = [f"tmpfs:{open_data_dir}/{name}:{DISK}" for name in ("spool", "temporary")]
        command = [*strange_host(*disks), sys.executable, __file__, story, level.value, str(open_data_dir)]
        path = os.pathsep.join(sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": f"{open_data_dir}/temporary"}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


def test_files_that_the_data_directory_has_no_room_for_are_refused_in_words_and_come_out_later(on_small_disks, level):
    told = on_small_disks("captured", level)

    assert told["full"]["code"] == "storage_failed"
    assert "No space left" in told["full"]["message"]
    assert told["taken by what was refused"] == 0
    assert told["same session"] == ["42\n", []]
    assert told["with room"] == ["large"]
    assert told["next session"] == ["large"]


def test_a_file_that_a_full_disk_has_no_room_for_is_not_put_in_by_half(on_small_disks):
    told = on_small_disks("put", Level.LANDLOCK)

    assert told["full"]["code"] == "storage_failed"
    assert "TMPDIR" in told["full"]["remedy"]
    assert told["files"] == []
    assert told["same session"] == "42\n"
    assert told["with room"] == ["a.bin"]


def test_code_that_meets_a_full_disk_of_the_host_has_an_error_of_its_own(on_small_disks):
    told = on_small_disks("written", Level.LANDLOCK)

    assert told["full"] == ["disk_full", "OSError"]
    assert told["same session"] == "42\n"
    assert told["with room"] == ["large"]


def test_no_room_for_a_sandbox_is_said_with_what_to_do_and_the_next_one_works(on_small_disks):
    told = on_small_disks("opened", Level.LANDLOCK)

    for moment in ("first", "next"):
        assert told[moment]["code"] == "sandbox_unavailable"
        assert "No space left" in told[moment]["message"]
        assert "TMPDIR" in told[moment]["remedy"]
    assert told["with room"] == "works\n"


def test_sandboxes_with_disks_of_their_own_need_no_room_on_the_hosts(on_small_disks):
    assert on_small_disks("opened", Level.NAMESPACES) == dict.fromkeys(("first", "next", "with room"), "works\n")


# ------------------------------------------------------------------------------------------------ what the child does


class Disk:
    """One of the small ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        """Up to the last byte."""
        with (self._folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(64 * KIB)):
                pass

    def fill_names(self) -> None:
        """Up to the last file that it has room for."""
        with suppress(OSError):
            for number in itertools.count():
                (self._folder / f"filler-{number}").touch()

    def empty(self) -> None:
        """Make room again."""
        for path in self._folder.glob("filler*"):
            path.unlink()

    @property
    def used_bytes(self) -> int:
        """By everybody."""
        return shutil.disk_usage(self._folder).used


async def captured(interpreter: CodeInterpreter, spool: Disk, _: Disk) -> Any:
    async with interpreter.session() as session:
        await session.run("x = 41")
        spool.fill()
        before = spool.used_bytes
        full = await _told(session.run(LARGE))
        taken = spool.used_bytes - before
        same = await session.run("import shutil; shutil.move('large', '/tmp/large'); print(x + 1)")
        spool.empty()
        later = await session.run("shutil.move('/tmp/large', 'large')")
    return {
        "full": full,
        "taken by what was refused": taken,
        "same session": [same.stdout, [artifact.name for artifact in same.artifacts]],
        "with room": [artifact.name for artifact in later.artifacts],
        "next session": [artifact.name for artifact in (await interpreter.run(LARGE)).artifacts],
    }


async def put(interpreter: CodeInterpreter, _: Disk, temporary: Disk) -> Any:
    async with interpreter.session() as session:
        await session.run("x = 41")
        temporary.fill()
        full = await _told(session.put("a.bin", bytes(MIB)))
        files = [file.name for file in await session.files()]
        same = await session.run("print(x + 1)")
        temporary.empty()
        await session.put("a.bin", bytes(MIB))
        return {
            "full": full,
            "files": files,
            "same session": same.stdout,
            "with room": [file.name for file in await session.files()],
        }


async def written(interpreter: CodeInterpreter, _: Disk, temporary: Disk) -> Any:
    async with interpreter.session() as session:
        await session.run("x = 41")
        temporary.fill()
        full = await session.run(LARGE)
        same = await session.run("import os; os.unlink('large'); print(x + 1)")
        temporary.empty()
        later = await session.run(LARGE)
        return {
            "full": [full.status, full.error and full.error.name],
            "same session": same.stdout,
            "with room": [artifact.name for artifact in later.artifacts],
        }


async def opened(interpreter: CodeInterpreter, spool: Disk, temporary: Disk) -> Any:
    tempfile.gettempdir()  # where there is no room from the first, Python takes another folder
    temporary.fill_names()
    spool.fill_names()
    told = {"first": await _told(interpreter.run("print('works')"))}
    temporary.empty()
    await interpreter.run("pass")
    temporary.fill_names()
    told["next"] = await _told(interpreter.run("print('works')"))
    temporary.empty()
    return told | {"with room": await _told(interpreter.run("print('works')"))}


async def _told(call: Awaitable[Any]) -> Any:
    try:
        result = await call
    except BichatError as error:
        return error.to_dict()
    return result and result.stdout


async def _live(story: Callable[..., Awaitable[Any]], level: Level, data_dir: Path) -> None:
    limits = Limits(timeout_s=20, memory_bytes=256 * MIB, disk_bytes=64 * MIB)
    settings = Settings(data_dir=data_dir, environment="bare", limits=limits)
    at_level = functools.partial(Supervisor, layers=level.layers)
    with anyio.fail_after(60), patch.object(bichat.interpreter, "Supervisor", at_level):
        async with CodeInterpreter(settings=settings, preload=False) as interpreter:
            told = await story(interpreter, Disk(data_dir / "spool"), Disk(data_dir / "temporary"))
    assert os.listdir(data_dir / "temporary") == []
    print(json.dumps(told))


if __name__ == "__main__":
    anyio.run(_live, globals()[sys.argv[1]], Level(sys.argv[2]), Path(sys.argv[3]))
