"""What is made, looked at, changed and deleted is at each step what the OpenAPI document says."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .made_up import World, made_up_world

pytestmark = [pytest.mark.sandbox]


@pytest.fixture(scope="module")
def world(tmp_path_factory, bare_settings, needs_namespaces_here) -> Generator[World]:
    with made_up_world(bare_settings(), tmp_path_factory.mktemp("lives")) as made:
        yield made


def look_at(world: World, path: str) -> None:
    """At a thing, and at a list that it stands in."""
    found = world.ask("GET", path)
    listed = world.ask("GET", path.rpartition("/")[0])["data"]

    assert found["id"] in {each["id"] for each in listed}


def delete(world: World, path: str) -> None:
    """A thing, which is not there any more."""
    world.ask("DELETE", path)

    assert world.http.get(f"/v1{path}").status_code == 404


def test_a_file_goes_into_a_container_and_out_of_it(world):
    file, container = world.things["file"][0], world.things["cntr"][0]
    made = next(each for each in world.things["cfile"][1:] if each != world.things["cfile"][0])
    upload = world.ask("POST", f"/containers/{container}/files", files={"file": ("b.csv", b"b")})

    look_at(world, f"/files/{file}")
    look_at(world, f"/containers/{container}")
    look_at(world, f"/containers/{container}/files/{made}")
    assert world.http.get(f"/v1/containers/{container}/files/{made}/content").content == b"x"
    assert world.http.get(f"/v1/files/{file}/content", headers={"range": "bytes=0-2"}).content == b"a,b"
    delete(world, f"/containers/{container}/files/{upload['id']}")


def test_a_response_and_what_went_into_it(world):
    response = world.things["resp"][0]
    asked = {"model": "local-python", "input": "1 + 1", "previous_response_id": response}
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    second = world.ask("POST", "/responses", json={**asked, "tools": tools, "background": True})

    world.ask("POST", f"/responses/{second['id']}/cancel")
    world.ask("GET", f"/responses/{response}?include=code_interpreter_call.outputs")
    (said,) = world.ask("GET", f"/responses/{response}/input_items")["data"]
    delete(world, f"/responses/{second['id']}")

    assert said["content"][0]["text"].startswith("print(1)")


def test_a_conversation_and_its_items(world):
    conversation = world.ask("POST", "/conversations", json={"metadata": {"a": "b"}})
    path = f"/conversations/{conversation['id']}"
    (item,) = world.ask("POST", f"{path}/items", json={"items": [{"role": "user", "content": "x"}]})["data"]
    asked = {"model": "local-python", "input": "print(2)", "conversation": conversation["id"]}
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    world.ask("POST", "/responses", json={**asked, "tools": tools})

    assert world.ask("POST", path, json={"metadata": {"a": "c"}})["metadata"] == {"a": "c"}
    look_at(world, f"{path}/items/{item['id']}")
    kinds = [each["type"] for each in world.ask("GET", f"{path}/items?order=asc")["data"]]
    world.ask("DELETE", f"{path}/items/{item['id']}")
    delete(world, path)

    assert kinds[:3] == ["message", "message", "code_interpreter_call"]


def test_an_assistant_its_thread_and_its_run(world):
    assistant = world.ask(
        "POST", "/assistants", json={"model": "local-python", "tools": [{"type": "code_interpreter"}]}
    )
    changed = world.ask("POST", f"/assistants/{assistant['id']}", json={"name": "n"})
    said = {"role": "user", "content": "import time; time.sleep(60)"}
    run = world.ask("POST", "/threads/runs", json={"assistant_id": assistant["id"], "thread": {"messages": [said]}})
    thread = f"/threads/{run['thread_id']}"

    world.ask("POST", f"{thread}/runs/{run['id']}/cancel")
    over = world.is_over(run["thread_id"], run["id"])
    world.ask("POST", f"{thread}/runs/{run['id']}", json={"metadata": {"a": "b"}})
    (message,) = world.ask("GET", f"{thread}/messages?order=asc&limit=1")["data"]
    world.ask("POST", f"{thread}/messages/{message['id']}", json={"metadata": {"a": "b"}})
    look_at(world, f"{thread}/messages/{message['id']}")
    look_at(world, f"{thread}/runs/{run['id']}")
    added = world.ask("POST", f"{thread}/messages", json={"role": "user", "content": "y"})
    delete(world, f"{thread}/messages/{added['id']}")
    world.ask("POST", thread, json={"metadata": {"a": "b"}})
    delete(world, thread)
    delete(world, f"/assistants/{assistant['id']}")

    assert (changed["name"], over["status"]) == ("n", "cancelled")


def test_the_steps_of_a_run(world):
    thread, run = world.things["thread"][0], world.things["run"][0]
    steps = world.ask("GET", f"/threads/{thread}/runs/{run}/steps")["data"]

    for step in steps:
        look_at(world, f"/threads/{thread}/runs/{run}/steps/{step['id']}")
    assert "tool_calls" in {step["type"] for step in steps}


def test_a_vector_store_and_its_files(world):
    file = world.things["file"][0]
    store = world.ask("POST", "/vector_stores", json={"name": "n"})
    path = f"/vector_stores/{store['id']}"

    world.ask("POST", f"{path}/files", json={"file_id": file})
    look_at(world, f"{path}/files/{file}")
    world.ask("DELETE", f"{path}/files/{file}")
    batch = world.ask("POST", f"{path}/file_batches", json={"file_ids": [file]})
    world.ask("GET", f"{path}/file_batches/{batch['id']}")
    world.ask("POST", path, json={"metadata": {"a": "b"}})
    look_at(world, path)
    delete(world, path)
