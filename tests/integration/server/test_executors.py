"""Executors, each before the real thing: this machine's sandbox, and a server of ours over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from openai import AsyncAzureOpenAI

from bichat import CodeInterpreter
from bichat.agent.local_executor import LocalExecutor
from bichat.clients import AssistantsClient, ClientOptions, ResponsesClient
from bichat.clients.remote_executor import RemoteExecutor
from bichat.domain import Status
from bichat.errors import CodeFailedError, RemoteServiceError
from bichat.executor import CodeRequest, Executor
from bichat.repository.opening import open_repository
from bichat.repository.records import Conversation, Message, Role
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.storage.nothing import NoStorage
from bichat.testing.executor import ExecutorConformance
from bichat.testing.planner import calls, says

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

CLIENTS: dict[str, type[RemoteExecutor]] = {"assistants": AssistantsClient, "responses": ResponsesClient}


@pytest.fixture(params=CLIENTS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def connected(served, tmp_path) -> Callable[..., Any]:
    """A context manager: a client of the server with a storage and a database of its own."""

    @asynccontextmanager
    async def opened(kind: str, tenant: str = "acme", **options: Any) -> AsyncGenerator[RemoteExecutor]:
        storage = LocalStorage(tmp_path / "files", DownloadLinks(b"s" * 32, "https://bi.example.com"))
        async with (
            served.async_client(tenant) as client,
            open_repository(f"sqlite+aiosqlite:///{tmp_path}/own.db") as repository,
            CLIENTS[kind](
                client, storage, repository=repository, options=ClientOptions(poll_interval_s=0.02, **options)
            ) as executor,
        ):
            yield executor

    return opened


class TestTheSandbox(ExecutorConformance):
    pytestmark = pytest.mark.sandbox

    @pytest.fixture
    async def executor(self, bare_settings, needs_namespaces_here) -> AsyncGenerator[Executor]:  # noqa: ARG002
        async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
            yield LocalExecutor(interpreter)


class TestClients(ExecutorConformance):
    pytestmark = pytest.mark.sandbox

    @pytest.fixture
    async def executor(self, connected, kind) -> AsyncGenerator[Executor]:
        async with connected(kind) as executor:
            yield executor


def _left(served: Any, tenant: str) -> dict[str, int]:
    """Rows of the tenant's that are on the server, of each kind."""
    rows = served.services.repository
    pages = {
        "assistants": partial(rows.definitions.page, kind="assistant"),
        "files": rows.files.page,
        "outputs": rows.outputs.page,
        "sessions": rows.sessions.page,
        "conversations": rows.conversations.page,
    }
    return {name: len(served.call(page, tenant).items) for name, page in pages.items()}


async def test_what_came_out_is_stored_here_and_nothing_is_left_there(served, connected, kind):
    async with connected(kind, f"tidy-{kind}") as executor:
        rows = executor._repository
        assert rows is not None
        talk = await rows.conversations.add("local", Conversation(tenant="local"))
        message = await rows.messages.add("local", Message(tenant="local", conversation_id=talk.id, role=Role.USER))
        text = "Count:\n```python\nopen('a.csv', 'w').write('1,2\\n')\nopen('b.json', 'w').write('{}')\nprint(3)\n```"

        outputs = await executor.execute_code_interpreter(message.id, text)

        assert {output.name: output.mime_type for output in outputs} == {
            "a.csv": "text/csv",
            "b.json": "application/json",
        }
        for output in outputs:
            assert (await executor._storage.stat(output.storage_key)).sha256 == output.sha256
        assert {output.id for output in (await rows.outputs.page("local", message_id=message.id)).items} == {
            output.id for output in outputs
        }
        assert await rows.leftovers.waiting() == ()
        with pytest.raises(CodeFailedError, match="ZeroDivisionError"):
            await executor.execute_code_interpreter(None, "print(1 / 0)")
        request = CodeRequest(code="open('c.csv', 'w').close()\nwhile True: pass", files={"in.csv": b"1"}, timeout_s=1)
        result = await executor.execute(request)
        assert result.status is Status.TIMEOUT
    async with connected(kind, f"tidy-{kind}", model="local-python") as executor:
        with pytest.raises(RemoteServiceError) as caught:
            await executor.ask("How many regions are there?")
        assert (caught.value.ran, caught.value.is_retryable) == (False, False)
    assert set(_left(served, f"tidy-{kind}").values()) == {0}


async def test_the_local_executor_records_outputs_with_their_message(bare_settings, needs_namespaces_here, tmp_path):
    storage = LocalStorage(tmp_path / "files", DownloadLinks(b"s" * 32, "https://bi.example.com"))
    async with (
        open_repository(f"sqlite+aiosqlite:///{tmp_path}/own.db") as rows,
        CodeInterpreter(settings=bare_settings(), preload=False, storage=storage, repository=rows) as interpreter,
    ):
        talk = await rows.conversations.add("acme", Conversation(tenant="acme"))
        message = await rows.messages.add("acme", Message(tenant="acme", conversation_id=talk.id, role=Role.USER))
        request = CodeRequest(code="open('a.csv', 'w').write('1')", tenant="acme", message_id=message.id)

        result = await LocalExecutor(interpreter).execute(request)

        (output,) = result.outputs
        assert (await rows.outputs.page("acme", message_id=message.id)).items == (output,)


@pytest.mark.parametrize("path", ["", "/v1"])
async def test_azures_client_does_as_well(served, kind, path):
    root = served.url.removesuffix("/v1")
    where: dict[str, Any] = {"azure_endpoint": root} if not path else {"base_url": f"{root}/openai{path}"}
    async with AsyncAzureOpenAI(api_key=served.key("acme"), api_version="2024-05-01-preview", **where) as client:
        executor = CLIENTS[kind](client, NoStorage())

        outputs = await executor.execute_code_interpreter(None, "open('a.csv', 'w').write('1')")

    assert [output.name for output in outputs] == ["a.csv"]


async def test_a_model_that_mends_its_code_and_cites_its_files_is_one_result(served, kind):
    wrote = "open('chart.png', 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n')\nprint('drawn')"
    served.plays(
        calls("python", json.dumps({"code": "draw()"})),
        calls("python", json.dumps({"code": wrote})),
        says("Here: sandbox:/mnt/data/chart.png"),
    )
    async with served.async_client() as client:
        executor = CLIENTS[kind](client, NoStorage(), options=ClientOptions(model="m", poll_interval_s=0.02))
        result = await executor.ask("Create a bar chart: North=100, South=150")

    assert (result.status, result.is_verbatim, result.cells) == (Status.COMPLETED, False, ("draw()", wrote))
    assert "NameError" in result.logs
    assert result.logs.endswith("drawn\n")
    assert [output.name for output in result.outputs] == ["chart.png"]
    assert result.text == "Here: sandbox:/mnt/data/chart.png"
    assert result.usage
