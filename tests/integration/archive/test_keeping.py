"""What comes out of code is a file and a row, and both are there when the answer is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest

from bichat import CodeInterpreter, Completed, FileChanged, Status, Stdout
from bichat.archive import Archive
from bichat.domain import Limits
from bichat.errors import ConflictError, DatabaseError, LimitError, NotFoundError, StorageError, UserInputError
from bichat.repository.records import FileState, Policy
from bichat.storage import DownloadLinks, open_storage
from bichat.testing.storage import chunks_of

pytestmark = pytest.mark.anyio

CODE = """
import os
print("made")
open("report.csv", "w").write("region,amount\\nnorth,3\\n")
os.makedirs("plots", exist_ok=True)
open("plots/a.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(40))
"""


async def read(archive, kept) -> bytes:
    async with archive.opened(kept) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_every_file_that_comes_out_is_a_row_with_its_bytes(keeping, repository, place):
    async with keeping(repository=repository) as interpreter:
        result = await interpreter.run(CODE, tenant="acme", user="ada")

        outputs = (await repository.outputs.page("acme")).items
        assert {output.name for output in outputs} == {"report.csv", "plots/a.png"}
        for artifact in result.artifacts:
            output = await repository.outputs.get("acme", artifact.id)
            assert (output.execution_id, output.message_id, output.state) == (result.id, None, FileState.AVAILABLE)
            assert (output.name, output.mime_type, output.source) == (artifact.name, artifact.mime_type, "file")
            assert (output.size_bytes, output.sha256, output.url) == (
                artifact.size_bytes,
                artifact.sha256,
                artifact.url,
            )
            assert output.url == f"/outputs/{output.id}"
            assert hashlib.sha256(await read(interpreter.archive, output)).hexdigest() == artifact.sha256
        assert place.keys() == {output.storage_key for output in outputs}


async def test_the_execution_is_on_record_with_all_that_is_needed_to_run_it_again(keeping, repository):
    async with keeping(repository=repository) as interpreter:
        before = datetime.now(UTC)
        result = await interpreter.run(
            "import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 / 0", tenant="acme", user="ada"
        )
        execution = await repository.executions.get("acme", result.id)
        session = await repository.sessions.get("acme", execution.session_id)
        entries = (await repository.audit.page("acme")).items

    assert (execution.status, execution.stdout, execution.stderr) == ("error", "out\n", "err\n")
    assert execution.error is not None
    assert execution.error["name"] == "ZeroDivisionError"
    assert execution.code_sha256 == hashlib.sha256(execution.code.encode()).hexdigest()
    assert (execution.environment, execution.isolation) == ("bare", result.isolation.level)
    assert execution.ended_at is not None
    assert before <= execution.created_at <= execution.ended_at
    assert execution.timings["run_s"] == result.timings.run_s
    assert (session.user, session.environment) == ("ada", "bare")
    assert [(entry.action, entry.subject_id, entry.user, entry.outcome) for entry in entries] == [
        ("execution", result.id, "ada", "error"),
        ("execution", result.id, "ada", "begun"),
    ]
    assert {entry.code_sha256 for entry in entries} == {execution.code_sha256}


async def test_the_files_of_a_stream_are_kept_when_they_are_told_of(keeping, repository):
    async with keeping(repository=repository) as interpreter, interpreter.session(tenant="acme") as session:
        told = set()
        async with aclosing(session.stream(CODE)) as events:
            async for event in events:
                if isinstance(event, FileChanged):
                    told |= {(await repository.outputs.get("acme", event.artifact.id)).name}

    assert told == {"plots/a.png", "report.csv"}


async def test_a_file_that_changes_from_cell_to_cell_is_kept_each_time(keeping, repository):
    async with keeping(repository=repository) as interpreter, interpreter.session() as session:
        first = await session.run("open('a', 'w').write('1')")
        second = await session.run("open('a', 'w').write('2')")

        assert await read(interpreter.archive, await repository.outputs.get("local", first.artifacts[0].id)) == b"1"
        assert await read(interpreter.archive, await repository.outputs.get("local", second.artifacts[0].id)) == b"2"


async def test_a_large_file_passes_through_without_being_held_in_memory(keeping, repository, growth_of):
    code = "with open('big', 'wb') as f:\n    for n in range(60): f.write(bytes([n]) * (1 << 20))"
    async with keeping(repository=repository) as interpreter:
        await interpreter.run("open('small', 'w').write('1')")  # what is imported and opened once is there
        with growth_of() as bytes_grown:
            (artifact,) = (await interpreter.run(code)).artifacts
            output = await repository.outputs.get("local", artifact.id)
            size = 0
            async with interpreter.archive.opened(output) as pieces:
                async for piece in pieces:
                    size += len(piece)

            assert bytes_grown() < 24 << 20
    assert (size, artifact.not_kept) == (60 << 20, "")


async def test_another_tenant_finds_nothing(keeping, repository):
    async with keeping(repository=repository) as interpreter:
        result = await interpreter.run(CODE, tenant="acme")

        for find in (
            repository.executions.get("beta", result.id),
            repository.outputs.get("beta", result.artifacts[0].id),
            repository.outputs.delete("beta", result.artifacts[0].id),
            interpreter.open_session(resume=(await repository.sessions.page("acme")).items[0].id, tenant="beta"),
        ):
            with pytest.raises(NotFoundError):
                await find
        assert (await repository.outputs.page("beta")).items == ()
    for bad in ("", "../acme", "a/b", "a b"):
        with pytest.raises(UserInputError):
            async with keeping(repository=repository) as interpreter:
                await interpreter.run("1", tenant=bad)


async def test_deleting_deletes_the_bytes_too(keeping, repository, place):
    async with keeping(repository=repository) as interpreter:
        kept = await interpreter.run(CODE, tenant="acme")
        gone = await interpreter.run(CODE, tenant="acme")
        await repository.executions.delete("acme", gone.id)
        assert len(place.keys()) == 4  # the outbox is worked off behind the calls

        assert await interpreter.archive.upkeep.delete() == 2

    keys = {(await repository.outputs.get("acme", artifact.id)).storage_key for artifact in kept.artifacts}
    assert place.keys() == keys


async def test_a_session_that_is_deleted_takes_its_input_files_and_its_outputs_along(keeping, repository, place):
    async with keeping(repository=repository) as interpreter:
        async with interpreter.session(files={"in.csv": b"a"}) as session:
            await session.put("more.csv", b"b")
            await session.run("open('out.csv', 'w').write('c')")
        assert len(place.keys()) == 3
        await repository.sessions.delete("local", session.id)

        assert await interpreter.archive.upkeep.delete() == 3

    assert place.keys() == set()
    assert (await repository.tenants.usage("local")).files == 0


async def test_storage_and_repository_go_together(place, bare_settings):
    with pytest.raises(TypeError, match="together"):
        CodeInterpreter(settings=bare_settings(), storage=place.storage())


# ------------------------------------------------------------------------------------------------------ opened again


async def test_a_session_is_opened_again_with_its_files_and_without_its_variables(keeping, repository):
    async with keeping(repository=repository) as interpreter:
        async with interpreter.session(tenant="acme", files={"in.csv": b"a,b\n"}, limits=_limits()) as session:
            await session.put("more.csv", b"c,d\n")
            await session.run(CODE + "x = 1\nopen('gone.txt', 'w').write('')")
            await session.run("os.unlink('gone.txt')\nopen('report.csv', 'a').write('south,4\\n')")
        again = await interpreter.open_session(resume=session.id, tenant="acme")
        listed = {file.name: file.size_bytes for file in await again.files()}
        first = await again.run("print(open('report.csv').read())\ntry: x\nexcept NameError: print('no x')")
        second = await again.run("2")
        await again.close()

    assert listed == {"in.csv": 4, "more.csv": 4, "plots/a.png": 48, "report.csv": 30}
    assert first.stdout == "region,amount\nnorth,3\nsouth,4\n\nno x\n"
    assert "variables are gone" in first.notice
    assert "4 files are back" in first.notice
    assert second.notice == ""
    assert first.artifacts == ()  # what was brought back is nothing new
    assert again.limits == session.limits
    assert again.id != session.id


def _limits() -> Limits:
    return Limits(timeout_s=77.0, disk_bytes=64 << 20)


async def test_a_session_that_expired_is_opened_again_by_another_process_of_the_same_database(keeping, place):
    async with keeping() as interpreter:
        session = await interpreter.open_session(tenant="acme")
        await session.run("open('a.txt', 'w').write('kept')")
        session.end("idle")
    async with keeping() as interpreter, interpreter.session(resume=session.id, tenant="acme") as again:
        result = await again.run("print(open('a.txt').read())")

    assert result.stdout == "kept\n"
    assert "(idle)" in result.notice


async def test_a_session_that_lives_is_not_opened_a_second_time(keeping):
    async with keeping() as interpreter, interpreter.session() as session:
        with pytest.raises(ConflictError):
            await interpreter.open_session(resume=session.id)
        with pytest.raises(NotFoundError):
            await interpreter.open_session(resume="no id")


async def test_a_file_that_was_deleted_since_is_named_and_the_others_come_back(keeping, repository):
    async with keeping(repository=repository) as interpreter:
        async with interpreter.session() as session:
            result = await session.run("open('a', 'w').write('a')\nopen('b', 'w').write('b')")
        await repository.outputs.delete("local", result.artifact("a").id)
        await interpreter.archive.upkeep.delete()
        async with interpreter.session(resume=session.id) as again:
            names = [file.name for file in await again.files()]
            first = await again.run("1")

    assert names == ["b"]
    assert "Files that could not be kept, or were deleted since, are not: a." in first.notice


async def test_a_version_that_could_not_be_kept_is_named_and_an_older_one_does_not_come_in_its_place(
    keeping, repository, place
):
    storage = Failing(place.storage())
    async with keeping(storage=storage, repository=repository) as interpreter:
        async with interpreter.session(files={"in": b"1"}) as session:
            await session.run("open('a', 'w').write('old')")
            storage.fail("save", StorageError("full", stage="storage"))
            await session.run("open('a', 'w').write('new')")
            storage.mend()
        async with interpreter.session(resume=session.id) as again:
            names = [file.name for file in await again.files()]
            first = await again.run("1")

    assert names == ["in"]
    assert "are not: a." in first.notice


async def test_an_input_above_the_size_of_what_is_kept_goes_in_all_the_same_and_is_named_later(keeping):
    limits = Limits(artifact_bytes=1000, disk_bytes=64 << 20)
    async with keeping() as interpreter:
        async with interpreter.session(files={"large": bytes(1001), "small": b"1"}, limits=limits) as session:
            await session.put("larger", bytes(2000))
            listed = (await session.run("import os; print(sorted(os.listdir()))")).stdout
        async with interpreter.session(resume=session.id) as again:
            first = await again.run("print(os.listdir()) if 'os' in dir() else print(__import__('os').listdir())")

    assert listed == "['large', 'larger', 'small']\n"
    assert first.stdout == "['small']\n"
    assert "are not: large, larger." in first.notice


async def test_without_a_record_no_session_is_opened_again(bare_settings):
    async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
        with pytest.raises(UserInputError, match="none is kept") as told:
            await interpreter.open_session(resume="x")
    assert "storage" in told.value.remedy


# ------------------------------------------------------------------------------------------------ what cannot be kept


class Failing:
    """A storage or a repository in front of the real one: `fail(name, error)` has one method raise from now on."""

    def __init__(self, real) -> None:
        self._real = real
        self._errors: dict[str, Exception] = {}

    def fail(self, name: str, error: Exception) -> None:
        self._errors[name] = error

    def mend(self) -> None:
        self._errors.clear()

    def __getattr__(self, name: str) -> Any:
        if name in self._errors:

            async def refuse(*_: object, **__: object) -> None:
                raise self._errors[name]

            return refuse
        return getattr(self._real, name)


class FailingRepository(Failing):
    def __init__(self, real) -> None:
        super().__init__(real)
        self.executions, self.outputs = Failing(real.executions), Failing(real.outputs)
        self.sessions, self.files, self.audit = Failing(real.sessions), Failing(real.files), Failing(real.audit)


async def test_a_storage_that_is_full_loses_no_result_and_says_which_file_is_not_kept(keeping, repository, place):
    storage = Failing(place.storage())
    storage.fail("save", StorageError("the storage folder: No space left on device", stage="storage"))
    async with keeping(storage=storage, repository=repository) as interpreter:
        result = await interpreter.run(CODE, tenant="acme")
        execution = await repository.executions.get("acme", result.id)

    assert (result.status, result.stdout, execution.status) == (Status.COMPLETED, "made\n", "completed")
    assert {artifact.not_kept for artifact in result.artifacts} == {"the storage folder: No space left on device"}
    assert [(artifact.id, artifact.url) for artifact in result.artifacts] == [("", "")] * 2
    assert result.artifact("report.csv").read_bytes().startswith(b"region")  # still in the caller's hands
    assert (await repository.outputs.page("acme")).items == ()
    assert (await repository.tenants.usage("acme")).files == 0
    assert place.keys() == set()


async def test_a_quota_refuses_files_by_name_before_a_byte_is_written(keeping, repository, place):
    await repository.tenants.set_policy("acme", Policy(quota_files=1))
    async with keeping(repository=repository) as interpreter:
        result = await interpreter.run(CODE, tenant="acme")
        other = await interpreter.run(CODE, tenant="beta")

    kept = [artifact for artifact in result.artifacts if artifact.id]
    refused = [artifact for artifact in result.artifacts if not artifact.id]
    assert (len(kept), len(refused)) == (1, 1)
    assert "quota" in refused[0].not_kept
    assert len(place.keys()) == 3
    assert not any(artifact.not_kept for artifact in other.artifacts)


async def test_a_database_that_is_down_before_the_code_keeps_it_from_running(keeping, repository, place):
    failing = FailingRepository(repository)
    async with keeping(repository=failing) as interpreter, interpreter.session() as session:
        failing.executions.fail("add", DatabaseError("the database does not answer", stage="database"))
        with pytest.raises(DatabaseError):
            await session.run("open('ran', 'w')")
        failing.executions.mend()
        result = await session.run("import os; print(os.path.exists('ran'))")

    assert result.stdout == "False\n"


@pytest.mark.parametrize("step", ["reserve", "finish"])
async def test_a_database_that_is_lost_after_the_code_loses_no_result_and_leaves_no_file(
    keeping, repository, place, step
):
    failing = FailingRepository(repository)
    noun = failing.outputs if step == "reserve" else failing.executions
    async with keeping(repository=failing) as interpreter, interpreter.session(tenant="acme") as session:
        noun.fail(step, DatabaseError("the database does not answer", stage="database"))
        result = await session.run(CODE)
        noun.mend()
        await interpreter.archive.upkeep.delete()
        again = await session.run("print('goes on')")

    assert (result.status, result.stdout) == (Status.COMPLETED, "made\n")
    assert {artifact.not_kept for artifact in result.artifacts} == {"the database does not answer"}
    assert result.not_recorded == ("the database does not answer" if step == "finish" else "")
    assert result.artifact("report.csv").read_bytes().startswith(b"region")
    assert again.stdout == "goes on\n"
    assert place.keys() == set()
    assert (await repository.tenants.usage("acme")).files == 0


class Unheard(Failing):
    """Does what it is told, and its answer is lost on the way."""

    def fail(self, name: str, error: Exception) -> None:
        async def unheard(*arguments: Any, **options: Any) -> None:
            await getattr(self._real, name)(*arguments, **options)
            raise error

        setattr(self, name, unheard)


DOWN = DatabaseError("the database does not answer", stage="database")


async def test_a_note_that_cannot_be_written_costs_no_file_that_is_kept_and_is_written_later(
    keeping, repository, place
):
    failing = FailingRepository(repository)
    async with keeping(repository=failing) as interpreter, interpreter.session() as session:
        async for event in session.stream("open('a', 'w').write('a')\nprint('x', flush=True)"):
            if isinstance(event, Stdout):
                failing.audit.fail("add", DOWN)
            if isinstance(event, Completed):
                assert event.result.not_recorded == event.result.artifacts[0].not_kept == ""
        (output,) = (await repository.outputs.page("local")).items
        assert await read(interpreter.archive, output) == b"a"
        failing.audit.mend()
        await interpreter.archive.upkeep.settle()

    assert [entry.outcome for entry in (await repository.audit.page("local")).items] == ["completed", "begun"]


async def test_a_row_whose_publishing_was_not_heard_of_keeps_its_bytes(keeping, repository, place):
    unheard = FailingRepository(repository)
    unheard.executions, unheard.files = Unheard(repository.executions), Unheard(repository.files)
    unheard.executions.fail("finish", DOWN)
    unheard.files.fail("publish", DOWN)
    async with keeping(repository=unheard) as interpreter:
        await interpreter.run("open('a', 'w').write('a')")
        with pytest.raises(DatabaseError):
            await interpreter.archive.upload(
                "local", chunks_of(b"b"), name="b", mime_type="a/b", purpose="test", max_bytes=9
            )
        await interpreter.archive.upkeep.delete()
        rows = [*(await repository.outputs.page("local")).items, *(await repository.files.page("local")).items]

    assert {row.storage_key for row in rows} == place.keys()
    assert len(rows) == 2


async def test_what_a_database_was_down_for_is_put_right_by_the_process_that_lives_on(keeping, repository, place):
    failing = FailingRepository(repository)
    async with keeping(repository=failing) as interpreter, interpreter.session() as session:
        events = session.stream("open('a', 'w').write('a')\nprint('x', flush=True)")
        async for event in events:
            if isinstance(event, Stdout):
                for noun, step in (("executions", "finish"), ("outputs", "abandon"), ("executions", "add")):
                    getattr(failing, noun).fail(step, DOWN)
        with pytest.raises(DatabaseError):
            await session.run("print('never')")
        assert (await repository.tenants.usage("local")).files == 1
        for noun in (failing.executions, failing.outputs):
            noun.mend()

        await interpreter.archive.upkeep.settle()
        await interpreter.archive.upkeep.delete()

        executions = (await repository.executions.page("local", session.id)).items
        assert [execution.status for execution in executions] == ["completed"]
        assert {execution.lease for execution in executions} == {None}
        assert (await repository.tenants.usage("local")).files == 0
        assert place.keys() == set()


async def test_a_session_that_cannot_be_saved_after_its_code_loses_no_result(keeping, repository):
    failing = FailingRepository(repository)
    async with keeping(repository=failing) as interpreter, interpreter.session() as session:
        failing.sessions.fail("save", DOWN)
        result = await session.run("open('a', 'w').write('a'); print('made')")
        failing.sessions.mend()
        await interpreter.archive.upkeep.settle()

    assert (result.stdout, result.artifacts[0].not_kept) == ("made\n", "")
    assert [file.name for file in (await repository.sessions.get("local", session.id)).files] == ["a"]


async def test_without_a_storage_executions_are_on_record_and_files_say_why_they_are_not(keeping, repository):
    nothing = open_storage("none://", DownloadLinks(b"", "http://h"))
    async with keeping(storage=nothing, repository=repository) as interpreter:
        result = await interpreter.run(CODE)

    assert (await repository.executions.get("local", result.id)).status == "completed"
    assert {"keeps no files" in artifact.not_kept for artifact in result.artifacts} == {True}
    assert (await repository.outputs.page("local")).items == ()


async def test_who_keeps_no_files_forgets_none_that_others_on_the_same_database_have_to_delete(
    keeping, repository, place
):
    async with keeping(repository=repository) as interpreter:
        result = await interpreter.run(CODE)
    nothing = open_storage("none://", DownloadLinks(b"", "http://h"))
    async with keeping(storage=nothing, repository=repository) as interpreter:
        await repository.executions.delete("local", result.id)
        await interpreter.archive.upkeep.delete()
        assert len(await repository.outbox.waiting()) == len(place.keys()) == 2

    await Archive(place.storage(), repository).upkeep.delete()
    assert (await repository.outbox.waiting(), place.keys()) == ((), set())


async def test_an_upload_has_the_size_of_what_came_whatever_was_said_of_it(keeping, repository, place):
    async with keeping(repository=repository) as interpreter:
        upload = partial(interpreter.archive.upload, "acme", name="b", mime_type="a/b", purpose="test", max_bytes=9)
        for said in (0, 1, 9):
            file = await upload(chunks_of(b"12345"), expected_bytes=said)
            assert (file.size_bytes, file.sha256) == (5, hashlib.sha256(b"12345").hexdigest())

        assert (await repository.tenants.usage("acme")).size_bytes == 15
        assert len(place.keys()) == 3


async def test_an_upload_that_is_too_large_leaves_nothing_and_is_not_even_read_when_it_says_so(
    keeping, repository, place
):
    async def unread() -> AsyncGenerator[bytes]:
        raise AssertionError("it was read")
        yield b""

    async with keeping(repository=repository) as interpreter:
        upload = partial(interpreter.archive.upload, "acme", name="b", mime_type="a/b", purpose="test", max_bytes=9)
        with pytest.raises(LimitError):
            await upload(unread(), expected_bytes=10)
        with pytest.raises(LimitError):
            await upload(chunks_of(b"1234567890", 3))
        await repository.tenants.set_policy("acme", Policy(quota_bytes=4))
        with pytest.raises(LimitError, match="quota"):
            await upload(unread(), expected_bytes=5)
        with pytest.raises(LimitError, match="quota"):
            await upload(chunks_of(b"12345"))
        await interpreter.archive.upkeep.delete()

    assert (await repository.tenants.usage("acme")).files == 0
    assert (await repository.files.page("acme")).items == ()
    assert await repository.outbox.waiting() == ()
    assert place.keys() == set()


async def test_code_whose_caller_leaves_is_on_record_as_cancelled(keeping, repository):
    async with keeping(repository=repository) as interpreter, interpreter.session() as session:
        async with aclosing(session.stream("import time\nprint('begun', flush=True)\ntime.sleep(60)")) as events:
            async for event in events:
                if isinstance(event, Stdout):
                    break
        (execution,) = (await repository.executions.page("local", session.id)).items
        with anyio.fail_after(20):
            while execution.status == "running":  # nobody sets an event when a row changes
                await anyio.sleep(0.01)
                execution = await repository.executions.get("local", execution.id)

    assert execution.status == "cancelled"


async def test_a_caller_that_is_cancelled_while_files_are_kept_loses_none_of_them(keeping, repository, place):
    class Slow(Failing):
        def __init__(self, real) -> None:
            super().__init__(real)
            self.begun, self.go_on = anyio.Event(), anyio.Event()

        async def save(self, *arguments, **options):
            self.begun.set()
            await self.go_on.wait()
            return await self._real.save(*arguments, **options)

    storage = Slow(place.storage())
    async with keeping(storage=storage, repository=repository) as interpreter, interpreter.session() as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, CODE)
            await storage.begun.wait()
            tasks.cancel_scope.cancel()
        storage.go_on.set()
        with anyio.fail_after(20):
            while len((await repository.outputs.page("local")).items) < 2:  # noqa: ASYNC110  # see above
                await anyio.sleep(0.01)
