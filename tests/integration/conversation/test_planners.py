"""Planners in the core: code that is sent and runs, and a provider's model that writes it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from bichat import CodeInterpreter
from bichat.agent.toolbox import CodeToolbox
from bichat.conversation.core import Core
from bichat.conversation.planner import PlannerError
from bichat.conversation.planners.choice import configured_planners
from bichat.conversation.request import CodeOptions, RunRequest
from bichat.live_sessions import LiveSessions
from bichat.repository.opening import open_repository
from bichat.repository.records import RunState
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.testing.upstream import Answer, Call, Cut, Failure, Upstream

from .conftest import TENANT, said

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture
def ask(tmp_path, bare_settings):
    """A core over a real interpreter: `ask(base_url)` gives `answer(model, text)`, which gives a run and its items."""

    @asynccontextmanager
    async def opened(base_url: str = ""):
        settings = bare_settings()
        storage = LocalStorage(tmp_path / "files", DownloadLinks(b"s" * 32, "http://127.0.0.1"))
        configured = Settings(model="openai:gpt-test", model_base_url=base_url, model_api_key=SecretStr("sk-test"))
        planners = configured_planners(configured if base_url else Settings())
        async with (
            open_repository(f"sqlite+aiosqlite:///{tmp_path}/bichat.db") as repository,
            CodeInterpreter(settings=settings, preload=False, storage=storage, repository=repository) as interpreter,
        ):
            archive = interpreter.archive
            assert archive is not None
            toolbox = CodeToolbox(LiveSessions(interpreter, settings, archive), repository, storage)
            async with Core(repository, archive.upkeep, planners, toolbox) as core:

                async def answer(name: str, text: str):
                    request = RunRequest(model=name, inputs=(said(text),), code=CodeOptions())
                    run = await core.wait(TENANT, (await core.start(TENANT, request)).id)
                    return run, await core.items(TENANT, run.id)

                yield answer
        await planners.aclose()

    return opened


def _kinds(items):
    return [(item.parts[0].kind, item.status) for item in items]


async def test_code_that_is_sent_runs_and_its_output_is_the_answer(ask):
    text = "```python\nx = 20\nprint(open('a b.csv', 'w').write('1'))\n```\nthen\n```python\nprint(x + 1)\n```"
    async with ask() as answer:
        run, items = await answer("local-python", text)

    assert run.state is RunState.COMPLETED
    assert _kinds(items) == [("code", "completed"), ("code", "completed"), ("text", "completed")]
    said_last = items[-1].parts[0].content
    assert said_last["text"] == "1\n21\n\n[a b.csv](sandbox:/mnt/data/a%20b.csv)"
    assert [citation["text"] for citation in said_last["citations"]] == ["sandbox:/mnt/data/a%20b.csv"]
    assert set(run.usage.values()) == {0}


async def test_the_first_block_that_raises_is_the_last_one_that_runs(ask):
    async with ask() as answer:
        run, items = await answer("local-python", "```python\n1 / 0\n```\n```python\nprint(2)\n```")

    assert run.state is RunState.COMPLETED
    assert [item.parts[0].kind for item in items] == ["code", "text"]
    text = items[-1].parts[0].content["text"]
    assert "ZeroDivisionError" in text
    assert text.endswith("(Not run: 1 more block of code.)")


async def test_prose_fails_with_how_to_configure_a_model(ask):
    async with ask() as answer:
        run, items = await answer("local-python", "Sum the sales, please.")
        with pytest.raises(PlannerError, match="no model is configured"):
            await answer("gpt-4o", "Sum the sales, please.")

    assert (run.state, items) == (RunState.FAILED, ())
    assert run.error is not None
    assert run.error["reason"] == "no_code"
    assert "BICHAT_MODEL" in run.error["remedy"]


async def test_a_model_writes_code_fails_once_and_mends_it(ask):
    def python(code):
        text = json.dumps({"code": code})
        return Call("python", text[:9], text[9:])

    script = [
        Failure(503),
        Answer("Let me see.", python("1 / 0")),
        Answer(Call("python", '{"cod')),
        Answer(python("print(6 * 7)")),
        Answer("It is ", "42."),
    ]
    with Upstream(script) as upstream:
        async with ask(upstream.url) as answer:
            run, items = await answer("gpt-4o", "6 times 7?")

    assert run.state is RunState.COMPLETED
    assert _kinds(items) == [
        ("text", "completed"),
        ("code", "completed"),
        ("code", "failed"),
        ("code", "completed"),
        ("text", "completed"),
    ]
    assert items[-1].parts[0].content["text"] == "It is 42."
    told = [message["content"] for message in upstream.requests[-1].body["messages"] if message["role"] == "tool"]
    assert [part in text for part, text in zip(["ZeroDivisionError", "JSON", "42"], told, strict=True)] == [True] * 3
    ids = [item.parts[0].content["call_id"] for item in items if item.parts[0].kind == "code"]
    assert len(set(ids)) == 3


async def test_an_answer_that_breaks_off_fails_and_no_code_of_it_runs(ask):
    with Upstream([Answer("Let me", Call("python", '{"code": "print(1)"}'), Cut())]) as upstream:
        async with ask(upstream.url) as answer:
            run, items = await answer("gpt-4o", "Hello")

        assert len(upstream.requests) == 1
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert (run.error["reason"], run.error["code_ran"]) == ("cut_off", False)
    assert all(not item.parts[0].content.get("execution_id") for item in items)
