"""A planner with a provider behind it, over real HTTP against a scripted upstream."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest

from bichat.conversation import parts
from bichat.conversation.planner import (
    PlannerError,
    ReasoningDelta,
    ReasoningEnded,
    Sampling,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    ToolSpec,
    Turn,
    TurnEnded,
)
from bichat.conversation.planners.provider import OPENAI, Endpoint, Patience, ProviderPlanner
from bichat.repository.records import Message, Part, Role
from bichat.testing.upstream import Answer, Call, Cut, Failure, Raw, Reasoning, Upstream

KEY = "sk-test-4f8a2b1c9d"
PYTHON = ToolSpec(name="python", parameters={"type": "object", "properties": {"code": {"type": "string"}}})
ENDED = TurnEnded("stop", input_tokens=10, output_tokens=5, model="gpt-test")


def _message(kind, content, role=Role.USER):
    return Message(tenant="t", conversation_id="c", role=role, parts=(Part(kind=kind, content=content),))


def _user(text="Hello"):
    return _message(parts.TEXT, {"text": text})


def _endpoint(url, **more):
    return Endpoint(kind=OPENAI, model="gpt-test", base_url=url, key=KEY, **more)


def _turn(*history, **more):
    return Turn(model="any", history=history or (_user(),), **more)


async def _events(planner, turn):
    return [event async for event in planner.turn(turn)]


def _plan(upstream, turn=None, *, patience=None, **endpoint):
    """All events of one turn."""

    async def go():
        planner = ProviderPlanner(
            _endpoint(upstream.url, **endpoint), patience=patience or Patience(backoff_s=0.001, wait_s=1.0)
        )
        try:
            with anyio.fail_after(20):
                return await _events(planner, turn or _turn())
        finally:
            await planner.aclose()

    return anyio.run(go)


def _failure(upstream, turn=None, **more):
    with pytest.raises(PlannerError) as caught:
        _plan(upstream, turn, **more)
    assert KEY not in str(caught.value.to_dict())
    return caught.value


def test_text_reasoning_and_calls_come_as_they_are_written():
    answer = Answer(Reasoning("Hm"), Reasoning("m."), "Let me", " see.", Call("python", '{"code": ', '"1"}'))
    with Upstream([answer]) as upstream:
        events = _plan(upstream, _turn(tools=(PYTHON,)))

    assert [event for event in events if not isinstance(event, ReasoningEnded)] == [
        ReasoningDelta("Hm"),
        ReasoningDelta("m."),
        TextDelta("Let me"),
        TextDelta(" see."),
        ToolCallBegun("call_1", "python"),
        ToolCallDelta("call_1", '{"code": '),
        ToolCallDelta("call_1", '"1"}'),
        TurnEnded("tool_calls", input_tokens=10, output_tokens=5, model="gpt-test"),
    ]


def test_an_answer_comes_while_it_is_made():
    rest = threading.Event()

    async def go(url):
        planner = ProviderPlanner(_endpoint(url))
        seen = []
        with anyio.fail_after(20):
            async with aclosing(planner.turn(_turn())) as events:
                async for event in events:
                    seen.append(event)
                    rest.set()
        await planner.aclose()
        return seen

    with Upstream([Answer("first", rest, "second")]) as upstream:
        assert anyio.run(go, upstream.url) == [TextDelta("first"), TextDelta("second"), ENDED]


def test_what_was_said_is_replayed_as_it_was():
    history = (
        _message(parts.TEXT, {"text": "Be brief."}, Role.SYSTEM),
        _user("Sum it."),
        _message(parts.TEXT, {"text": "I will."}, Role.ASSISTANT),
        # What a turn took stands in its last item: the second call is another turn's.
        replace(
            _message(parts.CODE, {"call_id": "c1", "code": "1+1", "told": "2"}, Role.ASSISTANT), metadata={"usage": {}}
        ),
        _message(parts.TOOL_CALL, {"call_id": "c2", "name": "weather", "arguments": '{"at": "x"}'}, Role.ASSISTANT),
        _message(parts.TOOL_RESULT, {"call_id": "c2", "output": "rain"}),
        _message(parts.TEXT, {"text": "Two, and rain."}, Role.ASSISTANT),
        _user("Thanks."),
    )
    with Upstream([Answer("ok")]) as upstream:
        _plan(upstream, _turn(*history, instructions="You are bichat.", tools=(PYTHON,)))

    def called(call_id, name, arguments):
        return [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]

    assert [
        {name: value for name, value in message.items() if value is not None}
        for message in upstream.requests[0].body["messages"]
    ] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "You are bichat."},
        {"role": "user", "content": "Sum it."},
        {"role": "assistant", "content": "I will.", "tool_calls": called("c1", "python", '{"code":"1+1"}')},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "tool_calls": called("c2", "weather", '{"at":"x"}')},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
        {"role": "assistant", "content": "Two, and rain."},
        {"role": "user", "content": "Thanks."},
    ]


def test_what_a_turn_asks_for_reaches_the_provider():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    sampling = Sampling(
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        parallel_tool_calls=False,
        text_format={"type": "json_schema", "name": "sums", "schema": schema, "strict": False},
    )
    with Upstream([Answer("{}")]) as upstream:
        _plan(upstream, _turn(tools=(PYTHON,), tool_choice="python", sampling=sampling))

    body = upstream.requests[0].body
    assert {name: body.get(name) for name in ("temperature", "top_p", "parallel_tool_calls", "stream")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "stream": True,
    }
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 7
    assert body["tool_choice"] in ("required", {"type": "function", "function": {"name": "python"}})
    assert body["response_format"]["json_schema"]["name"] == "sums"
    assert body["response_format"]["json_schema"]["schema"]["properties"] == schema["properties"]
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_json_without_a_schema_is_asked_for():
    with Upstream([Answer("{}")]) as upstream:
        _plan(upstream, _turn(sampling=Sampling(text_format={"type": "json_object"})))

    assert upstream.requests[0].body["response_format"] == {"type": "json_object"}


def test_a_model_that_sees_is_shown_images_and_another_is_told_of_them():
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    code = {"call_id": "c1", "code": "plot()", "told": "(no output)", "shown": [url]}
    history = (_message(parts.IMAGE, {"url": url}), _message(parts.CODE, code, Role.ASSISTANT))
    with Upstream([Answer("ok"), Answer("ok")]) as upstream:
        _plan(upstream, _turn(*history), sees_images=True)
        _plan(upstream, _turn(*history), sees_images=False)

    seeing, blind = [json.dumps(request.body["messages"]) for request in upstream.requests]
    assert (seeing.count(url), blind.count("data:")) == (2, 0)
    assert "cannot see" in blind


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "http://127.0.0.1/a.png", "file:///etc/passwd", "data:text/html,x"]
)
def test_an_image_s_address_is_neither_fetched_nor_passed_on(url):
    with Upstream() as upstream:
        error = _failure(upstream, _turn(_message(parts.IMAGE, {"url": url})), sees_images=True)

        assert (error.reason, upstream.requests) == ("refused", [])


@pytest.mark.parametrize("arguments", [(), ("print(1)",), ('{"code": ', "oops"), ('{"cod": 1}',)])
def test_arguments_are_passed_on_as_they_came(arguments):
    with Upstream([Answer(Call("python", *arguments))]) as upstream:
        events = _plan(upstream, _turn(tools=(PYTHON,)))

    assert "".join(event.text for event in events if isinstance(event, ToolCallDelta)) == "".join(arguments)
    assert events[-1].finish == "tool_calls"


def test_calls_with_one_id_can_be_told_apart():
    before = _message(parts.CODE, {"call_id": "call_1", "code": "1", "told": "1"}, Role.ASSISTANT)
    with Upstream([Answer(Call("python", "{}", id="call_1"))]) as upstream:
        events = _plan(upstream, _turn(_user(), before, tools=(PYTHON,)))

    begun = [event.call_id for event in events if isinstance(event, ToolCallBegun)]
    assert len(begun) == 1
    assert begun != ["call_1"]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_was_ended_says_why(finish):
    with Upstream([Answer("so far", finish=finish)]) as upstream:
        assert _plan(upstream)[-1].finish == finish


def test_tokens_are_counted_by_kind():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    with Upstream([Answer("ok", usage=usage)]) as upstream:
        ended = _plan(upstream)[-1]

    assert ended == TurnEnded(
        "stop", input_tokens=100, cached_tokens=60, output_tokens=50, reasoning_tokens=30, model="gpt-test"
    )


@pytest.mark.parametrize(
    "failure",
    [Failure(429, headers={"retry-after": "0"}), Failure(500), Failure(503), Cut()],
    ids=["429", "500", "503", "a broken connection"],
)
def test_what_may_pass_is_tried_again(failure):
    with Upstream([failure, failure, Answer("ok")]) as upstream:
        assert _plan(upstream) == [TextDelta("ok"), ENDED]
        assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    "failure, reason, tries",
    [
        pytest.param(Failure(401, {"message": f"Incorrect API key: {KEY}"}), "unauthorized", 1, id="401"),
        pytest.param(Failure(403), "unauthorized", 1, id="403"),
        pytest.param(Failure(400), "refused", 1, id="400"),
        pytest.param(Failure(404), "refused", 1, id="404"),
        pytest.param(
            Failure(400, {"message": "This model's maximum context length is 9", "code": "context_length_exceeded"}),
            "context_too_long",
            1,
            id="too long",
        ),
        pytest.param(Failure(429, {"message": "x", "code": "insufficient_quota"}), "quota_exceeded", 1, id="quota"),
        pytest.param(Failure(429, headers={"retry-after": "3600"}), "rate_limited", 1, id="429 for an hour"),
        pytest.param(Failure(429), "rate_limited", 3, id="429"),
        pytest.param(Failure(500, "<html>" + "x" * 100_000), "unavailable", 3, id="500"),
        pytest.param(Failure(503, "x" * (3 << 20)), "unavailable", 3, id="a long error"),
        pytest.param(Cut(), "unavailable", 3, id="cut"),
    ],
)
def test_a_provider_s_failure_has_a_reason(failure, reason, tries):
    with Upstream([failure] * 5) as upstream:
        error = _failure(upstream)

        assert (error.reason, len(upstream.requests)) == (reason, tries)
    assert len(error.message) < 700


def test_when_to_come_back_is_passed_on():
    with Upstream([Failure(429, headers={"retry-after": "3600"})]) as upstream:
        assert _failure(upstream).retry_after_s == 3600


def test_nobody_there_is_said_so():
    with Upstream() as upstream:
        pass

    assert _failure(upstream).reason == "unavailable"


@pytest.mark.parametrize(
    "answer, reason",
    [
        pytest.param(Answer("so", Cut()), "cut_off", id="a broken connection"),
        pytest.param(Answer(Call("python", '{"co'), Cut()), "cut_off", id="within arguments"),
        pytest.param(Answer("so", finish=None), "cut_off", id="no end"),
        pytest.param(Answer("so", Raw('{"cho')), "malformed", id="no JSON"),
    ],
)
def test_an_answer_that_broke_off_is_never_asked_for_again(answer, reason):
    with Upstream([answer] * 3) as upstream:
        error = _failure(upstream, _turn(tools=(PYTHON,)))

        assert (error.reason, len(upstream.requests)) == (reason, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(Raw("x" * (9 << 20))), id="a line"),
        pytest.param(Answer(*["y" * 100_000] * 50), id="text"),
        pytest.param(Answer(Call("python", *["z" * 100_000] * 50)), id="arguments"),
    ],
)
def test_an_answer_without_an_end_is_given_up(answer):
    with Upstream([answer] * 3) as upstream:
        error = _failure(upstream, _turn(tools=(PYTHON,)))

        assert (error.reason, len(upstream.requests)) == ("malformed", 1)


def test_half_a_character_in_an_answer_can_be_sent_back():
    def chunk(**delta):
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        return Raw(
            json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices})
        )

    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "pyth\ud83d", "arguments": "{}"}}
    with Upstream([Answer(chunk(content="so \ud83d"), chunk(tool_calls=[call]), finish="tool_calls")]) as upstream:
        events = _plan(upstream, _turn(tools=(PYTHON,)))

    assert events[0] == TextDelta("so \ufffd")
    assert [event.name for event in events if isinstance(event, ToolCallBegun)] == ["pyth\ufffd"]


def test_an_error_within_the_stream_is_the_provider_s():
    raw = Raw(json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}))
    with Upstream([Answer(raw), Answer("ok")]) as upstream:
        assert _plan(upstream) == [TextDelta("ok"), ENDED]


@pytest.mark.parametrize("patience", [Patience(chunk_s=0.2), Patience(turn_s=0.2)], ids=["between pieces", "a turn"])
@pytest.mark.parametrize("before", [(), ("so",)], ids=["nothing yet", "after some"])
def test_a_model_that_falls_silent_is_given_up(patience, before):
    never = threading.Event()
    with Upstream([Answer(*before, never)]) as upstream:
        error = _failure(upstream, patience=patience)
        never.set()

    assert error.reason == "timeout"


def test_closing_a_turn_ends_its_request():
    never = threading.Event()

    async def go(url):
        planner = ProviderPlanner(_endpoint(url))
        with anyio.fail_after(20):
            async with aclosing(planner.turn(_turn())) as events:
                first = await anext(events)
        await planner.aclose()
        return first

    with Upstream([Answer("first", never)]) as upstream:
        assert anyio.run(go, upstream.url) == TextDelta("first")
        never.set()


def test_many_turns_at_a_time_are_not_mixed():
    def echo(received):
        return Answer(*received.body["messages"][-1]["content"])

    async def go(url):
        planner = ProviderPlanner(_endpoint(url))
        answers = {}

        async def one(text):
            events = await _events(planner, _turn(_user(text)))
            answers[text] = "".join(event.text for event in events if isinstance(event, TextDelta))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon(one, f"number {number}")
        await planner.aclose()
        return answers

    with Upstream(echo) as upstream:
        answers = anyio.run(go, upstream.url)

    assert len(answers) == 40
    assert all(text == answer for text, answer in answers.items())
