"""What it costs to ask over HTTP: the same code by `bichat serve` and by the Python API, streams, and those that are idle."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2

from bench.crowd import interpreter
from bench.samples import Samples
from bench.tasks import OutputError
from bichat.settings.location import data_dir

#: Lines that a stream tells of live.
LINES: Final = 200
#: Streams that wait for something to happen.
IDLE_STREAMS: Final = 100
_WORKERS: Final = 4
_START_S: Final = 60
_CODE: Final = "print(1)"
#: With a moment between lines, so that each is an event of its own.
_TALKS: Final = f"import time\nfor n in range({LINES}):\n    print(n, flush=True)\n    time.sleep(0.003)"
_WAITS: Final = "import time; time.sleep(300)"


@dataclass(slots=True)
class Serving:
    """All that is taken."""

    api: Samples = field(default_factory=Samples)
    """A cell in an open session, by the Python API, nothing kept."""
    http: Samples = field(default_factory=Samples)
    """The same in an open container, by a response that is stored."""
    plain: Samples = field(default_factory=Samples)
    """Code that prints `LINES` lines, by a response as a whole."""
    streamed: Samples = field(default_factory=Samples)
    """The same as a stream with live output."""
    events: int = 0
    """Events of one such stream."""
    responses_per_s: float = 0.0
    """Responses a second, from `_WORKERS` who ask one after the other."""
    idle_bytes: float = 0.0
    """What one idle stream adds to the server's memory (PSS)."""

    @property
    def event_ms(self) -> float:
        """What one event of a stream costs."""
        return (self.streamed.median_ms - self.plain.median_ms) / self.events


async def serve(times: int) -> Serving:
    """Take it, `times` of each.

    Raises:
        OutputError: the server does not do what it is measured at.
    """
    found = Serving()
    async with interpreter(0) as own, own.session() as session, _server() as server:
        container = await server.container()
        for turn in range(times + 1):
            begun = time.perf_counter()
            await session.run(_CODE)
            halfway = time.perf_counter()
            await server.ask(_CODE, container)
            if turn:
                found.api.seconds.append(halfway - begun)
                found.http.seconds.append(time.perf_counter() - halfway)
        for turn in range(max(1, times // 10) + 1):
            begun = time.perf_counter()
            await server.ask(_TALKS, container)
            halfway = time.perf_counter()
            found.events = await server.listen(_TALKS, container)
            if turn:
                found.plain.seconds.append(halfway - begun)
                found.streamed.seconds.append(time.perf_counter() - halfway)
        found.responses_per_s = await _throughput(server, times)
        found.idle_bytes = await _idle(server, container)
    return found


@dataclass(frozen=True, slots=True)
class _Server:
    process: int
    client: httpx2.AsyncClient

    async def container(self) -> str:
        answer = await self.client.post("/v1/containers", json={"name": "bench"})
        return str(_good(answer)["id"])

    async def ask(self, code: str, container: str, **others: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/responses", json=_asked(code, container, **others))
        return _good(answer)

    async def listen(self, code: str, container: str) -> int:
        """How many events a stream has."""
        asked = _asked(code, container, stream=True, include=["bichat.live_output"])
        count = 0
        async with self.client.stream("POST", "/v1/responses", json=asked) as answer:
            async for line in answer.aiter_lines():
                count += line.startswith("data:")
                if line.startswith("data:") and '"response.failed"' in line:
                    raise OutputError(line)
        return count


def _asked(code: str, container: str, **others: Any) -> dict[str, Any]:
    tools = [{"type": "code_interpreter", "container": container}]
    return {"model": "local-python", "input": f"```python\n{code}\n```", "tools": tools, **others}


def _good(answer: httpx2.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if answer.status_code != 200 or body.get("status") == "failed":
        raise OutputError(f"the server answered {answer.status_code}: {json.dumps(body)[:500]}")
    return body


async def _throughput(server: _Server, times: int) -> float:
    async def work() -> None:
        container = await server.container()
        await server.ask(_CODE, container)
        ready.append(container)
        while len(ready) < _WORKERS:
            await anyio.sleep(0.01)
        for _ in range(times):
            await server.ask(_CODE, container)

    ready: list[str] = []
    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(_WORKERS):
            tasks.start_soon(work)
        while len(ready) < _WORKERS:
            await anyio.sleep(0.01)
        begun = time.perf_counter()
    return _WORKERS * times / (time.perf_counter() - begun)


async def _idle(server: _Server, container: str) -> float:
    """What each of many that follow one response adds; the response is cancelled in the end."""
    waiting = await server.ask(_WAITS, container, background=True)
    before = _pss(server.process)
    listening = grown = 0

    async def listen() -> None:
        nonlocal listening
        path = f"/v1/responses/{waiting['id']}?stream=true"
        async with server.client.stream("GET", path) as answer:
            is_heard = False
            async for line in answer.aiter_lines():
                if not is_heard and "response.code_interpreter_call.interpreting" in line:
                    is_heard = True
                    listening += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(IDLE_STREAMS):
            tasks.start_soon(listen)
        with anyio.fail_after(_START_S):
            while listening < IDLE_STREAMS:
                await anyio.sleep(0.05)
        grown = _pss(server.process) - before
        await server.client.post(f"/v1/responses/{waiting['id']}/cancel")
    return grown / IDLE_STREAMS


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OutputError("the kernel does not tell the server's memory")


@asynccontextmanager
async def _server() -> AsyncGenerator[_Server]:
    """`bichat serve` with a database and files of its own, and the environments that there are."""
    with tempfile.TemporaryDirectory(dir=data_dir()) as folder, socket.socket() as free:
        Path(folder, "environments").symlink_to(data_dir() / "environments")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "bichat", "serve", "--port", str(port), "--patience", "1"]
        environment = {**os.environ, "BICHAT_DATA_DIR": folder, "BICHAT_KEY_REQUESTS_PER_MINUTE": "1000000"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            limits = httpx2.Limits(max_connections=None)
            address = f"http://127.0.0.1:{port}"
            try:
                async with httpx2.AsyncClient(base_url=address, timeout=_START_S, limits=limits) as client:
                    await _until_ready(client, process)
                    yield _Server(process.pid, client)
            finally:
                process.terminate()
                process.wait(_START_S)


async def _until_ready(client: httpx2.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    with anyio.fail_after(_START_S):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            if process.poll() is not None:
                raise OutputError(f"the server has ended with {process.returncode}")
            await anyio.sleep(0.1)
