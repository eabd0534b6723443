"""Clients before the server that fails on purpose, with storage and repository in memory behind them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from bichat.clients import AssistantsClient, ClientOptions, ResponsesClient
from bichat.clients.remote_executor import RemoteExecutor
from bichat.storage import DownloadLinks
from bichat.storage.memory import MemoryStorage
from bichat.testing.fault_server import FaultServer
from bichat.testing.memory import MemoryRepository

#: Long enough for an answer on a busy machine, short enough to wait for one that does not come.
_SOON = ClientOptions(
    request_timeout_s=0.3, retries=1, retry_wait_s=0.001, timeout_s=20, poll_interval_s=0.01, cleanup_s=5
)
_CLIENTS = {"assistants": AssistantsClient, "responses": ResponsesClient}


@dataclass
class Bench:
    """What a test looks at."""

    server: FaultServer
    executor: RemoteExecutor
    storage: MemoryStorage
    repository: MemoryRepository

    @property
    def stored(self) -> set[str]:
        """Keys of what is in the storage."""
        return set(self.storage._files)

    async def recorded(self) -> set[str]:
        """Keys of outputs that are on record."""
        return {output.storage_key for output in (await self.repository.outputs.page("local")).items}

    async def executions(self) -> list[Any]:
        """Those that are on record, newest first."""
        sessions = (await self.repository.sessions.page("local")).items
        assert all(session.end_reason for session in sessions)
        return [
            execution
            for session in sessions
            for execution in (await self.repository.executions.page("local", session.id)).items
        ]

    async def is_whole(self) -> bool:
        """Whether what is stored is on record, and nothing else; and no execution is left unfinished."""
        is_kept = self.stored == await self.recorded()
        return is_kept and all(each.status != "running" for each in await self.executions())


def memory_storage() -> MemoryStorage:
    return MemoryStorage(DownloadLinks(b"s" * 32, "https://bi.example.com"))


@pytest.fixture(params=_CLIENTS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def soon() -> Callable[..., ClientOptions]:
    """Options that wait for nothing long, with these changed."""
    return partial(replace, _SOON)


@pytest.fixture
def memory() -> MemoryStorage:
    return memory_storage()


@pytest.fixture
def bench() -> Callable[..., Any]:
    """A context manager for each server: a client of it, entered."""

    @asynccontextmanager
    async def made(
        server: FaultServer,
        kind: str,
        *,
        options: ClientOptions = _SOON,
        storage: Any = None,
        behind: MemoryStorage | None = None,
        repository: Any = None,
    ) -> AsyncGenerator[Bench]:
        memory = behind or memory_storage()
        rows = repository or MemoryRepository()
        async with (
            # Certificates take a while to load, and nobody shows any.
            AsyncOpenAI(
                base_url=server.url, api_key="any", http_client=DefaultAsyncHttpxClient(verify=False)
            ) as client,
            _CLIENTS[kind](client, storage or memory, repository=rows, options=options) as executor,
        ):
            yield Bench(server, executor, memory, rows)

    return made
