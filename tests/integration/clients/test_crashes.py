"""A process that dies in the middle leaves nothing behind for long: another one on the same database sweeps."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from openai import AsyncOpenAI

from bichat.clients import AssistantsClient, ResponsesClient
from bichat.repository.opening import open_repository
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.testing.fault_server import Fault, FaultServer, Play

pytestmark = pytest.mark.anyio

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from openai import AsyncOpenAI
from bichat import clients
from bichat.executor import CodeRequest
from bichat.repository.opening import open_repository
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage

async def main(url, folder, kind):
    storage = LocalStorage(Path(folder) / "files", DownloadLinks(b"s" * 32, "https://bi.example.com"))
    async with open_repository(f"sqlite+aiosqlite:///{folder}/bichat.db") as repository:
        client = AsyncOpenAI(base_url=url, api_key="any")
        async with getattr(clients, kind)(client, storage, repository=repository) as executor:
            await executor.execute(CodeRequest(code="print(42)", files={"in.csv": b"0"}))

asyncio.run(main(*sys.argv[1:]))
"""


def _kept(folder: Path) -> set[str]:
    """Names of the folders that bytes lie in."""
    return {path.parent.name for path in folder.rglob("content")}


@pytest.mark.parametrize(
    "client, route, fault",
    [
        pytest.param(AssistantsClient, "assistants.create", Fault.SILENT, id="its assistant had no name yet"),
        pytest.param(AssistantsClient, "runs.retrieve", Fault.STALLS, id="a run was under way"),
        pytest.param(AssistantsClient, "assistants.delete", Fault.STALLS, id="files were stored"),
        pytest.param(ResponsesClient, "containers.create", Fault.SILENT, id="its container had no name yet"),
        pytest.param(ResponsesClient, "container_files.content", Fault.STALLS, id="a file was on its way"),
    ],
)
async def test_what_a_process_that_was_killed_left_is_swept(tmp_path: Path, client, route, fault):
    with FaultServer(Play(files={"a.csv": b"1"})) as server:
        server.fails(route, fault, times=1)
        arguments = [sys.executable, "-c", _PROGRAM, server.url, str(tmp_path), client.__name__]
        async with await anyio.open_process(arguments, stdout=None, stderr=None) as child:
            server.before(route, child.kill)
            assert await child.wait() == -9
        assert server.left != []

        server.before(route, lambda: None)
        storage = LocalStorage(tmp_path / "files", DownloadLinks(b"s" * 32, "https://bi.example.com"))
        later = datetime.now(UTC) + timedelta(minutes=2)
        async with (
            open_repository(f"sqlite+aiosqlite:///{tmp_path}/bichat.db") as repository,
            AsyncOpenAI(base_url=server.url, api_key="any") as connection,
            client(connection, storage, repository=repository) as executor,
        ):
            assert await executor.sweep() == 0  # it could still be at work
            await repository.upkeep.sweep(later)
            assert await executor.sweep(later) == 1

            assert server.left == []
            assert await repository.leftovers.waiting() == ()
            (session,) = (await repository.sessions.page("local")).items
            (execution,) = (await repository.executions.page("local", session.id)).items
            assert session.end_reason
            assert execution.status in {"lost", "completed"}
            kept = _kept(tmp_path)
            rows = {output.storage_key.rpartition("/")[2] for output in (await repository.outputs.page("local")).items}
            assert kept == rows
