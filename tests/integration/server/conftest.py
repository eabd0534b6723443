"""A server on loopback with the conversation core behind it, and the official client in strict mode before it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio.from_thread
import pytest
import uvicorn
from openai import AsyncOpenAI, OpenAI

from bichat.conversation.planner import Planner
from bichat.conversation.planners.local_python import LocalPython
from bichat.server.app import create_app
from bichat.server.keys import new_key
from bichat.server.opening import open_services
from bichat.server.services import Services
from bichat.testing.planner import ScriptedPlanner


@dataclass
class Served:
    """A running server, and what is behind it."""

    url: str
    planner: ScriptedPlanner
    services: Services
    portal: Any
    clients: ExitStack
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, tenant: str) -> str:
        """A key of a tenant's."""
        if tenant not in self.keys:
            made = new_key(tenant)
            self.call(self.services.repository.keys.add, tenant, made.record)
            self.keys[tenant] = made.secret
        return self.keys[tenant]

    def client(self, tenant: str = "acme", *, is_strict: bool = True) -> OpenAI:
        """One that is closed with the server."""
        made = OpenAI(
            base_url=self.url,
            api_key=self.key(tenant),
            max_retries=0,
            timeout=30,
            _strict_response_validation=is_strict,
        )
        return self.clients.enter_context(made)

    def async_client(self, tenant: str = "acme") -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=self.url, api_key=self.key(tenant), max_retries=0, timeout=30, _strict_response_validation=True
        )

    def plays(self, *turns: Any) -> None:
        """What the model does next."""
        asked = len(self.planner.asked)  # some of it, maybe, by its text
        self.planner._turns[asked:] = turns
        self.planner._turns[:0] = [()] * (asked + len(turns) - len(self.planner._turns))

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A coroutine function of what is behind it, called in the server's loop."""

        async def called() -> Any:
            return await function(*args, **kwargs)

        return self.portal.call(called)


class Models:
    """`local-python` is itself; every other model plays the script."""

    def __init__(self, scripted: ScriptedPlanner) -> None:
        self._scripted = scripted
        self.names = ("local-python", "m")

    def planner(self, model: str) -> Planner:
        return LocalPython() if model == "local-python" else self._scripted


def listen() -> socket.socket:
    """On loopback.  Its protocol is named, for asyncio sends without delay on such sockets alone: 40 ms an answer."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.bind(("127.0.0.1", 0))
    made.listen(100)
    return made


@contextmanager
def serving(settings: Any, folder: Any) -> Generator[Served]:
    """The whole application in a thread of its own."""
    planner = ScriptedPlanner([])
    behind: dict[str, Any] = {}
    is_up = threading.Event()
    own = replace(
        settings, database_url=f"sqlite+aiosqlite:///{folder}/bichat.db", storage_url=f"file://{folder}/files"
    )

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Services]:
        async with (
            open_services(own, planners=Models(planner), preload=False) as services,
            anyio.from_thread.BlockingPortal() as portal,
        ):
            behind.update(services=services, portal=portal)
            is_up.set()
            yield services

    app = create_app(opened)
    listening = listen()
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
    with serving(bare_settings(), folder) as running:
        yield running


@pytest.fixture
def client(served: Served) -> OpenAI:
    return served.client()
