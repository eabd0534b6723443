"""The whole way: the official client, the server, a provider's model that plans over several calls, the sandbox, and back."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import openai
import pytest
from pydantic import SecretStr

from bichat.testing.upstream import Answer, Call, Cut, Failure, Upstream

from ..repository import conftest as databases  # noqa: TID252
from .test_files_and_containers import _own, _site

pytestmark = [pytest.mark.sandbox]

kind, address = databases.kind, databases.address
sqlite_address, sqlite_with_tables = databases.sqlite_address, databases.sqlite_with_tables
postgres, postgres_with_tables = databases.postgres, databases.postgres_with_tables
AUTO: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
LINK = "sandbox:/mnt/data/größe.csv"
#: In several scripts, and with characters outside the first plane of Unicode.
PROSE = f"📊 Über 30 — итого, 合計: 👉🏽 [файл]({LINK}) 🎉"


def _code(*lines: str, call_id: str = "call_1") -> Answer:
    arguments = json.dumps({"code": "\n".join(lines)}, ensure_ascii=False)
    return Answer(Call("python", *(arguments[place : place + 9] for place in range(0, len(arguments), 9)), id=call_id))


@pytest.fixture
def sites(tmp_path, bare_settings, address):
    """`sites(upstream, count)`: servers on one database and one storage, behind which is a model."""
    with ExitStack() as exits:

        def opened(upstream: Upstream, count: int = 1):
            settings = replace(
                _own(bare_settings(), tmp_path),
                database_url=address,
                model="openai:gpt-test",
                model_base_url=upstream.url,
                model_api_key=SecretStr("sk-secret-of-the-provider"),
            )
            return [exits.enter_context(_site(settings, planners=None)) for _ in range(count)]

        yield opened


def test_a_model_plans_fails_mends_its_code_and_answers_with_the_files_that_it_made(sites):
    script = [
        Answer("Let me look.", Call("python", '{"code": "print(totl)"}')),
        _code("print(30)", "open('größe.csv', 'w').write('30')", "open('extra.txt', 'w').write('x')"),
        Answer(*(PROSE[place : place + 4] for place in range(0, len(PROSE), 4))),
    ]
    with Upstream(script) as upstream:
        (site,) = sites(upstream)
        client = site.client()
        with client.responses.stream(
            model="gpt-4o", input="sum?", tools=AUTO, include=["code_interpreter_call.outputs"]
        ) as events:
            kinds = [event.type for event in events]
            response = events.get_final_response()
        content = response.output[-1].content[0]
        spans = {each.filename: content.text[each.start_index : each.end_index] for each in content.annotations}
        files = {each.path: each.id for each in client.containers.files.list(content.annotations[0].container_id)}
        cited = client.containers.files.content.retrieve(
            content.annotations[0].file_id, container_id=content.annotations[0].container_id
        )

        assert (response.status, response.model, content.text) == ("completed", "gpt-4o", PROSE)
        assert [item.type for item in response.output] == [
            "message", "code_interpreter_call", "code_interpreter_call", "message",
        ]  # fmt: skip
        assert "NameError" in response.output[1].outputs[0].logs
        assert response.output[2].outputs[0].logs == "30\n"
        assert spans == {"größe.csv": LINK, "extra.txt": ""}
        assert cited.read() == b"30"
        assert set(files) == {"/mnt/data/größe.csv", "/mnt/data/extra.txt"}
        assert kinds.count("response.code_interpreter_call_code.delta") >= 2
        assert client.responses.retrieve(response.id).output_text == response.output_text
        told = upstream.requests[1].body["messages"]
        assert "NameError" in told[-1]["content"]
        assert "sk-secret" not in json.dumps(response.to_dict())


@pytest.mark.parametrize(
    "failure, kind_of_error",
    [
        (Failure(401, {"message": "bad key sk-secret-of-the-provider"}), openai.InternalServerError),
        (Failure(429, {"message": "slow down"}, {"retry-after": "999"}), openai.RateLimitError),
        (Failure(400, {"message": "no such thing"}), openai.BadRequestError),
        (Cut(), openai.APIStatusError),
    ],
)
def test_a_provider_that_fails_before_any_code_ran_is_an_error_of_the_request(sites, failure, kind_of_error):
    with Upstream(lambda _: failure) as upstream:
        (site,) = sites(upstream)
        with pytest.raises(kind_of_error) as raised:
            site.client().responses.create(model="gpt-4o", input="hello", tools=AUTO)

    assert "sk-secret" not in str(raised.value)


def test_a_provider_that_fails_once_code_ran_is_a_response_that_failed_so_that_nobody_runs_it_again(sites):
    script = [_code("open('a.txt', 'w').write('a')"), Failure(400, {"message": "no"})]
    with Upstream(script) as upstream:
        (site,) = sites(upstream)
        response = site.client().responses.create(model="gpt-4o", input="go", tools=AUTO)

    assert (response.status, response.error is not None) == ("failed", True)
    assert [item.type for item in response.output] == ["code_interpreter_call"]


def test_two_servers_on_one_database_share_everything_and_code_runs_where_its_session_lives(sites):
    script = [_code("x = 20"), Answer("one"), _code("print(x + 1)", call_id="call_2"), Answer("two")]
    with Upstream(script) as upstream:
        here, there = (site.client() for site in sites(upstream, 2))
        first = here.responses.create(model="m", input="a", tools=AUTO)
        # The session lives in the first server; the second one is asked to go on.
        second = there.responses.create(
            model="m", input="b", tools=AUTO, previous_response_id=first.id, include=["code_interpreter_call.outputs"]
        )
        file = here.files.create(file=("a.txt", b"x"), purpose="assistants")

        assert second.output[0].outputs[0].logs == "21\n"
        assert second.output[0].container_id == first.output[0].container_id
        assert here.responses.retrieve(second.id).output_text == "two"
        assert there.files.content(file.id).read() == b"x"
        with (
            here.responses.retrieve(second.id, stream=True) as a,
            there.responses.retrieve(second.id, stream=True) as b,
        ):
            assert [event.to_dict() for event in a] == [event.to_dict() for event in b]
        with pytest.raises(openai.InternalServerError) as elsewhere:
            there.containers.files.create(first.output[0].container_id, file_id=file.id)
        assert elsewhere.value.code == "session_elsewhere"


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_conversation_whose_container_has_expired_goes_on_in_a_new_one_or_is_refused(
    is_strict, tmp_path, bare_settings, sqlite_address
):
    usual = bare_settings()
    settings = replace(
        _own(usual, tmp_path),
        database_url=sqlite_address,
        strict_containers=is_strict,
        limits=replace(usual.limits, idle_s=0.5),
    )
    with _site(settings, planners=None) as site:
        client = site.client()
        first: Any = client.responses.create(model="local-python", input="open('a.txt', 'w').write('kept')", tools=AUTO)
        container = first.output[0].container_id
        while container not in [each.id for each in client.containers.list() if each.status == "expired"]:
            pass  # looking at it alone would be use
        asked: dict[str, Any] = {"model": "local-python", "input": "print(open('a.txt').read())", "tools": AUTO}
        if is_strict:
            with pytest.raises(openai.BadRequestError):
                client.responses.create(**asked, previous_response_id=first.id)
            return
        second: Any = client.responses.create(**asked, previous_response_id=first.id)
        again = client.containers.retrieve(first.output[0].container_id)

    assert second.output_text.startswith("kept")
    assert second.output[0].container_id != first.output[0].container_id
    assert "expired" in second.metadata["bichat.container"]
    assert again.status == "expired"


def test_calls_that_a_model_made_at_once_are_told_it_as_they_were_made(sites):
    weather: Any = {
        "type": "function",
        "name": "weather",
        "parameters": {"type": "object", "properties": {}},
        "strict": True,
    }
    both = Answer(Call("python", '{"code": "print(1)"}', id="a"), Call("python", '{"code": "print(2)"}', id="b"))
    mixed = Answer(Call("python", '{"code": "print(3)"}', id="c"), Call("weather", "{}", id="d"))
    with Upstream([both, Answer("Two."), mixed, Answer("Sunny.")]) as upstream:
        (site,) = sites(upstream)
        client = site.client()
        first = client.responses.create(model="m", input="go", tools=[*AUTO, weather])
        second = client.responses.create(model="m", input="more", tools=[*AUTO, weather], previous_response_id=first.id)
        outputs: Any = [{"type": "function_call_output", "call_id": "d", "output": "sunny"}]
        client.responses.create(model="m", input=outputs, tools=[*AUTO, weather], previous_response_id=second.id)

    told = [
        [
            message.get("tool_call_id") or [call["id"] for call in message.get("tool_calls") or ()]
            for message in messages
        ]
        for messages in (
            [m for m in request.body["messages"] if m["role"] in ("assistant", "tool")] for request in upstream.requests
        )
    ]
    assert told == [
        [],
        [["a", "b"], "a", "b"],
        [["a", "b"], "a", "b", []],
        [["a", "b"], "a", "b", [], ["c", "d"], "c", "d"],
    ]
