"""Killed at each step of capture, store, record and delete: after recovery no file is without a row, no row without a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from bichat import CodeInterpreter
from bichat.archive import Archive
from bichat.errors import StorageError
from bichat.repository.opening import open_repository
from bichat.repository.records import FileState, Policy
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage

pytestmark = pytest.mark.anyio

#: A method of the storage or of a noun of the repository, and which call of it: killed before it, or after it.
STEPS = (
    ("executions", "add", 1),
    ("outputs", "reserve", 1),
    ("outputs", "reserve", 2),
    ("storage", "save", 1),
    ("storage", "save", 2),
    ("executions", "finish", 1),
    ("sessions", "save", 1),
    ("files", "reserve", 1),
    ("files", "publish", 1),
    ("executions", "delete", 1),
    ("outbox", "claim", 1),
    ("storage", "delete", 1),
    ("storage", "delete", 2),
    ("outbox", "done", 1),
)


class Fatal:
    """In front of a storage or a noun: this process is killed at one call of one method."""

    def __init__(self, real: Any, method: str, number: int, *, after: bool) -> None:
        self._real, self._method, self._left, self._after = real, method, number, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name != self._method:
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = await found(*arguments, **options)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


class FatalRepository:
    """All nouns but one are the real ones."""

    def __init__(self, real: Any, noun: str, fatal: Fatal) -> None:
        self._real, self._noun, self._fatal = real, noun, fatal

    def __getattr__(self, name: str) -> Any:
        return self._fatal if name == self._noun else getattr(self._real, name)


async def live(folder: Path, data_dir: Path, noun: str, method: str, number: int, *, after: bool) -> None:
    """Keep two sessions' files, delete those of one, and be killed on the way."""
    storage: Any = LocalStorage(folder / "files", DownloadLinks(b"s" * 32, "http://h"))
    async with open_repository(f"sqlite+aiosqlite:///{folder}/bichat.db") as real:
        fatal = Fatal(storage if noun == "storage" else getattr(real, noun), method, number, after=after)
        repository: Any = FatalRepository(real, noun, fatal)
        storage = fatal if noun == "storage" else storage
        settings = Settings(data_dir=data_dir, environment="bare")
        async with CodeInterpreter(
            settings=settings, preload=False, storage=storage, repository=repository
        ) as interpreter:
            code = "for name in 'ab': open(name, 'w').write(name)"
            async with interpreter.session(files={"in": b"in"}) as session:
                gone = await session.run(code)
                await session.run(code)
            await repository.executions.delete("local", gone.id)
            assert interpreter.archive is not None
            await interpreter.archive.upkeep.delete()


class Nursery:
    """A process that has everything imported, and forks one that lives for each line that it is given."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def exit_code(self, *arguments: str) -> int:
        """Of a process that lives by these arguments of `live`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Generator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("noun, method, number", STEPS)
async def test_a_killed_process_leaves_nothing_that_another_does_not_put_right(
    place, repository, bare_settings, nursery, noun, method, number, moment
):
    arguments = (str(place.folder), str(bare_settings().data_dir), noun, method, str(number), moment)
    assert await anyio.to_thread.run_sync(nursery.exit_code, *arguments) == -signal.SIGKILL

    archive = Archive(place.storage(), repository)
    later = datetime.now(UTC) + timedelta(minutes=5)  # every lease of the dead has run out
    await archive.upkeep.sweep(later)
    place.storage().sweep()
    await archive.upkeep.delete(later)

    rows = await _rows(repository)
    assert {row.storage_key for row in rows} == place.keys()
    assert {row.state for row in rows} <= {FileState.AVAILABLE}
    for row in rows:
        async with archive.opened(row) as pieces:
            assert sum([len(piece) async for piece in pieces]) == row.size_bytes
    assert await repository.outbox.waiting() == ()
    assert (await repository.tenants.usage("local")).files == len(rows)
    for session in (await repository.sessions.page("local")).items:
        executions = (await repository.executions.page("local", session.id)).items
        assert "running" not in {execution.status for execution in executions}
        assert session.end_reason
    assert not list((place.files / ".partial").glob("*"))


async def _rows(repository) -> list[Any]:
    return [*(await repository.outputs.page("local")).items, *(await repository.files.page("local")).items]


async def test_a_second_process_that_starts_while_the_first_stands_between_two_steps_takes_nothing_of_it(
    place, repository, keeping
):
    stands, go_on = anyio.Event(), anyio.Event()

    class Standing:
        keeps = True

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def save(self, *arguments: Any, **options: Any) -> Any:
            stored = await self._real.save(*arguments, **options)
            stands.set()
            await go_on.wait()
            return stored

    results = []

    async def first() -> None:
        async with keeping(storage=Standing(place.storage())) as interpreter:
            results.append(await interpreter.run("open('a', 'w').write('a')"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await stands.wait()
        async with Archive(place.storage(), repository) as second:
            await second.upkeep.sweep()
            await second.upkeep.delete()
        assert len(place.keys()) == 1
        go_on.set()

    assert results[0].artifacts[0].not_kept == ""
    assert (await repository.outputs.get("local", results[0].artifacts[0].id)).state is FileState.AVAILABLE


async def test_what_is_past_its_tenants_retention_is_counted_and_then_deleted(place, repository, keeping):
    async with keeping(repository=repository) as interpreter:
        await interpreter.run("open('a', 'w').write('a')", tenant="acme")
        await interpreter.run("open('a', 'w').write('a')", tenant="beta")
        await repository.tenants.set_policy("acme", Policy(retention_days=1e-9))

        counted = await interpreter.archive.upkeep.prune(dry_run=True)
        assert (counted.outputs, len(place.keys())) == (1, 2)
        assert (await interpreter.archive.upkeep.prune()).outputs == 1
        await interpreter.archive.upkeep.delete()

    (left,) = place.keys()
    assert left.startswith("beta/")


async def test_a_storage_that_fails_to_delete_is_asked_again_later_and_the_row_is_gone_at_once(
    place, repository, keeping
):
    class Refusing:
        keeps = True

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def delete(self, key: str) -> None:
            raise StorageError(f"cannot delete {key}", stage="storage")

    async with keeping(storage=Refusing(place.storage()), repository=repository) as interpreter:
        result = await interpreter.run("open('a', 'w').write('a')")
        await repository.outputs.delete("local", result.artifacts[0].id)
        await interpreter.archive.upkeep.delete()

    (waiting,) = await repository.outbox.waiting()
    assert (waiting.attempts, waiting.last_error) == (1, f"cannot delete {waiting.storage_key}")
    assert (await repository.outputs.page("local")).items == ()
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await Archive(place.storage(), repository).upkeep.delete(later) == 1
    assert place.keys() == set()


async def _be_killed(folder: str, data_dir: str, noun: str, method: str, number: str, moment: str) -> None:
    await live(Path(folder), Path(data_dir), noun, method, int(number), after=moment == "after")


async def _warm() -> None:
    """Import what is imported at the first use."""
    with TemporaryDirectory() as folder:
        async with open_repository(f"sqlite+aiosqlite:///{folder}/bichat.db"):
            pass


if __name__ == "__main__":
    anyio.run(_warm)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                anyio.run(_be_killed, *json.loads(line))
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
