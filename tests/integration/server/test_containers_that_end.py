"""Containers that end while an answer is made, or that were deleted: the answer goes on, and says so."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import openai
import pytest

from bichat.testing.planner import calls, says

from .test_files_and_containers import _own, _site

pytestmark = [pytest.mark.sandbox, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

AUTO: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
OUTPUTS: Any = ["code_interpreter_call.outputs"]
KILL = "open('kept.txt', 'w').write('1')\nprint('so far', flush=True)\nimport os\nos.kill(os.getpid(), 9)"


def _python(code: str) -> Any:
    return calls("python", json.dumps({"code": code}))


def test_a_model_whose_code_kills_its_session_is_told_so_and_goes_on_in_a_new_one(served, client):
    served.plays(
        _python("x = 1"), _python(KILL), _python("print('x' in globals(), open('kept.txt').read())"), says("Done.")
    )
    made = client.responses.create(model="m", input="go", tools=AUTO, include=OUTPUTS)
    first, killed, last, text = made.output
    told = served.planner.asked[-2].history[-1].parts[0].content["told"]
    later = client.responses.create(model="local-python", input="print(1)", tools=AUTO, previous_response_id=made.id)

    assert (made.status, text.content[0].text) == ("completed", "Done.")
    assert [call.status for call in (first, killed, last)] == ["completed", "failed", "completed"]
    assert killed.outputs[0].logs.startswith("so far\n")
    assert "so far" in told
    assert "variables are gone" in told
    assert last.outputs[0].logs == "False 1\n"
    assert first.container_id == killed.container_id != last.container_id == later.output[0].container_id
    assert "killed" in made.metadata["bichat.container"]


def test_in_a_container_of_the_callers_choice_the_model_is_told_that_no_more_code_can_be_run(served, client):
    container = client.containers.create(name="c")
    tools: Any = [{"type": "code_interpreter", "container": container.id}]
    served.plays(_python(KILL), _python("print(2)"), says("I could not."))
    made = client.responses.create(model="m", input="go", tools=tools, include=OUTPUTS)

    assert (made.status, made.output_text) == ("completed", "I could not.")
    assert [call.status for call in made.output[:2]] == ["failed", "failed"]
    assert {call.container_id for call in made.output[:2]} == {container.id}
    assert "a new container is needed" in made.output[1].outputs[0].logs
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="m", input="go", tools=tools)
    assert refused.value.code == "container_expired"


def test_a_thread_goes_on_in_a_new_session_with_its_files(served, client):
    served.plays(_python(KILL), _python("print(open('kept.txt').read())"), says("Done."))
    assistant = client.beta.assistants.create(model="m", tools=[{"type": "code_interpreter"}])
    thread = client.beta.threads.create(messages=[{"role": "user", "content": "go"}])
    run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    steps = client.beta.threads.runs.steps.list(run.id, thread_id=thread.id, order="asc").data

    assert run.status == "completed"
    assert steps[1].step_details.tool_calls[0].code_interpreter.outputs[0].logs == "1\n"
    assert "bichat.container" in run.metadata


def test_a_conversation_whose_container_was_deleted_says_that_it_goes_on_in_a_new_one(client):
    first = client.responses.create(model="local-python", input="x = 1", tools=AUTO)
    client.containers.delete(first.output[0].container_id)
    second = client.responses.create(
        model="local-python", input="print('x' in globals())", tools=AUTO, previous_response_id=first.id
    )
    third = client.responses.create(model="local-python", input="1", tools=AUTO, previous_response_id=second.id)

    assert second.output_text == "False\n"
    assert "deleted" in second.metadata["bichat.container"]
    assert third.metadata == {}


def test_a_strict_server_refuses_to_go_on_where_the_container_was_deleted(tmp_path, bare_settings):
    settings = replace(_own(bare_settings(), tmp_path), strict_containers=True)
    with _site(settings, planners=None) as site:
        client: Any = site.client()
        first = client.responses.create(model="local-python", input="x = 1", tools=AUTO)
        client.containers.delete(first.output[0].container_id)
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="local-python", input="x", tools=AUTO, previous_response_id=first.id)

    assert refused.value.code == "container_expired"


def test_what_code_had_printed_when_it_was_cancelled_stands_in_its_call_and_the_next_turn_knows_it(served, client):
    code = "open('c.csv', 'w').write('1')\nprint('so far', flush=True)\nimport time\ntime.sleep(600)"
    live: Any = ["bichat.live_output"]
    made = client.responses.create(model="local-python", input=code, tools=AUTO, background=True, include=live)
    with served.client(is_strict=False).responses.retrieve(made.id, stream=True) as events:
        for event in events:
            if event.type == "bichat.code_interpreter_call.output":
                break
    over = client.responses.cancel(made.id)
    shown: Any = client.responses.retrieve(made.id, include=OUTPUTS)
    served.plays(says("I see."))
    client.responses.create(model="m", input="What was that?", previous_response_id=made.id)
    (file,) = client.containers.files.list(shown.output[0].container_id)
    [told] = [m.parts[0].content.get("told") for m in served.planner.asked[-1].history if m.parts[0].kind == "code"]

    assert over.status == "cancelled"
    assert shown.output[0].status == "incomplete"
    assert shown.output[0].outputs[0].logs.startswith("so far\nTraceback")
    assert told.startswith("so far\n")
    assert "KeyboardInterrupt" in told
    assert "c.csv" in told
    assert file.path == "/mnt/data/c.csv"
