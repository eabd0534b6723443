"""The scripted upstream, as OpenAI's own client sees it."""

from __future__ import annotations

import openai
import pytest

from bichat.testing.upstream import Answer, Call, Failure, Upstream

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client():
    """`client(upstream)`: OpenAI's client for it."""
    opened = []

    def make(upstream):
        opened.append(openai.OpenAI(base_url=upstream.url, api_key="k", max_retries=0))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_it_answers_whole_and_streamed(client):
    answer = Answer("Let me", " see.", Call("python", '{"code":', ' "1"}', id="c1"))
    with Upstream([answer, answer]) as upstream:
        completions = client(upstream).chat.completions
        whole = completions.create(model="m", messages=HELLO)
        streamed = list(completions.create(model="m", messages=HELLO, stream=True))

    (choice,) = whole.choices
    assert (choice.message.content, choice.finish_reason) == ("Let me see.", "tool_calls")
    assert choice.message.tool_calls[0].function.arguments == '{"code": "1"}'
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "Let me see."
    assert streamed[-1].choices[0].finish_reason == "tool_calls"
    assert [request.body.get("stream", False) for request in upstream.requests] == [False, True]


def test_it_fails_as_it_is_told_and_at_the_end_of_its_script(client):
    with Upstream([Failure(429, headers={"retry-after": "7"})]) as upstream:
        completions = client(upstream).chat.completions
        with pytest.raises(openai.RateLimitError) as limited:
            completions.create(model="m", messages=HELLO)
        with pytest.raises(openai.InternalServerError, match="at its end"):
            completions.create(model="m", messages=HELLO)

    assert limited.value.response.headers["retry-after"] == "7"


def test_it_lists_its_models(client):
    with Upstream(models=["a", "b"]) as upstream:
        assert [model.id for model in client(upstream).models.list()] == ["a", "b"]
