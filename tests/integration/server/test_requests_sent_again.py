"""Code runs once, however often a client sends its request for want of an answer."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import openai
import pytest

from .test_files_and_containers import _own, _site

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CODE = "import time; open('/tmp/n', 'a').write('x'); print('begun', flush=True); time.sleep({}); print(open('/tmp/n').read())"


@pytest.fixture
def hasty(served) -> Any:
    """One that gives up after half a second, and tries again by itself."""
    with openai.OpenAI(base_url=served.url, api_key=served.key("acme"), max_retries=2, timeout=0.5) as client:
        yield client


def _count(client: Any, container: Any) -> int:
    """How often the code has run, once it runs no more."""
    tool: Any = [{"type": "code_interpreter", "container": container.id}]
    answer = client.responses.create(model="local-python", input="print(open('/tmp/n').read())", tools=tool)
    return len(answer.output_text.strip())


def test_a_response_that_takes_longer_than_its_client_waits_runs_once_and_is_given_to_who_asks_again(client, hasty):
    container = client.containers.create(name="n")
    tool: Any = [{"type": "code_interpreter", "container": container.id}]
    answer = hasty.responses.create(model="local-python", input=CODE.format(0.9), tools=tool)
    other = client.responses.create(model="local-python", input="print(open('/tmp/n').read())", tools=tool)

    assert answer.output_text == "begun\nx\n"
    assert other.output_text == "x\n"


def test_one_that_is_not_to_be_stored_and_a_chat_completion_likewise(client, hasty):
    container = client.containers.create(name="n")
    tool: Any = [{"type": "code_interpreter", "container": container.id}]
    answer = hasty.responses.create(model="local-python", input=CODE.format(0.9), tools=tool, store=False)
    said: Any = [{"role": "user", "content": CODE.format(0.9)}]
    completion = hasty.chat.completions.create(model="local-python", messages=said, extra_body={"tools": tool})

    assert answer.output_text == "begun\nx\n"
    assert completion.choices[0].message.content.startswith("begun\nxx\n")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_who_gives_up_for_good_leaves_code_that_ran_once(client, served):
    container = client.containers.create(name="n")
    tool: Any = [{"type": "code_interpreter", "container": container.id}]
    with (
        openai.OpenAI(base_url=served.url, api_key=served.key("acme"), max_retries=1, timeout=0.3) as hasty,
        pytest.raises(openai.APITimeoutError),
    ):
        hasty.responses.create(model="local-python", input=CODE.format(2), tools=tool)

    assert _count(client, container) == 1


def test_a_request_that_is_answered_begins_another_run_when_it_is_sent_anew(client):
    container = client.containers.create(name="n")
    asked: Any = {
        "model": "local-python",
        "input": CODE.format(0),
        "tools": [{"type": "code_interpreter", "container": container.id}],
    }
    answers = [client.responses.create(**asked).output_text for _ in range(3)]

    assert answers == ["begun\nx\n", "begun\nxx\n", "begun\nxxx\n"]


def test_a_named_request_has_one_run_in_whatever_form_it_is_asked_for_again(client, served):
    container = client.containers.create(name="n")
    tool: Any = [{"type": "code_interpreter", "container": container.id}]
    asked: Any = {"model": "local-python", "input": CODE.format(0), "tools": tool}
    named = {"Idempotency-Key": "order-7"}
    first = client.responses.create(**asked, extra_headers=named)
    again = client.responses.create(**asked, extra_headers=named)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**asked | {"input": "print(2)"}, extra_headers=named)
    other = client.responses.create(**asked, extra_headers={"Idempotency-Key": "order-8"})
    stranger = served.client("globex").responses.create(
        model="local-python", input="print(3)", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
        extra_headers=named,
    )  # fmt: skip

    said: Any = [{"role": "user", "content": CODE.format(0)}]
    completions = [
        client.chat.completions.create(
            model="local-python",
            messages=said,
            extra_body={"tools": tool},
            extra_headers={"Idempotency-Key": "order-9"},
        )
        for _ in range(2)
    ]

    assert (again.id, again.output_text) == (first.id, "begun\nx\n")
    assert [each.choices[0].message.content for each in completions] == ["begun\nxxx\n"] * 2
    assert refused.value.code == "idempotency_key_reused"
    assert other.output_text == "begun\nxx\n"
    assert stranger.output_text == "3\n"
    with pytest.raises(openai.BadRequestError):
        client.responses.create(**asked, extra_headers={"Idempotency-Key": "x" * 256})


def test_a_named_stream_is_the_same_stream_again(client):
    tool: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    asked: Any = {"model": "local-python", "input": "print(1)", "tools": tool, "stream": True}
    streams = [list(client.responses.create(**asked, extra_headers={"Idempotency-Key": "s"})) for _ in range(2)]

    assert [event.to_dict() for event in streams[0]] == [event.to_dict() for event in streams[1]]


def test_a_thread_and_its_run_are_made_once(client):
    assistant = client.beta.assistants.create(model="local-python", tools=[{"type": "code_interpreter"}])
    asked: Any = {
        "assistant_id": assistant.id,
        "thread": {"messages": [{"role": "user", "content": "print(1)"}]},
    }
    first = client.beta.threads.create_and_run(**asked)
    again = client.beta.threads.create_and_run(**asked, extra_headers={"x-stainless-retry-count": "1"})
    other = client.beta.threads.create_and_run(**asked)

    assert (again.id, again.thread_id) == (first.id, first.thread_id)
    assert other.thread_id != first.thread_id


def test_another_process_knows_what_was_begun_elsewhere(tmp_path, bare_settings):
    settings = _own(bare_settings(), tmp_path)
    with _site(settings, planners=None) as here, _site(settings, planners=None) as there:
        tool: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
        asked: Any = {"model": "local-python", "input": CODE.format(1.5), "tools": tool}
        impatient = here.client().with_options(timeout=0.5)
        with pytest.raises(openai.APITimeoutError):
            impatient.responses.create(**asked)
        answer = there.client().responses.create(**asked, extra_headers={"x-stainless-retry-count": "1"})

    assert answer.output_text == "begun\nx\n"


def test_a_request_that_failed_before_code_ran_begins_anew_when_it_is_sent_again(served, client):
    asked: Any = {
        "model": "local-python",
        "input": "only words",
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
    }
    for count in ("0", "1"):
        with pytest.raises(openai.BadRequestError):
            client.responses.create(**asked, extra_headers={"x-stainless-retry-count": count})
    assert httpx.get(f"{served.url.removesuffix('/v1')}/healthz").status_code == 200
