"""The conversation core on a real database, with planners that play scripts and tools that do next to nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest

from bichat.archive.upkeep import Upkeep
from bichat.conversation import run_events
from bichat.conversation.core import Core
from bichat.conversation.planner import ToolSpec
from bichat.conversation.request import Bounds, CodeOptions, RunRequest, Said
from bichat.conversation.tool import Call, Outcome, Progress, Tool
from bichat.repository.opening import open_repository
from bichat.repository.records import Message, Part, Role, Run
from bichat.storage import DownloadLinks
from bichat.storage.memory import MemoryStorage
from bichat.testing.planner import ScriptedPlanner, Step

from ..repository import conftest as databases  # noqa: TID252

#: Databases of each kind.
kind, address = databases.kind, databases.address
postgres, postgres_with_tables = databases.postgres, databases.postgres_with_tables
sqlite_address, sqlite_with_tables = databases.sqlite_address, databases.sqlite_with_tables

TENANT = "acme"


@dataclass
class Echo:
    """A tool that says what it was given; `wait` is waited for in the midst of a call."""

    kind: Any = "code"
    wait: Callable[[], Any] | None = None
    called: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    spec = ToolSpec(name="python", description="runs code")

    async def instructions(self) -> str:
        return "Use python."

    async def begin(self, call: Call):  # noqa: ARG002
        return {"session_id": "0" * 32} if self.kind == "code" else {}

    async def interrupt(self) -> bool:
        return False

    async def call(self, call: Call, arguments: str):  # noqa: ARG002
        self.called.append(arguments)
        try:
            if self.kind == "code":
                yield Progress(kind=run_events.CODE_RUNNING, payload={"code": arguments})
                yield Progress(kind=run_events.CODE_OUTPUT, payload={"stream": "stdout", "text": arguments})
            if self.wait is not None:
                await self.wait()
            yield Outcome(told=f"ran {arguments}", content={"code": arguments}, notes={"tool": "echo"})
        finally:
            self.ended.append(arguments)


@dataclass
class Tools:
    """A toolbox of one tool, at home anywhere or in one process."""

    tool: Tool
    owner: str = ""

    async def home(self, *_: Any, **__: Any) -> str:
        return self.owner

    async def tools(self, run: Run, request: RunRequest, *_: Any, **__: Any) -> Sequence[Tool]:  # noqa: ARG002
        return [self.tool] if request.code is not None else []

    async def readied(self, tenant: str, history: Sequence[Message], **_: Any) -> list[Message]:  # noqa: ARG002
        return list(history)


@asynccontextmanager
async def a_process(
    address: str,
    turns: Iterable[Sequence[Step]] = (),
    *,
    tool: Tool | None = None,
    bounds: Bounds | None = None,
    home: str = "",
) -> AsyncGenerator[Any]:
    """A core with a connection of its own, as another process would have it."""
    async with open_repository(address) as repository:
        upkeep = Upkeep(MemoryStorage(DownloadLinks(b"s" * 32, "http://127.0.0.1")), repository)
        planner = ScriptedPlanner(turns)
        tools = Tools(tool or Echo(), home)
        async with Core(repository, upkeep, planner, tools, bounds=bounds) as core:
            yield Process(core, repository, upkeep, planner, tools)


@pytest.fixture
def process(address):
    """`process(turns, tool=...)`: see `a_process`."""
    return partial(a_process, address)


@dataclass
class Process:
    """A core and what it stands on."""

    core: Core
    repository: Any
    upkeep: Upkeep
    planner: ScriptedPlanner
    tools: Tools

    async def start(self, text: str = "hello", **others: Any) -> Run:
        request: dict[str, Any] = {"model": "m", "code": CodeOptions(), "inputs": (said(text),), **others}
        return await self.core.start(TENANT, RunRequest(**request))

    async def events(self, run: Run, *, after: int = 0) -> list[tuple[str, Any]]:
        return [(event.kind, event.payload) async for event in self.core.follow(TENANT, run.id, after=after)]

    async def kinds(self, run: Run) -> list[str]:
        return [event for event, _ in await self.events(run)]

    async def until(self, run: Run, wanted: str) -> None:
        """Wait for the first event of a kind."""
        with anyio.fail_after(20):
            async for event in self.core.follow(TENANT, run.id):
                if event.kind == wanted:
                    return


def said(text: str) -> Said:
    return Said(role=Role.USER, parts=(Part(kind="text", content={"text": text}),))
