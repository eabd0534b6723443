"""Every fault at every step: the right category, nothing left on the server, nothing half-stored."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from bichat.domain import Status
from bichat.errors import (
    CodeTimeoutError,
    DatabaseError,
    LimitError,
    OutputsNotKeptError,
    RemoteServiceError,
    StorageError,
)
from bichat.executor import CodeRequest
from bichat.repository.records import Policy
from bichat.testing.fault_server import Fault, FaultServer, Play
from bichat.testing.memory import MemoryRepository

pytestmark = pytest.mark.anyio

PLAY = Play(files={"a.csv": b"1,2\n", "b.csv": b"3,4\n"}, logs="42\n")
ASK = CodeRequest(code="print(42)", files={"in.csv": b"0"})

#: Requests that make something before there is a run, those that begin one, look at it, read what came out, load it, and
#: delete; of each client.
MAKING = {"assistants": ("files.create", "assistants.create", "threads.create"),
          "responses": ("containers.create", "container_files.create")}  # fmt: skip
BEGINNING = {"assistants": "runs.create", "responses": "responses.create"}
LOOKING = {"assistants": "runs.retrieve", "responses": "responses.retrieve"}
READING = {"assistants": ("messages.list", "steps.list"), "responses": ("container_files.list",)}
LOADING = {"assistants": ("files.retrieve", "files.content"), "responses": ("container_files.content",)}
DELETING = {"assistants": ("threads.delete", "assistants.delete", "files.delete"),
            "responses": ("responses.delete", "containers.delete")}  # fmt: skip

PASSING = (Fault.BUSY, Fault.BROKEN, Fault.STALLS, Fault.LOST, Fault.GARBAGE, Fault.CUT)
#: It was done, and nobody was told.
UNTOLD = (Fault.LOST, Fault.SILENT, Fault.GARBAGE, Fault.CUT)
#: Kinds of which one can be found again although its id was never told.
FOUND_AGAIN = {"assistants.create", "containers.create", "container_files.create"}


def each(*tables: dict[str, Any]) -> list[Any]:
    """Client and request, of all that stand in the tables."""
    found: list[Any] = []
    for table in tables:
        for kind, routes in table.items():
            names = [routes] if isinstance(routes, str) else routes
            found += [pytest.param(kind, name, id=f"{kind}-{name}") for name in names]
    return found


async def together(check: Callable[[Fault], Awaitable[None]], faults: Sequence[Fault]) -> None:
    """Check each of the faults, all at a time: most of it is waiting for answers that do not come."""

    async def checked(fault: Fault) -> None:
        try:
            await check(fault)
        except BaseException as error:
            error.add_note(f"with {fault}")
            raise

    async with anyio.create_task_group() as tasks:
        for fault in faults:
            tasks.start_soon(checked, fault)


@pytest.mark.parametrize("client, route", each(LOOKING, READING, LOADING, DELETING))
async def test_what_fails_for_the_moment_is_asked_for_again(bench, client, route):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(route, fault, times=1)
            async with bench(server, client) as it:
                result = await it.executor.execute(ASK)

            assert result.ok
            assert {artifact.read_bytes() for artifact in result.execution.artifacts} == {b"1,2\n", b"3,4\n"}
            assert result.leftovers == ()
            assert server.left == []
            assert await it.is_whole()

    await together(check, PASSING)


@pytest.mark.parametrize("client, route", each(MAKING, BEGINNING))
async def test_what_was_certainly_not_made_is_made_the_second_time(bench, client, route):
    with FaultServer(PLAY) as server:
        server.fails(route, Fault.BUSY, times=1)
        async with bench(server, client) as it:
            assert (await it.executor.execute(ASK)).ok
    assert server.left == []


@pytest.mark.parametrize("client, route", each(MAKING))
async def test_what_cannot_be_made_is_an_error_and_the_code_has_not_run(bench, client, route):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(route, fault)
            async with bench(server, client) as it:
                with pytest.raises(RemoteServiceError) as caught:
                    await it.executor.execute(ASK)

                error = caught.value
                assert (error.ran, error.survived) == (False, None)
                assert error.is_retryable is (fault is not Fault.REFUSED)
                assert error.stage in {"upload", "assistant", "thread", "container"}
                assert server.requests.count(route) == (2 if fault is Fault.BUSY else 1)
                # A thread and a file that nobody was told of cannot be named by anybody: that is said, and files expire.
                is_nameless = fault in UNTOLD and route not in FOUND_AGAIN
                assert len(server.left) == is_nameless
                assert bool(getattr(error, "__notes__", ())) is (is_nameless or _may_be_nameless(route, fault))
                assert await it.is_whole()
                assert [one.status for one in await it.executions()] == ["cancelled"]
                assert await it.repository.leftovers.waiting() == ()

    await together(check, [Fault.REFUSED, Fault.BUSY, Fault.BROKEN, Fault.STALLS, *UNTOLD])


def _may_be_nameless(route: str, fault: Fault) -> bool:
    return fault in (Fault.BROKEN, Fault.STALLS) and route not in FOUND_AGAIN


async def test_a_run_is_begun_once_whatever_becomes_of_the_answer(bench, kind):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(BEGINNING[kind], fault)
            async with bench(server, kind) as it:
                if kind == "assistants" and fault in UNTOLD:  # the run is its thread's only one
                    assert (await it.executor.execute(ASK)).ok
                else:
                    with pytest.raises(RemoteServiceError) as caught:
                        await it.executor.execute(ASK)
                    assert caught.value.ran is (False if fault in (Fault.REFUSED, Fault.BUSY) else None)
                    assert caught.value.stage == "run"

                assert server.requests.count(BEGINNING[kind]) == (2 if fault is Fault.BUSY else 1)
                # A response that nobody was told of cannot be named; with its container its code is gone.
                is_nameless = kind == "responses" and fault in UNTOLD
                assert [thing.partition("_")[0] for thing in server.left] == ["resp"] * is_nameless
                assert await it.is_whole()

    await together(check, [Fault.REFUSED, Fault.BUSY, Fault.BROKEN, Fault.STALLS, *UNTOLD])


async def test_a_run_that_cannot_be_looked_at_is_an_error_and_nobody_knows_whether_it_ran(bench, soon, kind):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(LOOKING[kind], fault)
            async with bench(server, kind, options=soon(timeout_s=0.4, request_timeout_s=0.15)) as it:
                with pytest.raises(RemoteServiceError) as caught:
                    await it.executor.execute(ASK)

                assert (caught.value.ran, caught.value.stage) == (None, "run")
                assert [one.status for one in await it.executions()] == ["session_lost"]
                assert await it.is_whole()
        assert f"{kind.replace('assistants', 'runs')}.cancel" in server.requests
        assert server.left == []

    await together(
        check, [Fault.REFUSED, Fault.GONE, Fault.BUSY, Fault.BROKEN, Fault.STALLS, Fault.LOST, Fault.GARBAGE, Fault.CUT]
    )


@pytest.mark.parametrize("client, route", each(READING))
async def test_what_came_out_but_cannot_be_read_is_an_error_with_what_survived(bench, client, route):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(route, fault)
            async with bench(server, client) as it:
                with pytest.raises(RemoteServiceError) as caught:
                    await it.executor.execute(ASK)

                error = caught.value
                assert error.stage == "collect"
                if route == "steps.list":
                    assert (error.ran, error.survived) == (None, None)
                else:
                    assert (error.ran, error.survived.logs) == (True, "42\n")
                    assert error.survived.status is Status.SESSION_LOST
                assert await it.is_whole()
                # What a run left stands in its thread alone: that stays until it could be read, or is not there.
                server.heals()
                await it.executor.sweep(datetime.now(UTC) + timedelta(minutes=1))
                is_unnamed = (route, fault) == ("messages.list", Fault.GONE)
                assert {thing.partition("-")[0] for thing in server.left} == ({"file"} if is_unnamed else set())
                assert await it.repository.leftovers.waiting() == ()

    await together(
        check, [Fault.REFUSED, Fault.GONE, Fault.BUSY, Fault.BROKEN, Fault.STALLS, Fault.LOST, Fault.GARBAGE, Fault.CUT]
    )


@pytest.mark.parametrize("client, route", each(LOADING))
async def test_files_that_cannot_be_loaded_are_named_and_keep_nothing_else_from_coming(bench, client, route):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            async with bench(server, client) as it:
                server.fails(route, fault, times=1 if fault in (Fault.REFUSED, Fault.GONE) else 2)
                result = await it.executor.execute(ASK)
                server.fails(route, fault)
                with pytest.raises(RemoteServiceError) as caught:
                    await it.executor.execute_code_interpreter(None, "print(42)")

                assert len(result.outputs) == len(result.execution.refused) == 1
                assert (result.ok, result.status, result.logs) == (False, Status.COMPLETED, "42\n")
                assert (caught.value.stage, caught.value.ran) == ("download", True)
                assert caught.value.survived.logs == "42\n"
                assert server.left == []
                assert await it.is_whole()

    await together(check, [Fault.REFUSED, Fault.GONE, Fault.BUSY, Fault.BROKEN, Fault.STALLS, Fault.LOST, Fault.CUT])


@pytest.mark.parametrize("client, route", each(DELETING))
async def test_what_cannot_be_deleted_is_told_beside_the_result_and_swept_later(bench, client, route):
    async def check(fault: Fault) -> None:
        with FaultServer(PLAY) as server:
            server.fails(route, fault)
            async with bench(server, client) as it:
                result = await it.executor.execute(CodeRequest(code="print(42)"))

                assert result.ok
                assert len(result.outputs) == 2
                left = {thing.id for thing in result.leftovers}
                assert left == set(server.left) != set()
                (row,) = await it.repository.leftovers.waiting()
                assert {thing["id"] for thing in row.objects} == left

                server.heals()
                assert await it.executor.sweep(row.next_attempt_at) == 1
                assert server.left == []
                assert await it.repository.leftovers.waiting() == ()

    await together(check, [Fault.REFUSED, Fault.BROKEN, Fault.STALLS])


@pytest.mark.parametrize("client, route", each(DELETING))
async def test_what_is_lost_before_the_clean_up_is_no_failure(bench, client, route):
    with FaultServer(PLAY) as server:
        server.before(route, server.world.things.clear)
        async with bench(server, client) as it:
            result = await it.executor.execute(ASK)

            assert (result.ok, result.leftovers) == (True, ())
            assert await it.repository.leftovers.waiting() == ()


async def test_without_a_repository_what_is_left_is_swept_by_the_same_client(bench, kind, memory):
    with FaultServer(PLAY) as server:
        async with bench(server, kind) as it:
            executor = type(it.executor)(it.executor._server._client, memory, options=it.executor._options)
            server.fails(DELETING[kind][0], Fault.BROKEN)
            result = await executor.execute(CodeRequest(code="1"))
            assert [thing.id for thing in result.leftovers] == server.left
            assert await executor.sweep() == 0
            server.heals()

            assert await executor.sweep() == 1
            assert await executor.sweep() == 0
    assert server.left == []


async def test_a_size_that_is_announced_wrongly_is_looked_at_twice_and_what_came_is_kept(bench, kind):
    play = Play(files={"a.csv": b"1,2\n"}, announced={"a.csv": 4_000})
    route = LOADING[kind][-1]
    with FaultServer(play) as server:
        async with bench(server, kind) as it:
            (artifact,) = (result := await it.executor.execute(ASK)).execution.artifacts
            assert (artifact.size_bytes, artifact.read_bytes()) == (4, b"1,2\n")
            assert "4,000 bytes" in result.execution.notice
            assert server.requests.count(route) == 2

            server.fails(route, Fault.SHIFTING)
            with pytest.raises(RemoteServiceError) as caught:
                await it.executor.execute_code_interpreter(None, "print(42)")
            assert (caught.value.stage, caught.value.ran) == ("download", True)
            assert server.left == []
            assert await it.is_whole()


# ------------------------------------------------------------------------------------------------------- how runs can end


@pytest.mark.parametrize(
    "play, status",
    [
        pytest.param(Play(states=("in_progress",)), Status.TIMEOUT, id="never ends"),
        pytest.param(Play(states=("in_progress",), heeds_cancel=False), Status.TIMEOUT, id="heeds no cancel"),
        pytest.param(Play(states=("queued", "expired")), Status.TIMEOUT, id="expires"),
        pytest.param(Play(states=("in_progress", "cancelled")), Status.CANCELLED, id="is cancelled"),
        pytest.param(Play(states=("incomplete",)), Status.COMPLETED, id="is incomplete"),
    ],
)
async def test_a_run_that_ends_otherwise_is_a_status_with_what_it_left(bench, soon, kind, play, status):
    left = Play(**{name: getattr(play, name) for name in ("states", "heeds_cancel")}, files={"a.csv": b"1"})
    with FaultServer(left) as server:
        options = soon(timeout_s=0.2, cleanup_s=0.3)
        async with bench(server, kind, options=options) as it:
            result = await it.executor.execute(ASK)
            assert result.status is status
            assert (result.execution.error is None) is (status is Status.COMPLETED)
            if status is Status.TIMEOUT:
                with pytest.raises(CodeTimeoutError) as caught:
                    await it.executor.execute_code_interpreter(None, "print(42)")
                assert caught.value.ran
            if kind == "assistants" or "in_progress" not in play.states[-1:]:
                assert [artifact.name for artifact in result.execution.artifacts] == ["a.csv"]
            assert server.left == []
            assert await it.is_whole()
            assert {one.status for one in await it.executions()} == {status.value}


@pytest.mark.parametrize(
    "state, code, is_retryable",
    [
        ("failed", "server_error", True),
        ("failed", "rate_limit_exceeded", True),
        ("failed", "invalid_prompt", False),
        ("requires_action", None, False),
        ("nonsense", None, False),
    ],
)
async def test_a_run_that_fails_says_why_and_has_what_survived(bench, kind, state, code, is_retryable):
    error = {"code": code, "message": "because"} if code else None
    play = Play(states=("in_progress", state), error=error, files={"a.csv": b"1"})
    with FaultServer(play) as server:
        async with bench(server, kind) as it:
            with pytest.raises(RemoteServiceError) as caught:
                await it.executor.execute_code_interpreter(None, "print(42)")

            failure = caught.value
            assert (failure.is_retryable, failure.ran) == (is_retryable, True)
            assert code is None or "because" in failure.message
            assert [output.name for output in failure.survived.outputs] == ["a.csv"]
            assert await it.is_whole()
            assert server.left == []


# ---------------------------------------------------------------------------------------------- storage, database, caller


class Failing:
    """A storage that takes half of a file's bytes and then fails, from one file on."""

    keeps = True

    def __init__(self, behind: Any, *, good: int) -> None:
        self._behind = behind
        self._good = good

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def save(self, key: str, chunks: AsyncIterable[bytes], **others: Any) -> Any:
        self._good -= 1
        if self._good >= 0:
            return await self._behind.save(key, chunks, **others)
        async for _ in chunks:
            break
        raise StorageError("the disk is full", stage="storage")


@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("is_recorded", [True, False])
async def test_what_cannot_be_stored_is_told_and_nothing_is_half_stored(bench, kind, memory, good, is_recorded):
    with FaultServer(PLAY) as server:
        async with bench(server, kind, storage=Failing(memory, good=good), behind=memory) as it:
            executor = it.executor
            if not is_recorded:
                storage = Failing(memory, good=good)
                executor = type(executor)(executor._server._client, storage, options=executor._options)  # pyright: ignore[reportArgumentType]
            with pytest.raises(OutputsNotKeptError) as caught:
                await executor.execute_code_interpreter(None, "print(42)")

            survived = caught.value.survived
            assert (caught.value.stage, caught.value.ran) == ("storage", True)
            assert [bool(each.not_kept) for each in survived.execution.artifacts] == [n >= good for n in range(2)]
            assert {each.read_bytes() for each in survived.execution.artifacts} == {b"1,2\n", b"3,4\n"}
            assert it.stored == {output.storage_key for output in survived.outputs}
            assert len(it.stored) == good
            assert not is_recorded or await it.is_whole()
            assert server.left == []


async def test_what_is_above_a_quota_is_not_kept(bench, kind):
    with FaultServer(PLAY) as server:
        async with bench(server, kind) as it:
            await it.repository.tenants.set_policy("local", Policy(quota_files=1))
            result = await it.executor.execute(CodeRequest(code="1"))
            with pytest.raises(OutputsNotKeptError):
                await it.executor.execute_code_interpreter(None, "print(42)")
            with pytest.raises(LimitError):
                await it.executor.execute(CodeRequest(code="1", files={"a": b"0" * (1 << 29), "b": b"0"}))

            assert [bool(artifact.not_kept) for artifact in result.execution.artifacts] == [False, True]
            assert await it.is_whole()
    assert server.left == []


class Breaking(MemoryRepository):
    """One of whose methods fails: the database is down for that."""

    def __init__(self, noun: str, method: str) -> None:
        super().__init__()

        async def fails(*_: Any, **__: Any) -> Any:
            raise DatabaseError("the database is down", stage="repository")

        setattr(getattr(self, noun), method, fails)


@pytest.mark.parametrize(
    "noun, method", [("sessions", "add"), ("executions", "add"), ("leftovers", "add")], ids=lambda word: word
)
async def test_what_cannot_be_recorded_before_is_not_begun(bench, kind, noun, method):
    with FaultServer(PLAY) as server:
        async with bench(server, kind, repository=Breaking(noun, method)) as it:
            with pytest.raises(DatabaseError):
                await it.executor.execute(ASK)

    assert [name for name in server.requests if name != "models.retrieve"] == []


@pytest.mark.parametrize(
    "noun, method", [("executions", "finish"), ("outputs", "reserve"), ("leftovers", "note")], ids=lambda word: word
)
async def test_what_cannot_be_recorded_after_keeps_the_result_from_nobody(bench, kind, noun, method):
    with FaultServer(PLAY) as server:
        async with bench(server, kind, repository=Breaking(noun, method)) as it:
            result = await it.executor.execute(ASK)

            assert (result.logs, len(result.execution.artifacts)) == ("42\n", 2)
            assert server.left == []
            if noun != "leftovers":
                assert {bool(artifact.not_kept) for artifact in result.execution.artifacts} == {True}
                assert it.stored == set()


@pytest.mark.parametrize("client, route", each(MAKING, BEGINNING, LOOKING, READING, LOADING, DELETING))
async def test_a_caller_that_leaves_takes_everything_along(bench, client, route):
    loop_token = anyio.lowlevel.current_token()
    with FaultServer(PLAY) as server:
        async with bench(server, client) as it:
            with anyio.CancelScope() as scope:

                def leave() -> None:
                    anyio.from_thread.run_sync(scope.cancel, token=loop_token)

                server.before(route, leave)
                server.fails(route, Fault.STALLS, times=1)
                await it.executor.execute(ASK)

            if route in DELETING[client]:  # it was over, and the clean-up is not left half-done
                assert len(it.stored) == 2
            else:
                assert it.stored == set()
            assert await it.is_whole()
            assert server.left == []
