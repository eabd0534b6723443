"""One answer: turns and calls, as items and as events."""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from bichat.conversation.planner import (
    PlannerError,
    ReasoningDelta,
    ReasoningEnded,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    ToolSpec,
    TurnEnded,
)
from bichat.conversation.request import Bounds, Said
from bichat.errors import ConflictError, NotFoundError, UserInputError
from bichat.repository.records import Part, Role, RunState
from bichat.testing.planner import calls, says

from .conftest import TENANT, Echo, said

pytestmark = pytest.mark.anyio

CODE = '{"code": "1 + 1"}'


async def test_an_answer_is_planned_run_and_told_in_items_and_events(process):
    turns = [
        [ReasoningDelta("hm"), ReasoningEnded({"id": "r"}), *calls("python", '{"code"', ': "1 + 1"}')],
        says("It is ", "2."),
    ]
    async with process(turns) as here:
        run = await here.start("what is 1 + 1?")
        events = await here.events(run)
        items = await here.core.items(TENANT, run.id)
        done = await here.core.get(TENANT, run.id)

    kinds = [kind for kind, _ in events]
    assert kinds[0] == "run.started"
    assert [kind for kind in kinds if "delta" not in kind] == [
        "run.started",
        *("item.added", "item.done"),
        *("item.added", "code.running", "code.output", "item.done"),
        *("item.added", "item.done"),
        "run.ended",
    ]
    assert [item.parts[0].kind for item in items] == ["reasoning", "code", "text"]
    assert items[0].parts[0].content == {"text": "hm", "provider": {"id": "r"}}
    assert items[1].parts[0].content["code"] == CODE
    assert items[2].parts[0].content["text"] == "It is 2."
    assert "".join(payload["delta"] for kind, payload in events if kind == "code.delta") == "1 + 1"
    assert [payload["item"] for kind, payload in events if kind == "item.done"][2]["parts"][0]["content"]["text"] == (
        "It is 2."
    )
    assert done.state is RunState.COMPLETED
    assert done.usage == {
        "input_tokens": 20,
        "cached_tokens": 0,
        "output_tokens": 6,
        "reasoning_tokens": 0,
        "total_tokens": 26,
    }
    assert done.metadata == {"tool": "echo"}
    assert events[-1] == ("run.ended", {"state": "completed", "error": None, "usage": dict(done.usage)})


async def test_a_planner_is_told_what_was_said_and_what_came_of_its_calls(process):
    async with process([calls("python", CODE), says("2"), says("again")]) as here:
        first = await here.start("one", instructions="Be short.")
        await here.core.wait(TENANT, first.id)
        second = await here.start("two", previous_run_id=first.id)
        await here.core.wait(TENANT, second.id)

    assert here.planner.asked[0].instructions == "Use python.\n\nBe short."
    assert [turn.is_first for turn in here.planner.asked] == [True, False, True]
    assert [[m.parts[0].kind for m in turn.history] for turn in here.planner.asked] == [
        ["text"],
        ["text", "code"],
        ["text", "code", "text", "text"],
    ]
    assert here.planner.asked[1].history[1].parts[0].content["told"] == f"ran {CODE}"
    assert here.planner.asked[2].instructions == "Use python."
    assert second.conversation_id == first.conversation_id


async def test_who_goes_on_from_an_earlier_answer_gets_a_conversation_of_its_own_with_what_was_said_until_then(process):
    async with process([says("1"), says("2"), says("3"), says("4")]) as here:
        first = await here.start("a")
        await here.core.wait(TENANT, first.id)
        second = await here.start("b", previous_run_id=first.id)
        await here.core.wait(TENANT, second.id)
        fork = await here.start("c", previous_run_id=first.id)
        await here.core.wait(TENANT, fork.id)
        on = await here.start("d", previous_run_id=fork.id)
        await here.core.wait(TENANT, on.id)

    texts = [[m.parts[0].content["text"] for m in turn.history] for turn in here.planner.asked]
    assert texts == [["a"], ["a", "1", "b"], ["a", "1", "c"], ["a", "1", "c", "3", "d"]]
    assert fork.conversation_id != first.conversation_id == second.conversation_id
    assert on.conversation_id == fork.conversation_id


async def test_a_conversation_has_one_answer_at_a_time_and_no_other_tenant_sees_it(process):
    go = anyio.Event()
    async with process([[go.wait, *says("a")], says("b")]) as here:
        run = await here.start()
        with pytest.raises(ConflictError):
            await here.start(conversation_id=run.conversation_id)
        with pytest.raises(UserInputError):
            await here.start(previous_run_id=run.id)
        for call in (here.core.get, here.core.wait, here.core.cancel, here.core.items, here.core.forget):
            with pytest.raises(NotFoundError):
                await call("other", run.id)
        go.set()
        await here.core.wait(TENANT, run.id)
        after = await here.start(conversation_id=run.conversation_id)
        assert (await here.core.wait(TENANT, after.id)).state is RunState.COMPLETED


async def test_a_call_of_the_caller_s_own_tool_ends_the_answer_or_waits_for_what_comes_of_it(process):
    weather = ToolSpec(name="weather")
    turns = [calls("weather", '{"city":', '"Bonn"}'), calls("weather", "{}", call_id="call_2"), says("sunny")]
    async with process(turns) as here:
        ended = await here.core.wait(TENANT, (await here.start(client_tools=(weather,))).id)
        assert ended.state is RunState.COMPLETED
        run = await here.start(client_tools=(weather,), waits_for_caller=True)
        events = await here.events(run)
        waiting = await here.core.get(TENANT, run.id)
        assert events[-1] == ("run.waiting", {"calls": [{"call_id": "call_2", "name": "weather", "arguments": "{}"}]})
        assert waiting.state is RunState.WAITING
        for wrong in ({}, {"call_1": "x"}, {"call_2": "x", "call_3": "y"}):
            with pytest.raises(UserInputError):
                await here.core.resume(TENANT, run.id, wrong)
        await here.core.resume(TENANT, run.id, {"call_2": "25 °C"})
        with pytest.raises(ConflictError):
            await here.core.resume(TENANT, run.id, {"call_2": "25 °C"})
        rest = await here.events(run, after=len(events))
        over = await here.core.wait(TENANT, run.id)

    assert [kind for kind, _ in rest if "delta" not in kind] == ["item.added", "item.done", "run.ended"]
    assert over.state is RunState.COMPLETED
    assert over.usage["input_tokens"] == 20
    last = here.planner.asked[-1].history
    assert [m.parts[0].kind for m in last] == ["text", "tool_call", "tool_result"]
    assert last[-1].parts[0].content == {"call_id": "call_2", "output": "25 °C"}


@pytest.mark.parametrize(
    "bounds, others, turns, ended",
    [
        (Bounds(turns=2), {}, [calls("python", CODE)] * 2, ("incomplete", "max_turns")),
        (Bounds(), {}, [[TextDelta("so far"), TurnEnded("length")]], ("incomplete", "max_output_tokens")),
        (Bounds(), {}, [[TextDelta("x"), TurnEnded("content_filter")]], ("incomplete", "content_filter")),
        (Bounds(), {"max_tool_calls": 1}, [calls("python", CODE), says("done")], ("completed", None)),
        (Bounds(), {"max_input_tokens": 9}, [calls("python", CODE)], ("incomplete", "max_input_tokens")),
        (Bounds(), {"max_input_tokens": 9}, [says("done")], ("completed", None)),
    ],
)
async def test_an_answer_is_bounded(process, bounds, others, turns, ended):
    async with process(turns, bounds=bounds) as here:
        run = await here.start(**others)
        over = await here.core.wait(TENANT, run.id)

    assert (over.state, over.error and over.error["reason"]) == ended


async def test_no_more_calls_are_carried_out_than_are_allowed_and_the_model_is_told(process):
    two = [
        *(ToolCallBegun("a", "python"), ToolCallDelta("a", CODE), ToolCallBegun("b", "python")),
        *(ToolCallDelta("b", CODE), TurnEnded("tool_calls")),
    ]
    async with process([two, says("ok")]) as here:
        await here.core.wait(TENANT, (await here.start(max_tool_calls=1)).id)

    told = [m.parts[0].content["told"] for m in here.planner.asked[1].history[1:]]
    assert told[0].startswith("ran")
    assert "not carried out" in told[1]
    assert here.tools.tool.called == [CODE]
    assert here.planner.asked[1].tools == ()


async def test_an_answer_that_takes_too_long_expires_and_what_it_was_doing_is_ended(process):
    tool = Echo(wait=anyio.sleep_forever)
    async with process([calls("python", CODE)], tool=tool, bounds=Bounds(run_s=2.0)) as here:
        run = await here.start()
        over = await here.core.wait(TENANT, run.id)
        items = await here.core.items(TENANT, run.id)

    assert over.state is RunState.EXPIRED
    assert tool.ended == [CODE]
    assert [item.status for item in items] == ["incomplete"]


async def test_an_answer_that_has_a_time_of_its_own_expires_in_it_whether_it_is_worked_on_or_waits(process):
    tool = Echo(wait=anyio.sleep_forever)
    weather = {"client_tools": (ToolSpec(name="weather"),), "waits_for_caller": True}
    async with process([calls("python", CODE), calls("weather", "{}")], tool=tool) as here:
        working = await here.core.wait(TENANT, (await here.start(lives_s=1.0)).id)
        waiting = await here.start(lives_s=1.0, **weather)
        await here.until(waiting, "run.waiting")
        with anyio.fail_after(20):
            while (expired := await here.core.get(TENANT, waiting.id)).state is RunState.WAITING:
                await anyio.lowlevel.checkpoint()
        with pytest.raises(ConflictError):
            await here.core.resume(TENANT, waiting.id, {"call_1": "x"})

    assert (working.state, expired.state) == (RunState.EXPIRED, RunState.EXPIRED)
    assert tool.ended == [CODE]


async def test_a_model_is_given_the_last_messages_that_were_asked_for_with_what_lies_between_them(process):
    turns = [calls("python", CODE), says("two"), calls("python", CODE), says("four"), calls("python", CODE), says("5")]
    async with process(turns) as here:
        first = await here.core.wait(TENANT, (await here.start("one")).id)
        second = await here.core.wait(TENANT, (await here.start("three", previous_run_id=first.id)).id)
        await here.core.wait(TENANT, (await here.start("last", previous_run_id=second.id, last_messages=3)).id)

    kinds = [message.parts[0].kind for message in here.planner.asked[4].history]
    said = [
        message.parts[0].content["text"]
        for message in here.planner.asked[4].history
        if len(message.parts[0].content) < 3
    ]
    assert kinds == ["text", "code", "text", "text"]
    assert said == ["three", "four", "last"]
    assert [message.parts[0].kind for message in here.planner.asked[5].history] == [*kinds, "code"]


async def test_calls_that_a_model_names_alike_are_told_apart_by_their_place(process):
    asked = {"client_tools": (ToolSpec(name="weather"),), "waits_for_caller": True, "tool_choice": "required"}
    async with process([calls("weather", "1"), calls("weather", "2"), says("both")]) as here:
        run = await here.start(**asked)
        for number in ("1", "2"):
            waiting = await here.core.wait(TENANT, run.id)
            assert [call["arguments"] for call in await here.core.awaited(waiting)] == [number]
            await here.core.resume(TENANT, run.id, {"call_1": f"result {number}"})
        over = await here.core.wait(TENANT, run.id)

    assert over.state is RunState.COMPLETED
    told = [message.parts[0].content for message in here.planner.asked[-1].history[1:]]
    assert [each.get("arguments") or each["output"] for each in told] == ["1", "result 1", "2", "result 2"]
    # Forced once, and not again where it goes on.
    assert [turn.tool_choice for turn in here.planner.asked] == ["required", "auto", "auto"]


@pytest.mark.parametrize("moment", ["while it is planned", "while code runs"])
async def test_an_answer_is_cancelled_at_any_point_and_what_there_is_stays(process, moment):
    tool = Echo(wait=anyio.sleep_forever)
    planned = [TextDelta("so far"), anyio.sleep_forever]
    turns = [planned if moment == "while it is planned" else calls("python", CODE)]
    async with process(turns, tool=tool) as here:
        run = await here.start()
        await here.until(run, "text.delta" if moment == "while it is planned" else "code.output")
        assert (await here.core.cancel(TENANT, run.id)).state in (RunState.CANCELLING, RunState.CANCELLED)
        over = await here.core.wait(TENANT, run.id)
        items = await here.core.items(TENANT, run.id)
        assert await here.core.cancel(TENANT, run.id) == over

    assert (over.state, over.error) == (RunState.CANCELLED, None)
    assert [item.status for item in items] == ["incomplete"]
    if moment == "while it is planned":
        assert items[0].parts[0].content["text"] == "so far"


async def test_a_model_that_fails_ends_the_answer_with_its_reason_and_whether_code_ran(process):
    broken = PlannerError("the model's answer broke off", reason="cut_off")
    async with process([[TextDelta("so"), broken], calls("python", CODE), [broken]]) as here:
        first = await here.core.wait(TENANT, (await here.start()).id)
        second = await here.core.wait(TENANT, (await here.start()).id)

    assert [run.state for run in (first, second)] == [RunState.FAILED] * 2
    assert [(run.error["code"], run.error["reason"], run.error["code_ran"]) for run in (first, second)] == [
        ("model_failed", "cut_off", False),
        ("model_failed", "cut_off", True),
    ]


async def test_a_tool_that_is_not_there_is_said_to_the_model_and_to_nobody_else(process):
    async with process([calls("rm", "{}"), says("sorry")]) as here:
        run = await here.core.wait(TENANT, (await here.start()).id)
        items = await here.core.items(TENANT, run.id)

    assert run.state is RunState.COMPLETED
    assert "no tool called 'rm'" in here.planner.asked[1].history[-1].parts[0].content["output"]
    assert [item.metadata.get("internal", False) for item in items] == [True, True, False]


async def test_what_is_forgotten_leaves_nothing(process):
    async with process([says("1"), says("2")]) as here:
        first = await here.start("a")
        await here.core.wait(TENANT, first.id)
        second = await here.start("b", previous_run_id=first.id)
        await here.core.wait(TENANT, second.id)

        await here.core.forget(TENANT, first.id)
        left = await here.repository.messages.page(TENANT, first.conversation_id)
        assert [m.parts[0].content["text"] for m in left.items] == ["2", "b"]
        await here.core.forget(TENANT, second.id)
        with pytest.raises(NotFoundError):
            await here.repository.conversations.get(TENANT, first.conversation_id)


async def test_ten_thousand_items_go_in_and_come_out(process):
    async with process([says("ok")]) as here:
        run = await here.start(inputs=tuple(said(str(number)) for number in range(10_000)))
        await here.core.wait(TENANT, run.id)
        page = await here.core.inputs(TENANT, run.id, limit=2)

    assert [m.parts[0].content["text"] for m in page.items] == ["9999", "9998"]
    assert len(here.planner.asked[0].history) == 10_000


async def test_what_came_of_a_call_may_come_late_in_the_next_question_and_stands_behind_it_all_the_same(process):
    weather = ToolSpec(name="weather")
    turns = [calls("weather", "{}", call_id="a"), says("sunny"), calls("weather", "{}", call_id="b"), says("hm")]
    result = Said(role=Role.USER, parts=(Part(kind="tool_result", content={"call_id": "a", "output": "25"}),))
    async with process(turns) as here:
        first = await here.core.wait(TENANT, (await here.start(client_tools=(weather,))).id)
        wrong = replace(result, parts=(Part(kind="tool_result", content={"call_id": "z", "output": "25"}),))
        with pytest.raises(UserInputError, match="'z'"):
            await here.start(previous_run_id=first.id, inputs=(wrong,))
        second = await here.start(previous_run_id=first.id, inputs=(said("and?"), result), client_tools=(weather,))
        await here.core.wait(TENANT, second.id)
        third = await here.start(previous_run_id=second.id, client_tools=(weather,))
        await here.core.wait(TENANT, third.id)
        await here.core.wait(TENANT, (await here.start("never mind", previous_run_id=third.id)).id)

    kinds = [[m.parts[0].kind for m in turn.history] for turn in here.planner.asked]
    assert kinds[1] == ["text", "tool_call", "tool_result", "text"]
    assert kinds[3][-3:] == ["tool_call", "tool_result", "text"]
    assert "No result" in here.planner.asked[3].history[-2].parts[0].content["output"]


async def test_where_no_tool_may_be_called_none_is_whatever_the_model_does(process):
    async with process([calls("python", CODE), says("ok")]) as here:
        run = await here.core.wait(TENANT, (await here.start(tool_choice="none")).id)

    assert run.state is RunState.COMPLETED
    assert here.tools.tool.called == []
    assert [turn.tools for turn in here.planner.asked] == [(), ()]


async def test_a_history_that_is_too_long_is_refused_or_cut_where_no_call_loses_its_result(process):
    async with process([calls("python", CODE), says("x" * 500), says("ok")], bounds=Bounds(history_chars=700)) as here:
        first = await here.core.wait(TENANT, (await here.start("y" * 400)).id)
        with pytest.raises(PlannerError) as refused:
            await here.start(previous_run_id=first.id)
        second = await here.start(previous_run_id=first.id, truncates=True)
        await here.core.wait(TENANT, second.id)

    assert refused.value.reason == "context_too_long"
    assert [m.parts[0].kind for m in here.planner.asked[2].history] == ["code", "text", "text"]
