"""What comes out of another server, all of it and nothing else."""

from __future__ import annotations

import io

import openai
import pytest
from openai import AsyncOpenAI

from bichat.clients import AssistantsClient, ClientOptions, ResponsesClient
from bichat.domain import Status
from bichat.errors import CodeFailedError, NotFoundError, RemoteServiceError, UserInputError
from bichat.executor import CodeRequest
from bichat.repository import new_id
from bichat.repository.records import Conversation, Message, Role
from bichat.storage.nothing import NoStorage
from bichat.testing.fault_server import FaultServer, Play
from bichat.testing.memory import MemoryRepository

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20
FILES = {"sales.csv": b"a,b\n1,2\n", "report.pdf": b"%PDF-1.7"}
PLAY = Play(files=FILES, images={"figure-1.png": PNG}, logs="42\n", text="Here you are.")


async def test_files_images_logs_and_words_come_out_and_nothing_stays_there(bench, kind):
    with FaultServer(PLAY) as server:
        async with bench(server, kind) as it:
            result = await it.executor.execute(CodeRequest(code="print(42)", description="Counts."))

    assert (result.ok, result.status, result.logs) == (True, Status.COMPLETED, "42\n")
    assert (result.cells, result.is_verbatim) == (("print(42)",), True)
    assert result.text.startswith("Here you are.")
    found = {artifact.name: (artifact.mime_type, artifact.read_bytes()) for artifact in result.execution.artifacts}
    shown = "figure-1.png" if kind == "assistants" else "figure.png"
    assert found == {
        "sales.csv": ("text/csv", FILES["sales.csv"]),
        "report.pdf": ("application/pdf", FILES["report.pdf"]),
        shown: ("image/png", PNG),
    }
    assert {artifact.source for artifact in result.execution.artifacts if artifact.name == shown} == {"display"}
    assert {output.name for output in result.outputs} == set(found)
    assert result.usage
    assert server.left == []
    assert await it.is_whole()
    assert await it.repository.leftovers.waiting() == ()
    (execution,) = await it.executions()
    assert (execution.status, execution.stdout, execution.code) == ("completed", "42\n", "print(42)")


async def test_the_seeds_method_gives_outputs_with_addresses_and_records_them_with_their_message(bench, kind):
    rows = MemoryRepository()
    talk = await rows.conversations.add("local", Conversation(tenant="local"))
    message = await rows.messages.add("local", Message(tenant="local", conversation_id=talk.id, role=Role.USER))
    with FaultServer(PLAY) as server:
        async with bench(server, kind, repository=rows) as it:
            outputs = await it.executor.execute_code_interpreter(message.id, "print(42)")

            assert sorted(outputs, key=lambda output: output.id) == sorted(
                (await rows.outputs.page("local", message_id=message.id)).items, key=lambda output: output.id
            )
            assert {output.url for output in outputs} == {f"/outputs/{output.id}" for output in outputs}
            with pytest.raises(NotFoundError):
                await it.executor.execute_code_interpreter(new_id(), "print(42)")
            assert len(await it.executions()) == 1


async def test_without_a_repository_files_have_signed_addresses_and_with_no_storage_none(memory):
    with FaultServer(PLAY) as server:
        async with AsyncOpenAI(base_url=server.url, api_key="any") as client:
            kept = await AssistantsClient(client, memory, tenant="acme").execute_code_interpreter(None, "print(1)")
            told = await AssistantsClient(client, NoStorage()).execute_code_interpreter(new_id(), "print(1)")

    assert all(output.url.startswith(f"https://bi.example.com/files/{output.storage_key}?") for output in kept)
    assert {output.tenant for output in kept} == {"acme"}
    assert [output.name for output in told] == [output.name for output in kept]
    assert {output.url for output in told} == {""}


async def test_every_page_is_read_and_only_what_is_this_runs(bench, kind):
    files = {f"part-{number}.csv": b"%d" % number for number in range(5)}
    play = Play(files=files, messages=4, strangers=3)
    for knows_filters in (True, False):
        with FaultServer(play, page_size=2, knows_filters=knows_filters) as server:
            async with bench(server, kind) as it:
                result = await it.executor.execute(CodeRequest(code="1"))

        assert {artifact.name for artifact in result.execution.artifacts} == set(files)
        assert server.left == []


async def test_files_come_out_cited_or_not(bench, kind):
    play = Play(files={"cited.csv": b"1"}, uncited={"deep/uncited.json": b"{}"})
    with FaultServer(play) as server:
        async with bench(server, kind) as it:
            outputs = await it.executor.execute_code_interpreter(None, "print(1)")

    assert [output.name for output in outputs] == ["cited.csv", "deep/uncited.json"]


async def test_files_go_in_and_are_found_under_their_names(bench, kind, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"from a path")
    stream = io.BytesIO(b"skipped" + b"from a stream")
    stream.seek(7)
    given = {"a.csv": tmp_path / "a.csv", "b'\"\n.csv": b"bytes", "c.csv": stream}
    with FaultServer() as server:
        seen: list[bytes] = []
        created = "runs.create" if kind == "assistants" else "responses.create"
        server.before(created, lambda: seen.extend(server.world.contents.values()))
        async with bench(server, kind) as it:
            result = await it.executor.execute(CodeRequest(code="print(42)", files=given))

    assert seen == [b"from a path", b"bytes", b"from a stream"]
    assert (result.cells, result.is_verbatim) == (("print(42)",), True)
    said = str(server.bodies)
    assert "/mnt/data/a.csv" in said
    assert server.left == []


async def test_code_is_run_to_the_letter_where_the_server_can_and_a_model_is_asked_where_it_cannot(
    bench, kind, monkeypatch, soon
):
    monkeypatch.setenv("OPENAI_MODEL", "gpt-old")
    models: list[str] = []
    asked = [("print(1)", True), ("Draw a chart, please.", True), ("print(1)", False)]
    for text, knows_local_python in asked:
        with FaultServer(knows_local_python=knows_local_python) as server:
            async with bench(server, kind) as it:
                await it.executor.execute_code_interpreter(None, text)
        models += [body["model"] for _, body in server.bodies if "model" in body]
    with FaultServer() as server:
        async with bench(server, kind, options=soon(model="mine", instructions="Be quick.")) as it:
            await it.executor.execute(CodeRequest(code="print(1)"))
    models += [body["model"] for _, body in server.bodies if "model" in body]

    assert models == ["local-python", "gpt-old", "gpt-old", "mine"]
    assert [body["instructions"] for _, body in server.bodies if "instructions" in body] == ["Be quick."]


async def test_a_model_that_changes_the_code_is_told_of_and_one_that_runs_none_has_failed(bench, kind):
    with FaultServer(Play(code="print(43)")) as server:
        async with bench(server, kind) as it:
            result = await it.executor.execute(CodeRequest(code="print(42)"))
    assert (result.cells, result.is_verbatim) == (("print(43)",), False)

    with FaultServer(Play(runs_code=False)) as server:
        async with bench(server, kind) as it:
            with pytest.raises(RemoteServiceError) as caught:
                await it.executor.execute(CodeRequest(code="print(42)"))
            assert await it.executor.execute_code_interpreter(None, "Hello!") == []
    assert (caught.value.ran, caught.value.is_retryable) == (False, True)


TRACEBACK = (
    "before\n---------\nValueError                      Traceback (most recent call last)\n"
    "Cell In[1], line 2\n----> 2 raise ValueError('a: b\\nc')\n\nValueError: a: b\nc\n"
)


async def test_code_that_fails_is_a_status_and_of_the_seeds_method_an_error_that_has_what_survived(bench, kind):
    with FaultServer(Play(logs=TRACEBACK, files={"half.csv": b"1"})) as server:
        async with bench(server, kind) as it:
            result = await it.executor.execute(CodeRequest(code="raise"))
            with pytest.raises(CodeFailedError) as caught:
                await it.executor.execute_code_interpreter(None, "print(1)")

    assert result.status is Status.ERROR
    assert result.execution.error is not None
    assert (result.execution.error.name, result.execution.error.message) == ("ValueError", "a: b\nc")
    assert [output.name for output in result.outputs] == ["half.csv"]
    error = caught.value.to_dict()
    assert (error["code"], error["ran"], error["is_retryable"]) == ("code_failed", True, False)
    assert [file["name"] for file in error["survived"]["files"]] == ["half.csv"]
    assert await it.is_whole()
    assert server.left == []


async def test_the_servers_hint_is_obeyed_and_without_one_the_interval(bench, kind, soon):
    look = "runs.retrieve" if kind == "assistants" else "responses.retrieve"
    for hint, interval in ((1, 3600.0), (None, 0.001)):
        play = Play(states=("queued", "in_progress", "completed"))
        with FaultServer(play, poll_after_ms=hint) as server:
            async with bench(server, kind, options=soon(poll_interval_s=interval)) as it:
                result = await it.executor.execute(CodeRequest(code="1"))

        assert result.ok
        assert server.requests.count(look) == 3


async def test_what_cannot_be_asked_for_is_refused_before_the_server_is_asked_for_anything(bench, memory):
    with FaultServer() as server:
        async with bench(server, "assistants") as it:
            for request in (CodeRequest(code="1", files={"../a": b""}), CodeRequest(code="1", tenant="../x")):
                with pytest.raises(UserInputError):
                    await it.executor.execute(request)
            with pytest.raises(UserInputError):
                await it.executor.execute_code_interpreter(None, " \n")
        async with AsyncOpenAI(base_url=server.url, api_key="any") as client:
            unentered = ResponsesClient(client, memory, repository=MemoryRepository())
            with pytest.raises(UserInputError, match="async with"):
                await unentered.execute(CodeRequest(code="1"))
        blocking = openai.OpenAI(base_url=server.url, api_key="any")
        with blocking, pytest.raises(UserInputError, match="AsyncOpenAI"):
            AssistantsClient(blocking, memory)  # pyright: ignore[reportArgumentType]
        with pytest.raises(UserInputError):
            ClientOptions(timeout_s=0)

    assert [name for name in server.requests if name != "models.retrieve"] == []


async def test_larger_and_more_files_than_may_be_are_refused_by_name(bench, soon):
    play = Play(files={"a.bin": b"0" * 11, "b.csv": b"1", "c.csv": b"2"})
    with FaultServer(play) as server:
        options = soon(max_file_bytes=10, max_files=2)
        async with bench(server, "assistants", options=options) as it:
            result = await it.executor.execute(CodeRequest(code="1"))

    assert [output.name for output in result.outputs] == ["b.csv"]
    assert [refused.name for refused in result.execution.refused] == ["a.bin", "c.csv"]
    assert not result.ok
    assert server.left == []
    assert await it.is_whole()
