"""What it costs that executions and their files are kept: the same cells in two open sessions, one of them on record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.crowd import interpreter
from bench.samples import Samples
from bench.tasks import OutputError
from bichat import CodeInterpreter, ExecutionResult
from bichat.repository.opening import open_repository
from bichat.settings.location import data_dir
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage

KEPT: Final = "kept"
NOT_KEPT: Final = "not kept"
_MIB: Final = 1 << 20
#: Cells by what they leave behind, and the number of files of that.
CELLS: Final = {
    "no file": ("print(1)", 0),
    "a file of 10 KB": ("open('a.csv', 'wb').write(bytes(10_000))", 1),
    "a file of 10 MiB": (f"open('a.bin', 'wb').write(bytes({10 * _MIB}))", 1),
}


async def keep(times: int) -> Mapping[str, Mapping[str, Samples]]:
    """By cell, and by whether it is kept: from the call to the result, in turns; one turn goes before and is not counted.

    Kept is in a folder and a file of SQLite, both on the disk of the data directory.

    Raises:
        OutputError: something was not kept.
    """
    found = {cell: {NOT_KEPT: Samples(), KEPT: Samples()} for cell in CELLS}
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(dir=data_dir())))
        repository = await exits.enter_async_context(open_repository(f"sqlite+aiosqlite:///{folder}/bichat.db"))
        storage = LocalStorage(folder / "files", DownloadLinks(b"", "http://localhost"))
        keeping = CodeInterpreter(
            settings=Settings(data_dir=data_dir(), ready_sandboxes=0), storage=storage, repository=repository
        )
        owners = {
            NOT_KEPT: await exits.enter_async_context(interpreter(0)),
            KEPT: await exits.enter_async_context(keeping),
        }
        sessions = {name: await exits.enter_async_context(owner.session()) for name, owner in owners.items()}
        for turn in range(times + 1):
            for cell, (code, files) in CELLS.items():
                for name, session in sessions.items():
                    begun = time.perf_counter()
                    result = await session.run(code)
                    seconds = time.perf_counter() - begun
                    _check(result, files, is_kept=name == KEPT)
                    if turn:
                        found[cell][name].seconds.append(seconds)
    return found


def _check(result: ExecutionResult, files: int, *, is_kept: bool) -> None:
    ids = [artifact.id for artifact in result.artifacts if artifact.id]
    if len(result.artifacts) != files or len(ids) != files * is_kept or bool(result.id) != is_kept:
        raise OutputError(f"not what was to be kept: {result.status} {result.artifacts} {result.not_recorded}")
