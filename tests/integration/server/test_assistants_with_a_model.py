"""Threads the whole way: the official client, one server or two, a provider's model, the sandbox, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import OpenAI

from bichat import live_sessions
from bichat.server import naming
from bichat.testing.upstream import Answer, Call, Failure, Upstream

from . import test_with_a_model as with_a_model
from .conftest import serving
from .test_files_and_containers import _own, _site
from .test_with_a_model import _code

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

kind, address, sites = with_a_model.kind, with_a_model.address, with_a_model.sites
sqlite_address, sqlite_with_tables = with_a_model.sqlite_address, with_a_model.sqlite_with_tables
postgres, postgres_with_tables = with_a_model.postgres, with_a_model.postgres_with_tables
CODE: Any = [{"type": "code_interpreter"}]


def _ask(client, assistant, text: str = "go", thread: Any = None):
    thread = thread or client.beta.threads.create()
    client.beta.threads.messages.create(thread.id, role="user", content=text)
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    return thread, run


def test_a_model_takes_several_steps_mends_its_code_and_its_citations_are_replaced_as_programs_always_did(sites):
    answer = "📊 Chart: [größe.csv](sandbox:/mnt/data/größe.csv), and sandbox:/mnt/data/b.txt too; not sandbox:/mnt/data/no.x"
    script = [
        Answer("Let me look.", Call("python", '{"code": "print(totl)"}')),
        _code("print(30)", "open('größe.csv', 'w').write('30')"),
        Answer("Now the other.", Call("python", "{\"code\": \"open('b.txt', 'w').write('b')\"}", id="call_3")),
        Answer(*(answer[place : place + 4] for place in range(0, len(answer), 4))),
    ]
    with Upstream(script) as upstream:
        (site,) = sites(upstream)
        client = site.client()
        assistant = client.beta.assistants.create(model="gpt-4-1106-preview", tools=CODE, instructions="Sums.")
        thread, run = _ask(client, assistant, "sum?")
        steps = client.beta.threads.runs.steps.list(run_id=run.id, thread_id=thread.id, order="asc").data
        messages = client.beta.threads.messages.list(thread.id, run_id=run.id, order="asc").data

        # As the old documents taught it: each annotation's text is put in the place of a link to the file.
        text = messages[-1].content[0].text
        value, cited = text.value, {}
        for annotation in text.annotations:
            cited[annotation.text] = client.files.content(annotation.file_path.file_id).read()
            assert text.value[annotation.start_index : annotation.end_index] == annotation.text
            value = value.replace(annotation.text, f"<{annotation.file_path.file_id}>")

        assert (run.status, run.model) == ("completed", "gpt-4-1106-preview")
        assert [step.type for step in steps] == [
            *("message_creation", "tool_calls", "tool_calls"),
            *("message_creation", "tool_calls", "message_creation"),
        ]
        calls = [step.step_details.tool_calls[0] for step in steps if step.type == "tool_calls"]
        assert len({call.id for call in calls}) == 3
        assert "NameError" in calls[0].code_interpreter.outputs[0].logs
        assert calls[1].code_interpreter.outputs[0].logs == "30\n"
        assert [step.status for step in steps] == ["completed"] * 6
        assert [message.content[0].text.value for message in messages] == ["Let me look.", "Now the other.", answer]
        assert cited == {"sandbox:/mnt/data/größe.csv": b"30", "sandbox:/mnt/data/b.txt": b"b"}
        assert "sandbox:" not in value.replace("sandbox:/mnt/data/no.x", "")
        assert run.usage.to_dict()["total_tokens"] == 60
        assert sum(step.usage.total_tokens for step in steps) == 60
        told = upstream.requests[1].body["messages"]
        assert "NameError" in told[-1]["content"]
        assert "Sums." in told[0]["content"]


def test_a_provider_that_fails_fails_the_run_and_no_request_so_that_nobody_runs_code_again(sites):
    script = [_code("print(1)"), Failure(400, {"message": "no"}), Failure(401, {"message": "bad key"})]
    with Upstream(script) as upstream:
        (site,) = sites(upstream)
        client = site.client()
        assistant = client.beta.assistants.create(model="m", tools=CODE)
        thread, first = _ask(client, assistant)
        _, second = _ask(client, assistant, thread=thread)

    assert (first.status, first.last_error.code) == ("failed", "invalid_prompt")
    assert (second.status, second.last_error.code) == ("failed", "server_error")


def test_two_servers_on_one_database_share_threads_and_code_runs_where_the_thread_has_its_session(sites):
    weather: Any = [{"type": "function", "function": {"name": "weather"}}]
    script = [
        _code("x = 20"),
        Answer("one"),
        _code("print(x + 1)", call_id="call_2"),
        Answer(Call("weather", "{}", id="call_3")),
        _code("print(x + 2)", call_id="call_4"),
        Answer("two"),
    ]
    with Upstream(script) as upstream:
        here, there = (site.client() for site in sites(upstream, 2))
        assistant = here.beta.assistants.create(model="m", tools=[*CODE, *weather])
        thread, _ = _ask(here, assistant)
        # The session lives in the first server; the second one is asked to go on, and is given what came of a function.
        _, waiting = _ask(there, assistant, thread=thread)
        assert waiting.status == "requires_action"
        with there.beta.threads.runs.submit_tool_outputs_stream(
            run_id=waiting.id, thread_id=thread.id, tool_outputs=[{"tool_call_id": "call_3", "output": "25 °C"}]
        ) as stream:
            stream.until_done()
        steps = here.beta.threads.runs.steps.list(run_id=waiting.id, thread_id=thread.id, order="asc").data

        assert stream.get_final_run().status == "completed"
        logs = [
            step.step_details.tool_calls[0].code_interpreter.outputs[0].logs
            for step in steps
            if step.type == "tool_calls" and step.step_details.tool_calls[0].type == "code_interpreter"
        ]
        assert logs == ["21\n", "22\n"]
        assert there.beta.threads.messages.list(thread.id).data == here.beta.threads.messages.list(thread.id).data
        there.beta.threads.delete(thread.id)
        with pytest.raises(openai.NotFoundError):
            here.beta.threads.retrieve(thread.id)


def test_a_thread_that_another_server_deletes_ends_its_session_and_leaves_none_of_its_files(
    tmp_path, bare_settings, needs_namespaces_here, monkeypatch
):
    monkeypatch.setattr(live_sessions, "_LOOK_EVERY_S", 0.05)
    with serving(bare_settings(), tmp_path) as here, serving(bare_settings(), tmp_path) as there:
        client: Any = here.client()
        other: Any = OpenAI(base_url=there.url, api_key=here.key("acme"), max_retries=0)
        assistant = client.beta.assistants.create(model="local-python", tools=CODE)
        thread, _ = _ask(client, assistant, "open('a.txt', 'w').write('a')")
        (made,) = client.beta.threads.messages.list(thread.id, limit=1).data[0].attachments
        (container,) = client.containers.list().data
        kept, _ = _ask(client, assistant, "x = 1")
        session = here.services.sessions._here[naming.row_id(container.id, naming.CONTAINER)]
        with other:
            other.beta.threads.delete(thread.id)
        here.call(session.recorded)
        _ask(client, assistant, "print(x)", kept)
        answer = client.beta.threads.messages.list(kept.id, limit=1).data[0]

        assert not session.alive
        assert answer.content[0].text.value == "1\n"
        assert container.id not in [each.id for each in client.containers.list()]
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.file_id)


def test_a_thread_whose_session_has_expired_has_its_files_again_in_a_new_one(tmp_path, bare_settings, sqlite_address):
    usual = bare_settings()
    settings = replace(
        _own(usual, tmp_path), database_url=sqlite_address, bounds=replace(usual.bounds, idle_s=0.5),
        limits=replace(usual.limits, idle_s=0.5),
    )  # fmt: skip
    with _site(settings, planners=None) as site:
        client: Any = site.client()
        file = client.files.create(file=("in.csv", b"given"), purpose="assistants")
        assistant = client.beta.assistants.create(
            model="local-python", tools=CODE, tool_resources={"code_interpreter": {"file_ids": [file.id]}}
        )
        thread, first = _ask(client, assistant, "x = 1\nopen('a.txt', 'w').write('kept')")
        while not any(each.status == "expired" for each in client.containers.list()):
            pass  # looking at it alone would be use
        code = (
            f"print(open('a.txt').read(), open('/mnt/data/{file.id}').read(), open('in.csv').read(), 'x' in globals())"
        )
        _, second = _ask(client, assistant, code, thread)
        answer = client.beta.threads.messages.list(thread.id, limit=1).data[0]

    assert (first.status, second.status) == ("completed", "completed")
    assert answer.content[0].text.value == "kept given given False\n"
    assert "expired" in second.metadata["bichat.container"]
