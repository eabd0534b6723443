"""Chat completions with the official client in its strict mode: code runs in them, and nothing is kept."""

from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import openai
import pytest

from bichat.conversation.planner import PlannerError
from bichat.testing.planner import calls, says

from .test_files_and_containers import _own, _site

pytestmark = pytest.mark.sandbox


def python(code: str):
    return calls("python", json.dumps({"code": code}))


def ask(client, *messages, **others):
    messages = messages or ({"role": "user", "content": "go"},)
    return client.chat.completions.create(model="m", messages=list(messages), **others)


def test_code_runs_in_an_answer_and_its_files_come_as_links(served, client):
    served.plays(python("open('a.txt', 'w').write('a')\nprint(6 * 7)"), says("It is 42."))
    made = ask(client)
    (choice,) = made.choices
    text, _, link = choice.message.content.partition("\n\n")
    assert (text, choice.finish_reason, made.model) == ("It is 42.", "stop", "m")
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (20, 6, 26)
    address = link.removeprefix("[a.txt](").removesuffix(")")
    assert httpx.get(address).content == b"a"
    assert "42" in served.planner.asked[-1].history[-1].parts[0].content["told"]


def test_a_stream_says_the_same_and_then_what_it_took(served, client):
    served.plays(python("1"), says("One ", "😀"))
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "One 😀"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 26
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_callers_own_functions_are_called_and_answered(served, client):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    served.plays(calls("weather", "{}", call_id="call_7"), says("Cold."))
    question = {"role": "user", "content": [{"type": "text", "text": "go"}]}
    first = ask(client, question, tools=[tool])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_7", "weather", "{}")
    result = {"role": "tool", "tool_call_id": "call_7", "content": "-3"}
    second = ask(client, question, first.choices[0].message.to_dict(), result, tools=[tool])
    assert second.choices[0].message.content == "Cold."
    served.plays(calls("weather", "{}", call_id="call_8"))
    *_, called, _ = list(ask(client, question, tools=[tool], stream=True))
    assert called.choices[0].delta.tool_calls[0].function.name == "weather"


def test_an_answer_that_fails_is_an_error_that_is_not_retried_once_code_has_run(served, client):
    served.plays([PlannerError("busy", reason="rate_limited")])
    with pytest.raises(openai.RateLimitError):
        ask(client)
    served.plays(python("1"), [PlannerError("down", reason="unavailable")])
    with pytest.raises(openai.UnprocessableEntityError, match="down"):
        ask(client)
    served.plays(python("1"), [PlannerError("down", reason="unavailable")])
    with pytest.raises(openai.APIError, match="down"):
        list(ask(client, stream=True))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, "messages"),
        ({"messages": 5}, "messages"),
        ({"messages": [5]}, r"messages\[0\]"),
        ({"messages": [{"role": "robot"}]}, "'robot'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "call_id"),
        ({"messages": [], "n": 2}, "'n'"),
        ({"messages": [], "functions": []}, "send tools"),
        ({"messages": [], "stop": ["\n"]}, "'stop'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"messages": [], "stream_options": 5, "stream": True}, "stream_options"),
    ],
)
def test_what_cannot_be_is_refused(served, fields, words):
    headers = {"authorization": f"Bearer {served.key('acme')}"}
    answer = httpx.post(f"{served.url}/chat/completions", json={"model": "m", **fields}, headers=headers)
    assert answer.status_code == 400
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(answer.json()["error"]["message"])


def test_azures_client_puts_the_model_into_the_path(served):
    served.plays(says("Hello."))
    root = served.url.removesuffix("/v1")
    key = served.key("acme")
    with openai.AzureOpenAI(azure_endpoint=root, api_key=key, api_version="2024-10-21", max_retries=0) as azure:
        made = azure.chat.completions.create(model="local-python", messages=[{"role": "user", "content": "print(1)"}])
    assert (made.model, made.choices[0].message.content) == ("local-python", "1\n")
    asked = {"messages": [{"role": "user", "content": "print(2)"}], "stop": []}
    bare = httpx.post(f"{root}/openai/deployments/m/chat/completions", json=asked, headers={"api-key": key})
    assert (bare.json()["model"], bare.json()["choices"][0]["message"]["content"]) == ("m", "Hello.")


def test_links_lead_to_where_the_server_was_reached_and_are_none_where_that_is_not_known(tmp_path, bare_settings):
    message: Any = [{"role": "user", "content": "open('a b.txt', 'w').write('a')"}]
    with _site(_own(bare_settings(), tmp_path), is_local=False, planners=None) as site:
        client = site.client(site.key("acme"))

        def answered(**headers: str) -> str:
            made = client.chat.completions.create(model="local-python", messages=message, extra_headers=headers)
            return made.choices[0].message.content or ""

        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="gpt-5", messages=message)
        assert (refused.value.code, refused.value.param) == ("not_configured", "model")
        assert "[a b.txt](http://bi.example.com/files/acme/" in answered(Host="bi.example.com")
        assert "[a b.txt](sandbox:/mnt/data/a%20b.txt)" in answered()
