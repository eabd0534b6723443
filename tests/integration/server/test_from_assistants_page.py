"""What docs/how-to/from-assistants.md says of differences is so: each row of its table is tried."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from bichat.testing.planner import calls, says

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "from-assistants.md"
CODE: Any = [{"type": "code_interpreter"}]
CHECKS: dict[str, Callable[[Any, Any], None]] = {}

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def row(name: str) -> Any:
    """The test of a row, by what stands in its first column."""

    def keep(check: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        CHECKS[name] = check
        return check

    return keep


def _rows() -> list[str]:
    table = PAGE.read_text(encoding="utf-8").split("## What is different", 1)[1].split("## ", 1)[0]
    return [cells[1].strip() for line in table.splitlines() if (cells := line.split("|"))[1:]][2:]


def ask(client: Any, text: str, **options: Any) -> tuple[Any, Any, Any]:
    """A run of `local-python`, its newest message, and its first step."""
    assistant = client.beta.assistants.create(model="local-python", tools=options.pop("tools", CODE), **options)
    thread = client.beta.threads.create(messages=[{"role": "user", "content": text}])
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc").data
    return run, client.beta.threads.messages.list(thread.id).data[0], steps[0] if steps else None


@row("What you have there")
def nothing_comes_over(client: Any, served: Any) -> None:
    for look in (client.beta.assistants.retrieve, client.beta.threads.retrieve, client.files.retrieve):
        with pytest.raises(openai.NotFoundError):
            look("asst_abc123" if "ssistant" in str(look) else "thread_abc123")


@row("The model")
def any_name(client: Any, served: Any) -> None:
    served.plays(says("I am another one."))
    assistant = client.beta.assistants.create(model="gpt-4o")
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Who are you?"}]}
    )
    assert (assistant.model, run.model, run.status) == ("gpt-4o", "gpt-4o", "completed")


@row("The model `local-python`")
def local_python(client: Any, served: Any) -> None:
    run, answer, _ = ask(client, "Please:\n```python\nprint(6 * 7)\n```")
    refused, _, _ = ask(client, "How are you?")
    assert answer.content[0].text.value == "42\n"
    assert (run.status, refused.status, refused.last_error.code) == ("completed", "failed", "invalid_prompt")


@row("Code that raises")
def a_traceback(client: Any, served: Any) -> None:
    run, _, step = ask(client, "1 / 0")
    assert run.status == "completed"
    assert "ZeroDivisionError" in step.step_details.tool_calls[0].code_interpreter.outputs[0].logs


@row("Network of the code")
def no_network(client: Any, served: Any) -> None:
    _, _, step = ask(client, "import socket\nsocket.create_connection(('192.0.2.1', 80), 5)")
    assert "Error: [Errno" in step.step_details.tool_calls[0].code_interpreter.outputs[0].logs


@row("The session of a thread")
def a_session(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "open('a', 'w').write('kept')\nx = 1"}])
    client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    container = client.containers.list(limit=1).data[0]
    assert container.expires_after.minutes <= 60
    said: Any = [{"role": "user", "content": "import os\nos.kill(os.getpid(), 9)"}]
    client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id, additional_messages=said)
    said = [{"role": "user", "content": "print(open('a').read(), 'x' in globals())"}]
    run = client.beta.threads.runs.create_and_poll(
        thread_id=thread.id, assistant_id=assistant.id, additional_messages=said
    )
    answer = client.beta.threads.messages.list(thread.id).data[0]
    assert answer.content[0].text.value == "kept False\n"
    assert "bichat.container" in run.metadata


@row("Files that code left")
def all_files(client: Any, served: Any) -> None:
    served.plays(calls("python", "{\"code\": \"open('a.csv', 'w').write('1')\"}"), says("Done."))
    assistant = client.beta.assistants.create(model="m", tools=CODE)
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "go"}]}
    )
    [attached] = client.beta.threads.messages.list(run.thread_id).data[0].attachments
    assert client.files.content(attached.file_id).read() == b"1"


@row("Files that are given")
def by_id_and_name(client: Any, served: Any) -> None:
    file = client.files.create(file=("sales.csv", b"1"), purpose="assistants")
    code = f"print(open('/mnt/data/{file.id}').read(), open('/mnt/data/sales.csv').read())"
    _, answer, _ = ask(client, code, tool_resources={"code_interpreter": {"file_ids": [file.id]}})
    assert answer.content[0].text.value == "1 1\n"


@row("`file_search`")
def not_searched(client: Any, served: Any) -> None:
    file = client.files.create(file=("a.txt", b"1"), purpose="assistants")
    store = client.vector_stores.create(name="docs", file_ids=[file.id])
    run, _, _ = ask(client, "print(1)", tools=[*CODE, {"type": "file_search"}])
    assert "bichat.file_search" in run.metadata
    assert [each.id for each in client.vector_stores.files.list(store.id)] == [file.id]
    assert store.id in [each.id for each in client.vector_stores.list()]


@row("`file_ids` and `retrieval` of the first version")
def first_version(client: Any, served: Any) -> None:
    file = client.files.create(file=("old.csv", b"1"), purpose="assistants")
    run, answer, _ = ask(
        client,
        "print(open('old.csv').read())",
        tools=[*CODE, {"type": "retrieval"}],
        extra_body={"file_ids": [file.id]},
    )
    assert (run.status, answer.content[0].text.value) == ("completed", "1\n")
    old: Any = {"OpenAI-Beta": "assistants=v1"}
    told = client.beta.assistants.with_raw_response.retrieve(run.assistant_id, extra_headers=old).http_response.json()
    assert told["file_ids"] == [file.id]


@row("`/assistants/{id}/files` and `/threads/{id}/messages/{id}/files` of the first version")
def no_lists_of_files(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="m")
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "hi"}])
    [message] = client.beta.threads.messages.list(thread.id)
    for path in (f"/assistants/{assistant.id}/files", f"/threads/{thread.id}/messages/{message.id}/files"):
        with pytest.raises(openai.NotFoundError):
            client.get(path, cast_to=object)


@row("`expires_at` of a run")
def ten_minutes(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    said: Any = {"messages": [{"role": "user", "content": "print(1)"}]}
    run = client.beta.threads.create_and_run(assistant_id=assistant.id, thread=said)
    assert run.expires_at - run.created_at == 600


@row("Waiting for a run")
def held_polls(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    said: Any = {"messages": [{"role": "user", "content": "print(1)"}]}
    run = client.beta.threads.create_and_run(assistant_id=assistant.id, thread=said)
    looked = client.beta.threads.runs.with_raw_response.retrieve(
        run.id, thread_id=run.thread_id, extra_headers={"X-Stainless-Poll-Helper": "true"}
    )
    assert looked.headers["openai-poll-after-ms"] == "100"
    assert looked.parse().status == "completed"


@row("A request sent again after a time-out")
def one_run(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    asked: Any = {"assistant_id": assistant.id, "thread": {"messages": [{"role": "user", "content": "print(1)"}]}}
    first = client.beta.threads.create_and_run(**asked)
    assert client.beta.threads.create_and_run(**asked, extra_headers={"x-stainless-retry-count": "1"}).id == first.id


@row("A second run in a thread meanwhile")
def one_at_a_time(client: Any, served: Any) -> None:
    assistant = client.beta.assistants.create(model="local-python", tools=CODE)
    said: Any = {"messages": [{"role": "user", "content": "import time\ntime.sleep(600)"}]}
    run = client.beta.threads.create_and_run(assistant_id=assistant.id, thread=said)
    words = re.escape(f"Thread {run.thread_id} already has an active run {run.id}.")
    with pytest.raises(openai.BadRequestError, match=words):
        client.beta.threads.runs.create(thread_id=run.thread_id, assistant_id=assistant.id)
    client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert client.beta.threads.runs.poll(run.id, thread_id=run.thread_id).status == "cancelled"


@row("Another key's objects")
def other_tenants(client: Any, served: Any) -> None:
    thread = client.beta.threads.create()
    with pytest.raises(openai.NotFoundError):
        served.client("globex").beta.threads.retrieve(thread.id)


@pytest.mark.parametrize("name", _rows())
def test_what_the_page_says_of_assistants_is_so(served, client, name):
    CHECKS[name](client, served)


def test_every_test_of_the_page_has_its_row():
    assert sorted(_rows()) == sorted(CHECKS)
