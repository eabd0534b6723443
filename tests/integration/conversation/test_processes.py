"""Several processes on one database: who follows, who cancels, who takes over, and what becomes of a run whose owner dies."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bichat.conversation.planner import TextDelta, ToolSpec
from bichat.repository.records import RunState
from bichat.testing.planner import calls, says

from .conftest import TENANT, Echo, a_process

pytestmark = pytest.mark.anyio

CODE = '{"code": "1 + 1"}'


async def test_everybody_who_follows_sees_every_event_once_and_in_order_wherever_and_whenever_they_begin(process):
    go = anyio.Event()
    pieces = [TextDelta(f"{number} ") for number in range(300)]
    turns = [[*pieces[:150], go.wait, *pieces[150:], *says()], says("x")]
    async with process(turns) as here, process() as there:
        run = await here.start()
        seen: list[list[tuple[str, Any]]] = []

        async def follow(core, after: int) -> None:
            found = [
                (event.sequence, event.kind, event.payload) async for event in core.follow(TENANT, run.id, after=after)
            ]
            assert [sequence for sequence, _, _ in found] == list(range(after + 1, after + 1 + len(found)))
            seen.append([(kind, payload) for _, kind, payload in found])

        async with anyio.create_task_group() as tasks:
            for process_ in (here, there):
                for after in (0, 1):
                    tasks.start_soon(follow, process_.core, after)
            await here.until(run, "text.delta")
            go.set()
        late = await there.events(run)

    whole = max(seen, key=len)
    assert sorted(map(len, seen)) == [len(whole) - 1] * 2 + [len(whole)] * 2
    assert all(one in (whole, whole[1:]) for one in seen)
    assert late == whole
    text = "".join(payload["delta"] for kind, payload in whole if kind == "text.delta")
    assert text == "".join(piece.text for piece in pieces)


async def test_a_hundred_answers_at_once_neither_lose_mix_nor_double_anything(process):
    texts = {f"{number}": [f"{number}:{piece} " for piece in range(20)] for number in range(100)}
    async with process() as here:
        here.planner.by_text = {text: says(*pieces) for text, pieces in texts.items()}
        answers: dict[str, str] = {}

        async def ask(text: str) -> None:
            run = await here.start(text)
            events = await here.events(run)
            assert events[-1][0] == "run.ended"
            answers[text] = "".join(payload["delta"] for kind, payload in events if kind == "text.delta")

        async with anyio.create_task_group() as tasks:
            for text in texts:
                tasks.start_soon(ask, text)

    assert answers == {text: "".join(pieces) for text, pieces in texts.items()}


async def test_an_answer_is_cancelled_from_another_process(process):
    tool = Echo(wait=anyio.sleep_forever)
    async with process([calls("python", CODE)], tool=tool) as here, process() as there:
        run = await here.start()
        await there.until(run, "code.output")
        await there.core.cancel(TENANT, run.id)
        over = await there.core.wait(TENANT, run.id)

    assert over.state is RunState.CANCELLED
    assert tool.ended == [CODE]


async def test_an_answer_is_worked_on_by_the_process_that_alone_can(process):
    async with process([calls("python", CODE), says("done")]) as home, process(home=home.upkeep.owner) as there:
        run = await there.start()
        events = await there.events(run)

    assert events[-1][1]["state"] == "completed"
    assert home.tools.tool.called == [CODE]
    assert there.planner.asked == []


async def test_an_answer_that_waits_for_a_process_that_is_gone_is_worked_on_here_once_nothing_of_its_lives_there(
    process,
):
    async with process([calls("python", CODE), says("done")], home="gone") as here:
        run = await here.start()
        other = await here.start()
        assert (await here.core.get(TENANT, run.id)).state is RunState.QUEUED
        await here.core.cancel(TENANT, other.id)
        here.tools.owner = ""  # as when its session was swept
        over = await here.core.wait(TENANT, run.id)
        cancelled = await here.core.wait(TENANT, other.id)

    assert (over.state, cancelled.state) == (RunState.COMPLETED, RunState.CANCELLED)
    assert here.tools.tool.called == [CODE]


async def test_an_answer_is_cancelled_before_the_process_that_alone_can_has_begun(process):
    async with process(home="gone") as here:
        run = await here.start()
        assert (await here.core.get(TENANT, run.id)).state is RunState.QUEUED
        await here.core.cancel(TENANT, run.id)
        await here.upkeep.sweep(datetime.now(UTC) + timedelta(hours=1))
        over = await here.core.wait(TENANT, run.id)

    assert (over.state, over.error) == (RunState.CANCELLED, None)


@pytest.mark.parametrize(
    "moment, seen, ended",
    [
        ("planning", "text.delta", ("failed", "owner_lost")),
        ("code", "code.output", ("failed", "owner_lost")),
        ("cancelling", "code.output", ("cancelled", None)),
        ("waiting", "run.waiting", ("expired", None)),
    ],
)
async def test_a_run_whose_process_is_killed_ends_once_its_lease_has_run_out_and_not_before(
    process, address, moment, seen, ended
):
    command = [sys.executable, "-m", "integration.conversation.test_processes", address, moment]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    async with process() as here:
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as there:  # noqa: ASYNC220
            try:
                assert there.stdout is not None
                run = await here.core.get(
                    TENANT, (await anyio.to_thread.run_sync(there.stdout.readline)).decode().strip()
                )
                await here.until(run, seen)
            finally:
                there.kill()
        if moment == "cancelling":
            await here.core.cancel(TENANT, run.id)
        before = await here.core.get(TENANT, run.id)
        await here.upkeep.sweep()
        assert await here.core.get(TENANT, run.id) == before
        assert not before.state.is_final

        await here.upkeep.sweep(datetime.now(UTC) + timedelta(hours=1))

        events = await here.events(run)
        over = await here.core.get(TENANT, run.id)
        assert events[-1][0] == "run.ended"
        assert (over.state.value, over.error and over.error["code"]) == ended
        assert seen in [kind for kind, _ in events]
        # The conversation goes on, and what was half said is no part of it.
        here.planner.by_text = {"on": says("well")}
        after = await here.core.wait(TENANT, (await here.start("on", previous_run_id=run.id)).id)
        assert after.state is RunState.COMPLETED


async def test_a_server_that_is_stopped_ends_its_answers_with_a_word(process):
    async with process() as there:
        async with process([[TextDelta("so far"), anyio.sleep_forever]]) as here:
            run = await here.start()
            await here.until(run, "text.delta")
            await here.core.drain(0.05)
        over = await there.core.wait(TENANT, run.id)
        items = await there.core.items(TENANT, run.id)

    assert (over.state, over.error["code"]) == (RunState.FAILED, "server_stopped")
    assert [(item.status, item.parts[0].content["text"]) for item in items] == [("incomplete", "so far")]


async def test_a_server_that_drains_lets_its_answers_come_to_their_end(process):
    go = anyio.Event()
    async with process() as there:
        async with process([[go.wait, *says("done")]]) as here:
            run = await here.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.core.drain, 20)
                go.set()
        assert (await there.core.get(TENANT, run.id)).state is RunState.COMPLETED


async def test_a_caller_s_outputs_are_taken_by_any_process_and_a_caller_that_never_comes_lets_it_expire(process):
    asked = {"client_tools": (ToolSpec(name="weather"),), "waits_for_caller": True}
    async with process([calls("weather", "{}"), calls("weather", "{}")]) as here, process([says("sunny")]) as there:
        runs = [await here.start(**asked) for _ in range(2)]
        for run in runs:
            assert (await here.core.wait(TENANT, run.id)).state is RunState.WAITING
        await there.core.resume(TENANT, runs[0].id, {"call_1": "25 °C"})
        assert (await here.core.wait(TENANT, runs[0].id)).state is RunState.COMPLETED
        await here.upkeep.sweep(datetime.now(UTC) + timedelta(hours=1))
        assert (await here.core.wait(TENANT, runs[1].id)).state is RunState.EXPIRED


async def test_an_answer_that_waited_goes_on_in_the_process_that_alone_can(process):
    asked = {"client_tools": (ToolSpec(name="weather"),), "waits_for_caller": True}
    async with (
        process([calls("weather", "{}"), calls("python", CODE), says("done")]) as home,
        process(home=home.upkeep.owner) as there,
    ):
        run = await home.start(**asked)
        assert (await there.core.wait(TENANT, run.id)).state is RunState.WAITING
        resumed = await there.core.resume(TENANT, run.id, {"call_1": "25 °C"})
        over = await there.core.wait(TENANT, run.id)
        events = await there.events(run)

    assert resumed.state is RunState.QUEUED
    assert over.state is RunState.COMPLETED
    assert home.tools.tool.called == [CODE]
    assert there.planner.asked == []
    assert [kind for kind, _ in events].count("run.started") == 1


async def _live(address: str, moment: str) -> None:
    """A process that comes to a moment of a run, having said which, and stays there."""
    weather = ToolSpec(name="weather")
    turn = {"planning": [TextDelta("so far"), anyio.sleep_forever], "waiting": calls("weather", "{}")}
    async with a_process(
        address, [turn.get(moment, calls("python", CODE))], tool=Echo(wait=anyio.sleep_forever)
    ) as here:
        run = await here.start(client_tools=(weather,), waits_for_caller=True)
        print(run.id, flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_live, sys.argv[1], sys.argv[2])
