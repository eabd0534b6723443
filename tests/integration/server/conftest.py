"""A server on loopback with the conversation core behind it, and the official client in strict mode before it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio.from_thread
import pytest
import uvicorn
from fastapi import FastAPI, Request
from openai import AsyncOpenAI, OpenAI
from starlette.responses import JSONResponse

from bichat import CodeInterpreter
from bichat.agent.toolbox import CodeToolbox
from bichat.conversation.core import Core
from bichat.conversation.request import Bounds
from bichat.errors import BichatError
from bichat.live_sessions import LiveSessions
from bichat.repository.opening import open_repository
from bichat.server.problems import error_body, error_headers, status_of
from bichat.server.responses.routes import router
from bichat.server.responses.service import Responses
from bichat.server.services import Caller
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.testing.planner import ScriptedPlanner

from ..repository import conftest as databases  # noqa: TID252

kind, address = databases.kind, databases.address
sqlite_address, sqlite_with_tables = databases.sqlite_address, databases.sqlite_with_tables
postgres, postgres_with_tables = databases.postgres, databases.postgres_with_tables


@dataclass
class Served:
    """A running server, and what is behind it."""

    url: str
    planner: ScriptedPlanner
    repository: Any
    sessions: LiveSessions
    storage: LocalStorage
    portal: Any
    clients: ExitStack

    def client(self, tenant: str = "acme", *, is_strict: bool = True) -> OpenAI:
        """One that is closed with the server."""
        made = OpenAI(
            base_url=self.url, api_key=tenant, max_retries=0, _strict_response_validation=is_strict, timeout=30
        )
        return self.clients.enter_context(made)

    def async_client(self, tenant: str = "acme") -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.url, api_key=tenant, max_retries=0, _strict_response_validation=True, timeout=30
        )

    def plays(self, *turns: Any) -> None:
        """What the model does next."""
        self.planner._turns[len(self.planner.asked) :] = turns

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A coroutine function of what is behind it, called in the server's loop."""

        async def called() -> Any:
            return await function(*args, **kwargs)

        return self.portal.call(called)


@contextmanager
def serving(address: str, settings: Any, folder: Any, bounds: Bounds | None = None) -> Generator[Served]:
    """A server in a thread of its own."""
    planner = ScriptedPlanner([])
    behind: dict[str, Any] = {}
    is_up = threading.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        storage = LocalStorage(folder / "files", DownloadLinks(b"s" * 32, "http://127.0.0.1"))
        async with (
            open_repository(address) as repository,
            CodeInterpreter(settings=settings, preload=False, storage=storage, repository=repository) as interpreter,
        ):
            sessions = LiveSessions(interpreter, settings, interpreter.archive)
            toolbox = CodeToolbox(sessions, repository, storage)
            async with (
                Core(repository, interpreter.archive.upkeep, planner, toolbox, bounds=bounds) as core,
                Responses(core, repository, storage) as app.state.responses,
                anyio.from_thread.BlockingPortal() as portal,
            ):
                behind.update(repository=repository, sessions=sessions, storage=storage, portal=portal)
                is_up.set()
                yield

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def known(request: Request, call_next: Any) -> Any:
        request.state.caller = Caller(request.headers["authorization"].removeprefix("Bearer "))
        return await call_next(request)

    @app.exception_handler(BichatError)
    async def failed(request: Request, error: BichatError) -> JSONResponse:
        return JSONResponse(error_body(error), status_of(error), error_headers(error))

    app.include_router(router, prefix="/v1")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    try:
        assert is_up.wait(30), "the server does not start"
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with ExitStack() as clients:
            yield Served(url, planner, clients=clients, **behind)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory, bare_settings, needs_namespaces_here) -> Generator[Served]:
    """One for the tests of a module: each brings what the model does."""
    folder = tmp_path_factory.mktemp("server")
    with serving(f"sqlite:///{folder / 'bichat.db'}", bare_settings(), folder) as running:
        yield running


@pytest.fixture
def client(served: Served) -> OpenAI:
    return served.client()
