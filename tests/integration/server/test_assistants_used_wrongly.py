"""What programs do to threads while a run goes on in them, and once it is over."""

from __future__ import annotations

from typing import Any

import anyio
import openai
import pytest

from bichat.conversation.planner import PlannerError, TextDelta, TurnEnded
from bichat.server.assistants import run_requests
from bichat.testing.planner import calls, says

from .test_assistants import CODE, ask, python

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

FUNCTION: Any = {"type": "function", "function": {"name": "weather"}}
#: Turns that bring a run to an end of each kind, and what is asked of it besides.
ENDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "completed": (says("done"), {}),
    "failed": ([PlannerError("gone", reason="cut_off")], {}),
    "incomplete": (
        [TextDelta("half"), TurnEnded("length", input_tokens=1, output_tokens=5)],
        {"max_completion_tokens": 5},
    ),
    "expired": ([TextDelta("so far"), anyio.sleep_forever], {}),
}


def logs_of(client: Any, run: Any) -> list[str]:
    """Of its steps of code, in their order."""
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    called = [step.step_details.tool_calls[0] for step in steps if step.type == "tool_calls"]
    return [call.code_interpreter.outputs[0].logs for call in called if call.type == "code_interpreter"]


def test_a_file_and_an_assistant_that_are_deleted_while_a_run_uses_them_stay_with_it_until_its_end(served, client):
    file = client.files.create(file=("a.csv", b"7"), purpose="assistants")
    assistant = client.beta.assistants.create(
        model="m", tools=[*CODE, FUNCTION], tool_resources={"code_interpreter": {"file_ids": [file.id]}}
    )
    read = python(f"print(open('/mnt/data/{file.id}').read())")
    served.plays(read, calls("weather", "{}", call_id="call_w"), read, says("Seven."))
    thread, run = ask(client, assistant)
    assert run.status == "requires_action"
    client.files.delete(file.id)
    client.beta.assistants.delete(assistant.id)
    over = client.beta.threads.runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread.id, tool_outputs=[{"tool_call_id": "call_w", "output": "warm"}]
    )

    assert (over.status, over.assistant_id) == ("completed", assistant.id)
    assert logs_of(client, over) == ["7\n", "7\n"]
    with pytest.raises(openai.NotFoundError, match="No assistant found"):
        client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id)


@pytest.mark.parametrize("status", ENDS)
def test_a_run_that_is_over_is_not_cancelled_and_stays_as_it_is(served, client, monkeypatch, status):
    if status == "expired":
        monkeypatch.setattr(run_requests, "LIVES_S", 0.5)
    turn, options = ENDS[status]
    served.plays(turn)
    thread, run = ask(client, client.beta.assistants.create(model="m"), **options)
    assert run.status == status
    with pytest.raises(openai.BadRequestError, match=f"Cannot cancel run with status '{status}'"):
        client.beta.threads.runs.cancel(run.id, thread_id=thread.id)

    assert client.beta.threads.runs.retrieve(run.id, thread_id=thread.id) == run


def test_a_run_that_is_being_cancelled_may_be_cancelled_again_and_is_cancelled_though_its_model_fails(served, client):
    go = anyio.Event()

    async def heeds_nothing() -> None:
        with anyio.CancelScope(shield=True):
            await go.wait()

    served.plays([TextDelta("so far"), heeds_nothing, PlannerError("gone", reason="cut_off")])
    assistant = client.beta.assistants.create(model="m")
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "go"}])
    runs = client.beta.threads.runs
    with runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        for event in stream:
            if event.event == "thread.message.delta":
                break
        run = stream.current_run
    told = [runs.cancel(run.id, thread_id=thread.id).status for _ in range(2)]
    served.portal.call(go.set)

    assert told == ["cancelling"] * 2
    assert runs.poll(run.id, thread_id=thread.id).status == "cancelled"


def test_twenty_files_at_a_time_and_more_with_the_next_message_all_lie_where_code_looks(served, client):
    files = [client.files.create(file=(f"{n}.csv", b"1"), purpose="assistants") for n in range(41)]
    attached: Any = [{"file_id": file.id, "tools": CODE} for file in files]
    assistant = client.beta.assistants.create(
        model="local-python", tools=CODE, tool_resources={"code_interpreter": {"file_ids": [f.id for f in files[:20]]}}
    )
    thread = client.beta.threads.create()
    for some in (attached[20:40], attached[40:]):
        client.beta.threads.messages.create(
            thread.id, role="user", content="import os\nprint(len(os.listdir()))", attachments=some
        )
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)

    assert logs_of(client, run) == ["82\n"]
    assert len(client.beta.threads.retrieve(thread.id).tool_resources.code_interpreter.file_ids) == 21


def test_a_run_that_nobody_polls_comes_to_its_end(served, client):
    served.plays(python("print(1)"), says("One."))
    assistant = client.beta.assistants.create(model="m", tools=CODE)
    run = client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "go"}]}
    )
    while len(client.beta.threads.messages.list(run.thread_id).data) < 2:
        pass  # it is not looked at itself

    assert client.beta.threads.messages.list(run.thread_id).data[0].content[0].text.value == "One."
    assert client.beta.threads.runs.poll(run.id, thread_id=run.thread_id).status == "completed"
