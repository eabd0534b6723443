"""Requests that are made up from the OpenAPI document: each is answered as the document says, and never with a 5xx."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import negative_data_rejection

from .made_up import AS_DOCUMENTED, World, made_up_world

pytestmark = [
    pytest.mark.sandbox,
    # A thread of the server, which runs beside it here, may use `random` while a request is made up.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

#: Requests, right ones and wrong ones together, to what takes much, and to all else.
MANY, FEW = 60, 12
BIG = (
    "POST /v1/assistants",
    "POST /v1/chat/completions",
    "POST /v1/containers",
    "POST /v1/conversations",
    "POST /v1/conversations/{conversation_id}/items",
    "POST /v1/responses",
    "POST /v1/threads",
    "POST /v1/threads/runs",
    "POST /v1/threads/{thread_id}/messages",
    "POST /v1/threads/{thread_id}/runs",
)
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
SAID = {"role": "user", "content": "print(1)"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, bare_settings, needs_namespaces_here) -> Generator[World]:
    with made_up_world(bare_settings(), tmp_path_factory.mktemp("made-up")) as made:
        yield made


def test_right_requests_are_answered_as_documented(world):
    def ask(case: Any) -> None:
        if not case.operation.label.startswith("DELETE"):  # what is there is for all
            case.path_parameters, case.query = world.real(case.path_parameters), world.real(case.query)
            case.body = with_code(case.operation.label, world.real(case.body))
        world.judge(case, case.call(timeout=30))

    tried = made_up(world, GenerationMode.POSITIVE, ask)

    assert world.wrong == []
    assert tried == set(world.operations)
    assert {label for label in BIG if not world.statuses[f"{label} 200"]} == set()


def test_wrong_requests_are_refused_as_documented(world):
    def ask(case: Any) -> None:
        case.path_parameters = world.real(case.path_parameters)
        is_refused = case.body is not NOT_SET or not case.operation.body  # a body that need not be there is no mistake
        checks = [*AS_DOCUMENTED, negative_data_rejection] if is_refused else AS_DOCUMENTED
        world.judge(case, case.call(timeout=30), checks)

    tried = made_up(world, GenerationMode.NEGATIVE, ask)

    assert world.wrong == []
    assert set(BIG) <= tried


def made_up(world: World, mode: GenerationMode, ask: Any) -> set[str]:
    """Ask for what the document lets one ask for, always the same; which operations there was something to ask of."""
    world.wrong.clear()
    tried: set[str] = set()
    for label, operation in world.operations.items():
        if mode is GenerationMode.NEGATIVE and not (list(operation.iter_parameters()) or operation.body):
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=(MANY if label in BIG else FEW) // 2,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]  # its metaclass has no type of entries
            database=None,
            derandomize=True,
        )
        def one(case: Any) -> None:
            ask(case)

        try:
            one()
        except Unsatisfiable:  # whatever is a name of a model is a right one
            assert label == "GET /v1/models/{name}"
        else:
            tried.add(label)
    return tried


def with_code(label: str, body: Any) -> Any:
    """The same request, with code to run at its end: made-up text is none."""
    if label == "POST /v1/responses":
        before = body.get("input")
        said = [*before, SAID] if isinstance(before, list) else SAID["content"]
        body = {**body, "input": said, "tools": [CODE], "tool_choice": "auto", "stream": False}
        body.pop("previous_response_id", None)
    elif label == "POST /v1/chat/completions":
        body = {**body, "messages": [*body["messages"], SAID], "tools": [], "tool_choice": "auto", "stream": False}
    elif label == "POST /v1/threads/runs":
        body = {**body, "thread": {"messages": [SAID]}, "tools": [{"type": "code_interpreter"}], "tool_choice": "auto"}
    elif label == "POST /v1/threads/{thread_id}/runs":
        body = {**body, "tools": [{"type": "code_interpreter"}], "tool_choice": "auto"}
    return body
