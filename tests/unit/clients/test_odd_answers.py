"""Whatever a server answers, a client gives a result or an error of ours, and comes to an end."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from bichat.clients import AssistantsClient, ClientOptions, ResponsesClient
from bichat.errors import BichatError
from bichat.executor import CodeRequest
from bichat.storage.nothing import NoStorage

#: Keys and values that clients look at, so that odd ones come to where they are read.
KEYS = st.sampled_from(
    [
        "id",
        "object",
        "data",
        "has_more",
        "status",
        "last_error",
        "error",
        "code",
        "message",
        "output",
        "content",
        "text",
        "value",
        "annotations",
        "type",
        "file_path",
        "file_id",
        "image_file",
        "step_details",
        "tool_calls",
        "code_interpreter",
        "input",
        "outputs",
        "logs",
        "image",
        "url",
        "usage",
        "role",
        "run_id",
        "path",
        "bytes",
        "source",
        "filename",
        "container_id",
        "metadata",
        "bichat_execution",
        "name",
        "incomplete_details",
        "reason",
    ]
)
WORDS = st.sampled_from(
    [
        *("completed", "failed", "in_progress", "requires_action", "incomplete", "expired", "cancelled"),
        *("code_interpreter_call", "message", "container_file_citation", "assistant", "user", "x/../y", "\ud800", ""),
        *(
            "data:image/png;base64,AAAA",
            "data:image/png;base64,%",
            "data:image/../x;base64,AAAA",
            "sandbox:/mnt/data/a",
        ),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=12
)
ANSWERS = st.builds(
    lambda body, more: {"id": "x", "status": "completed", **(body if isinstance(body, dict) else {}), **more},
    JSON,
    st.fixed_dictionaries({}, optional={"data": st.lists(JSON, max_size=2), "output": st.lists(JSON, max_size=2)}),
)


@pytest.mark.parametrize("kind", [AssistantsClient, ResponsesClient])
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(answers=st.lists(ANSWERS | JSON, min_size=1, max_size=12), headers=st.sampled_from(["", "x", "-1", "nan", "5"]))
def test_odd_answers_are_results_or_errors_of_ours(kind, answers, headers):
    options = ClientOptions(
        timeout_s=0.02, poll_interval_s=0.001, cleanup_s=0.1, retries=0, retry_wait_s=0.001, model="m"
    )
    given_out = iter([*answers, *answers])

    def answer(_: httpx.Request) -> httpx.Response:
        body: Any = next(given_out, {"id": "x", "status": "completed", "data": []})
        content = json.dumps(body).encode()
        return httpx.Response(200, content=content, headers={"openai-poll-after-ms": headers})

    async def run() -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with AsyncOpenAI(base_url="http://127.0.0.1:1/v1", api_key="any", http_client=http) as client:
            with anyio.fail_after(20):
                try:
                    result = await kind(client, NoStorage(), options=options).execute(CodeRequest(code="1"))
                    json.dumps(result.to_dict())
                except BichatError as error:
                    json.dumps(error.to_dict())

    anyio.run(run)
