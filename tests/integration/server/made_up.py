"""A server with one of each thing in it, and requests for those: what tests of the OpenAPI document stand on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2 as httpx
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bichat.conversation.planners.local_python import LocalPython

from .test_files_and_containers import _own, _site

AS_DOCUMENTED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_ID = re.compile(r"([a-z]+)[-_]([0-9a-f]{32})")
_OVER = ("completed", "failed", "incomplete", "cancelled", "expired")


class OnlyPython:
    """Whatever the model is called, the last message is the code."""

    names = ("local-python",)

    def planner(self, model: str) -> LocalPython:  # noqa: ARG002  # the port's signature
        return LocalPython()


@dataclass
class World:
    """A server and its document, and what is there, by the prefix of its ids."""

    document: Any
    http: httpx.Client
    things: dict[str, list[str]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **others: Any) -> Any:
        """An answer that is as documented, and right."""
        request = self.http.build_request(method, f"/v1{path}", **others)
        request.read()  # what judges it looks at the request, too
        answer = self.http.send(request)
        assert answer.status_code == 200, answer.text
        found = _ID.sub("{id}", path.partition("?")[0])
        operation = next(
            each
            for label, each in self.operations.items()
            if re.sub(r"\{\w+\}", "{id}", label) == f"{method} /v1{found}"
        )
        operation.validate_response(answer)
        return answer.json()

    @property
    def operations(self) -> dict[str, Any]:
        """Those of the document, by method and path."""
        return {each.ok().label: each.ok() for each in self.document.get_all_operations()}

    def is_over(self, thread: str, run: str) -> Any:
        """The run, once it is; each look is held until there is news, or for a second."""
        found: Any = None
        for _ in range(30):
            found = self.ask("GET", f"/threads/{thread}/runs/{run}", headers={"x-stainless-poll-helper": "true"})
            if found["status"] in _OVER:
                return found
        raise AssertionError(f"a run does not end: {found}")

    def real(self, value: Any) -> Any:
        """The same, with every other id in it put in the place of one that is there."""
        if isinstance(value, dict):
            return {name: self.real(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.real(each) for each in value]
        match = _ID.fullmatch(value) if isinstance(value, str) else None
        if match is None or int(match[2][-1], 16) % 4 == 0:
            return value
        there = self.things.get(match[1], [value])
        return there[int(match[2][-2], 16) % len(there)]

    def judge(self, case: Any, answer: Any, checks: Sequence[Any] = AS_DOCUMENTED) -> None:
        """Count the answer, and note what is wrong with it."""
        label = case.operation.label
        self.statuses[f"{label} {answer.status_code}"] += 1
        try:
            case.validate_response(answer, checks=list(checks))
        except BaseExceptionGroup as error:
            said = "; ".join(str(each) for each in error.exceptions)
            self.wrong.append(f"{label}: {answer.status_code} {said[:600]} {case.as_curl_command()[:600]}")
        if label == "POST /v1/containers" and answer.status_code == 200:  # it holds a sandbox
            self.http.delete(f"/v1/containers/{answer.json()['id']}")

    def make(self) -> None:
        """One of each thing, with answers that are as documented."""
        code = {"type": "code_interpreter"}
        uploaded = self.ask("POST", "/files", files={"file": ("a.csv", b"a,b\n1,2\n")}, data={"purpose": "user_data"})
        container = self.ask("POST", "/containers", json={"name": "c"})
        copied = self.ask("POST", f"/containers/{container['id']}/files", json={"file_id": uploaded["id"]})
        response = self.ask(
            "POST",
            "/responses",
            json={
                "model": "local-python",
                "input": "print(1); open('made.txt', 'w').write('x')",
                "tools": [{**code, "container": container["id"]}],
                "include": ["code_interpreter_call.outputs"],
            },
        )
        said = {"role": "user", "content": "1"}
        conversation = self.ask("POST", "/conversations", json={"items": [said]})
        items = self.ask("GET", f"/conversations/{conversation['id']}/items")["data"]
        assistant = self.ask("POST", "/assistants", json={"model": "local-python", "tools": [code]})
        thread = self.ask("POST", "/threads", json={"messages": [{"role": "user", "content": "print(1)"}]})
        run = self.ask("POST", f"/threads/{thread['id']}/runs", json={"assistant_id": assistant["id"]})
        self.is_over(thread["id"], run["id"])
        messages = self.ask("GET", f"/threads/{thread['id']}/messages")["data"]
        steps = self.ask("GET", f"/threads/{thread['id']}/runs/{run['id']}/steps")["data"]
        store = self.ask("POST", "/vector_stores", json={"file_ids": [uploaded["id"]]})
        made = self.ask("GET", f"/containers/{container['id']}/files")["data"]
        things = [uploaded, container, copied, *made, response, *response["output"], conversation, *items]
        things += [assistant, thread, *messages, run, *steps, store]
        for each in things:
            self.things.setdefault(re.split("[-_]", each["id"])[0], []).append(each["id"])


@contextmanager
def made_up_world(settings: Any, folder: Any) -> Generator[World]:
    """A server of its own."""
    options = replace(_own(settings, folder), key_requests_per_minute=1_000_000)
    with _site(options, planners=OnlyPython()) as site, httpx.Client(base_url=site.root, timeout=30) as http:
        world = World(schemathesis.openapi.from_url(f"{site.root}/openapi.json"), http)
        world.make()
        yield world
