"""Answers whose code runs: a real sandbox, a real database, files that are kept."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from bichat import CodeInterpreter
from bichat.agent.code_interpreter import LIVE_CHARS
from bichat.agent.toolbox import SESSION_NOTE, CodeToolbox
from bichat.conversation.core import Core
from bichat.conversation.request import CodeOptions, RunRequest
from bichat.errors import NotFoundError, SessionEndedError
from bichat.live_sessions import LiveSessions
from bichat.repository.opening import open_repository
from bichat.repository.records import RunState
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage
from bichat.testing.planner import ScriptedPlanner, calls, says

from .conftest import TENANT, said

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture
def talk(address, tmp_path, bare_settings):
    """A core over a real interpreter; `ask(turns...)` runs one answer in the conversation of the last one."""

    @asynccontextmanager
    async def opened():
        settings = bare_settings()
        storage = LocalStorage(tmp_path / "files", DownloadLinks(b"s" * 32, "http://127.0.0.1"))
        async with (
            open_repository(address) as repository,
            CodeInterpreter(settings=settings, preload=False, storage=storage, repository=repository) as interpreter,
        ):
            archive = interpreter.archive
            assert archive is not None
            sessions = LiveSessions(interpreter, settings, archive)
            planner = ScriptedPlanner([])
            toolbox = CodeToolbox(sessions, repository, storage)
            async with Core(repository, archive.upkeep, planner, toolbox) as core:
                yield Talk(core, planner, sessions, repository)

    return opened


class Talk:
    """A conversation that is played."""

    def __init__(self, core, planner, sessions, repository) -> None:
        self.core, self.planner, self.sessions, self.repository = core, planner, sessions, repository
        self.last: Any = None

    async def ask(self, *turns, **others):
        run = await self.begin(*turns, **others)
        self.last = await self.core.wait(TENANT, run.id)
        return self.last

    async def begin(self, *turns, code: CodeOptions | None = None, **others):
        self.planner._turns += turns
        previous = self.last and self.last.id
        request = RunRequest(
            model="m", inputs=(said("go"),), code=code or CodeOptions(), previous_run_id=previous, **others
        )
        return await self.core.start(TENANT, request)

    async def items(self, run=None):
        return await self.core.items(TENANT, (run or self.last).id)

    async def code_of(self, run=None):
        (item,) = [item for item in await self.items(run) if item.parts[0].kind == "code"]
        return item.parts[0].content


def python(code: str):
    return calls("python", json.dumps({"code": code}))


async def test_code_runs_its_files_are_kept_and_cited_and_its_variables_live_on(talk):
    async with talk() as talking:
        run = await talking.ask(
            python(
                "x = 20\nopen('a b.csv', 'w').write('1')\nopen('other.txt', 'w').write('22')\nprint('begun')\nprint(x + 1)"
            ),
            says("Here: [it](sandbox:/mnt/data/a%20b.csv) and sandbox:/mnt/data/missing.csv 😀"),
        )
        content = await talking.code_of()
        answer = (await talking.items())[-1].parts[0].content
        told = talking.planner.asked[-1].history[-1].parts[0].content["told"]
        again = await talking.ask(python("x += 1\nprint(x)"), says("22"))
        second = await talking.code_of()
        execution = await talking.repository.executions.get(TENANT, content["execution_id"])

    assert run.state is again.state is RunState.COMPLETED
    assert content["outputs"] == [{"type": "logs", "logs": "begun\n21\n"}]
    assert [(file["name"], file["size_bytes"], file["source"]) for file in content["files"]] == [
        ("a b.csv", 1, "file"),
        ("other.txt", 2, "file"),
    ]
    assert told == "begun\n21\n[New or changed files in /mnt/data: a b.csv (1 B), other.txt (2 B).]"
    named, unnamed = answer["citations"]
    assert answer["text"][named["start"] : named["end"]] == named["text"] == "sandbox:/mnt/data/a%20b.csv"
    assert (named["name"], unnamed["name"], unnamed["text"]) == ("a b.csv", "other.txt", "")
    assert {named["output_id"], unnamed["output_id"]} == {file["output_id"] for file in content["files"]}
    assert second["outputs"] == [{"type": "logs", "logs": "21\n"}]
    assert second["session_id"] == content["session_id"]
    assert (execution.run_id, execution.status) == (run.id, "completed")


async def test_code_that_raises_is_a_call_whose_traceback_the_model_is_told(talk):
    async with talk() as talking:
        run = await talking.ask(python("1 / 0"), python("1 / 1"), says("mended"))
        items = await talking.items()

    first = items[0]
    assert run.state is RunState.COMPLETED
    assert (first.status, first.parts[0].content["error"]["name"]) == ("completed", "ZeroDivisionError")
    assert "ZeroDivisionError: division by zero" in first.parts[0].content["outputs"][0]["logs"]
    assert "1 / 0" in talking.planner.asked[1].history[-1].parts[0].content["told"]
    assert [item.parts[0].kind for item in items] == ["code", "code", "text"]


async def test_a_model_that_gives_no_code_is_told_so_and_nothing_runs(talk):
    async with talk() as talking:
        await talking.ask(calls("python", '{"cmd": "ls"}'), calls("python", "print('raw')"), says("ok"))
        items = await talking.items()

    told = [item.parts[0].content["told"] for item in items[:2]]
    assert "'code' is missing" in told[0]
    assert told[1] == "raw\n"
    assert [item.status for item in items] == ["failed", "completed", "completed"]


async def test_a_conversation_whose_session_has_ended_goes_on_in_a_new_one_with_its_files_and_says_so(talk):
    async with talk() as talking:
        await talking.ask(python("x = 1; open('a.txt', 'w').write('kept')"), says("1"))
        old = (await talking.code_of())["session_id"]
        async with talking.sessions.held(TENANT, old) as session:
            session.end("idle")
        with pytest.raises(SessionEndedError):
            await talking.begin(code=CodeOptions(is_strict=True))
        with pytest.raises(SessionEndedError):
            await talking.begin(code=CodeOptions(session_id=old))
        run = await talking.ask(python("print(open('a.txt').read(), 'x' in globals())"), says("2"))
        content = await talking.code_of()
        again = await talking.ask(python("print(1)"), says("3"))

    assert content["session_id"] != old
    assert content["outputs"][0]["logs"] == "kept False\n"
    assert "variables are gone" in content["told"]
    assert "expired (idle)" in run.metadata[SESSION_NOTE]
    assert again.metadata == {}


async def test_code_is_interrupted_when_its_answer_is_cancelled_and_the_session_lives_on(talk):
    async with talk() as talking:
        await talking.ask(python("x = 1"), says("1"))
        run = await talking.begin(python("print('begun', flush=True)\nwhile True: pass"))
        async for event in talking.core.follow(TENANT, run.id):
            if event.kind == "code.output":
                break
        await talking.core.cancel(TENANT, run.id)
        talking.last = await talking.core.wait(TENANT, run.id)
        content = await talking.code_of()
        await talking.ask(python("print(x)"), says("2"))

        assert talking.planner.asked[-1].history[-3].parts[0].kind == "code"
        assert (await talking.code_of())["outputs"][0]["logs"] == "1\n"
    assert content["code"].startswith("print('begun'")


async def test_code_runs_in_the_session_that_was_asked_for_and_in_no_other_tenant_s(talk):
    async with talk() as talking:
        theirs = await talking.sessions.open("other")
        mine = await talking.sessions.open(TENANT, memory="256m", idle_s=60)
        with pytest.raises(NotFoundError):
            await talking.begin(code=CodeOptions(session_id=theirs.id))
        await talking.ask(python("print(1)"), says("1"), code=CodeOptions(session_id=mine.id))
        content = await talking.code_of()
        assert content["session_id"] == mine.id
        assert mine.options["limits"]["memory_bytes"] == 256 * 2**20
        for call in (talking.sessions.record, talking.sessions.files, talking.sessions.delete):
            with pytest.raises(NotFoundError):
                await call("other", mine.id)
        await talking.sessions.delete(TENANT, mine.id)
        with pytest.raises(NotFoundError):
            await talking.sessions.record(TENANT, mine.id)


async def test_uploaded_files_lie_where_models_look_for_them(talk):
    async def chunks(data: bytes):
        yield data

    async with talk() as talking:
        archive = talking.sessions._archive
        file = await archive.upload(
            TENANT,
            chunks(b"a,b\n1,2\n"),
            name="../sales data.csv",
            mime_type="text/csv",
            purpose="assistants",
            max_bytes=99,
        )
        path = talking.sessions.path_of(file)
        await talking.ask(python(f"print(open({path!r}).read())"), says("1"), code=CodeOptions(file_ids=(file.id,)))
        content = await talking.code_of()
        files = await talking.sessions.files(TENANT, content["session_id"])
        put = await talking.sessions.put(TENANT, content["session_id"], "more.bin", chunks(b"xyz"))

    assert path == f"/mnt/data/file-{file.id.replace('-', '')}-sales data.csv"
    assert path in talking.planner.asked[0].instructions
    assert content["outputs"][0]["logs"] == "a,b\n1,2\n\n"
    assert [(f.path, f.source, f.size_bytes) for f in files] == [(path, "user", 8)]
    assert (put.name, put.source, put.size_bytes) == ("more.bin", "user", 3)


async def test_a_hundred_kilobytes_of_output_reach_the_model_as_head_and_tail(talk):
    async with talk() as talking:
        await talking.ask(python("for n in range(20_000): print(n)"), says("1"))
        content = await talking.code_of()

    assert len(content["told"]) < 17_000
    assert content["told"].startswith("0\n1\n2\n")
    assert content["told"].endswith("19998\n19999\n")
    assert "characters are left out here" in content["told"]
    assert content["outputs"][0]["logs"].count("\n") == 20_000


async def test_of_what_a_program_prints_without_end_a_part_is_told_live(talk):
    async with talk() as talking:
        run = await talking.ask(python("for n in range(60_000): print(f'{n:060d}')"), says("Much."))
        told = [
            event.payload["text"] async for event in talking.core.follow(TENANT, run.id) if event.kind == "code.output"
        ]
        content = await talking.code_of()

    assert sum(map(len, told)) < LIVE_CHARS + 1_000
    assert told[0].startswith("0" * 60 + "\n")
    assert "more was printed" in told[-1]
    assert f"{59_999:060d}" in content["outputs"][0]["logs"]


async def test_answers_of_several_conversations_run_beside_each_other(talk):
    async with talk() as talking:
        talking.planner.by_text = {"one": python("print(1)"), "two": python("print(2)")}
        talking.planner._turns = [says("unused")] * 4
        runs = {}

        async def ask(text: str) -> None:
            request = RunRequest(model="m", inputs=(said(text),), code=CodeOptions(), max_tool_calls=1)
            runs[text] = await talking.core.start(TENANT, request)
            await talking.core.wait(TENANT, runs[text].id)

        async with anyio.create_task_group() as tasks:
            for text in ("one", "two"):
                tasks.start_soon(ask, text)
        contents = {text: await talking.code_of(run) for text, run in runs.items()}

    assert {text: content["outputs"][0]["logs"] for text, content in contents.items()} == {"one": "1\n", "two": "2\n"}
    assert contents["one"]["session_id"] != contents["two"]["session_id"]
