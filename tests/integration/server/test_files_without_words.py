"""Files of an answer that ends without a text come back all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bichat.conversation.planner import TextDelta, ToolCallBegun, ToolCallDelta, TurnEnded
from bichat.testing.planner import calls, says

from .test_responses import SHOW

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

AUTO: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}
PYTHON = calls("python", json.dumps({"code": "open('r.csv', 'w').write('1')"}))


def _ended(finish: Any, *steps: Any) -> list[Any]:
    return [*steps, TurnEnded(finish, input_tokens=1, output_tokens=1)]


def _call(name: str, call_id: str, arguments: str) -> list[Any]:
    return [ToolCallBegun(call_id, name), ToolCallDelta(call_id, arguments)]


#: What the model says behind the call that makes a file, and the kinds of items that the answer has then.
ENDS: dict[str, tuple[list[Any], list[str], str]] = {
    "nothing": (_ended("stop"), ["message"], "completed"),
    "an empty text": (_ended("stop", TextDelta("")), ["message"], "completed"),
    "a function": (calls("weather", "{}", call_id="f"), ["message", "function_call"], "completed"),
    "words and a function": (
        _ended("tool_calls", TextDelta("Let me ask."), *_call("weather", "f", "{}")),
        ["message", "function_call"],
        "completed",
    ),
    "a text that is cut": (_ended("length", TextDelta("It is")), ["message"], "incomplete"),
    "a text that is filtered": (_ended("content_filter", TextDelta("It is")), ["message"], "incomplete"),
    "code that is cut": (
        _ended("length", *_call("python", "c", '{"code": "pri')),
        ["code_interpreter_call", "message"],
        "incomplete",
    ),
}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("end", ENDS)
def test_files_come_back_however_the_answer_ends(served, client, end, streams):
    last, kinds, status = ENDS[end]
    served.plays(PYTHON, last)
    asked: dict[str, Any] = {"model": "m", "input": "go", "tools": [AUTO, WEATHER]}
    if streams:
        answer = list(client.responses.create(**asked, stream=True))[-1].response
    else:
        answer = client.responses.create(**asked)

    assert (answer.status, [item.type for item in answer.output[1:]]) == (status, kinds)
    (cited,) = next(item for item in answer.output if item.type == "message").content[0].annotations
    assert client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id).read() == b"1"
    assert client.responses.retrieve(answer.id).output == answer.output


def test_files_come_once_though_a_function_is_asked_between(served, client):
    served.plays(PYTHON, calls("weather", "{}", call_id="f"), says("Sunny."))
    first = client.responses.create(model="m", input="go", tools=[AUTO, WEATHER])
    outputs: Any = [{"type": "function_call_output", "call_id": "f", "output": "sunny"}]
    second = client.responses.create(model="m", input=outputs, tools=[AUTO, WEATHER], previous_response_id=first.id)

    assert len(first.output[1].content[0].annotations) == 1
    assert second.output[0].content[0].annotations == []
    # The text without words is for the caller alone.
    assert [message.parts[0].kind for message in served.planner.asked[-1].history].count("text") == 2


def test_images_and_files_of_a_run_without_words_stand_in_a_message_of_its_thread(served, client):
    served.plays(calls("python", json.dumps({"code": f"{SHOW}\nopen('r.csv', 'w').write('1')"})), _ended("stop"))
    assistant = client.beta.assistants.create(model="m", tools=[{"type": "code_interpreter"}])
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "go"}])
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    answer = client.beta.threads.messages.list(thread.id).data[0]

    assert (run.status, answer.run_id) == ("completed", run.id)
    assert [block.type for block in answer.content] == ["image_file", "text"]
    (attached,) = answer.attachments
    assert client.files.content(attached.file_id).read() == b"1"


def test_a_chat_completion_without_words_links_to_its_files(served, client):
    served.plays(PYTHON, _ended("stop"))
    made = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "go"}], extra_body={"tools": [AUTO]}
    )

    assert "[r.csv](" in made.choices[0].message.content
