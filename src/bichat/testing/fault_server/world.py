"""What lies on the server, and how the wire tells it."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bichat.testing.fault_server.play import Play

Json = dict[str, Any]

_BLOCK: Final = re.compile(r"(`{3,})python\n(.*?)\n\1", re.DOTALL)
_CREATED: Final = 1_700_000_000
_ACTIVE: Final = ("queued", "in_progress", "cancelling")


class MissingError(Exception):
    """There is no such thing."""


@dataclass
class Running:
    """A run or a response."""

    id: str
    play: Play
    looks: int = 0
    is_cancelled: bool = False
    objects: Json = field(default_factory=dict[str, Any])

    @property
    def state(self) -> str:
        """As it is now."""
        if self.is_cancelled:
            return "cancelled" if self.play.heeds_cancel else "cancelling"
        return self.play.states[min(self.looks, len(self.play.states) - 1)]


class World:
    """Everything that clients have made and not deleted."""

    def __init__(self, play: Play, *, knows_local_python: bool, page_size: int, knows_filters: bool) -> None:
        """See `FaultServer`."""
        self.play = play
        self.things: dict[str, Json] = {}
        """By id: assistants, threads, files, containers, responses."""
        self.inside: dict[str, dict[str, Json]] = {}
        """What lies in threads and containers, by their id: messages, runs, files."""
        self.contents: dict[str, bytes] = {}
        self.runs: dict[str, Running] = {}
        self._knows_local_python = knows_local_python
        self._page_size = page_size
        self._knows_filters = knows_filters
        self._numbers = itertools.count(1)

    def left(self) -> list[str]:
        """Ids of what is there."""
        return sorted(self.things)

    def _new(self, prefix: str, kind: str, **fields: Any) -> Json:
        return {"id": f"{prefix}{next(self._numbers)}", "object": kind, "created_at": _CREATED, **fields}

    def _put(self, prefix: str, kind: str, **fields: Any) -> Json:
        made = self._new(prefix, kind, **fields)
        self.things[made["id"]] = made
        return made

    def _thing(self, thing_id: str) -> Json:
        if thing_id not in self.things:
            raise MissingError(thing_id)
        return self.things[thing_id]

    def delete(self, thing_id: str) -> Json:
        """It goes, with all that is in it."""
        self._thing(thing_id)
        del self.things[thing_id]
        self.inside.pop(thing_id, None)
        return {"id": thing_id, "deleted": True}

    def page(
        self, entries: list[Json], query: Mapping[str, str], keep: Callable[[Json], bool] = lambda _: True
    ) -> Json:
        """A page of entries that come oldest first."""
        found = [each for each in entries if not self._knows_filters or keep(each)]
        if query.get("order", "desc") == "desc":
            found.reverse()
        ids = [each["id"] for each in found]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        size = min(int(query.get("limit", "20")), self._page_size)
        data = found[start : start + size]
        return {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": start + size < len(found),
        }

    # ------------------------------------------------------------------------------------------------------------ files

    def add_file(self, name: str, content: bytes, purpose: str) -> Json:
        """One that was uploaded, or that a run left."""
        made = self._put(
            "file-",
            "file",
            filename=name,
            bytes=self.play.announced.get(name, len(content)),
            purpose=purpose,
            status="processed",
        )
        self.contents[made["id"]] = content
        return made

    def file(self, file_id: str) -> Json:
        """As it is described."""
        return self._thing(file_id)

    def content(self, *ids: str) -> bytes:
        """Its bytes; of a file in a container with that before."""
        if len(ids) == 2:
            self._thing(ids[0])
            if ids[1] not in self.inside.get(ids[0], {}):
                raise MissingError(ids[1])
        else:
            self._thing(ids[0])
        return self.contents[ids[-1]]

    def model(self, name: str) -> Json:
        """`local-python`, where it is known."""
        if not (self._knows_local_python and name == "local-python"):
            raise MissingError(name)
        return {"id": name, "object": "model", "created": _CREATED, "owned_by": "test"}

    # ------------------------------------------------------------------------------------------------------- assistants

    def add_assistant(self, body: Json) -> Json:
        """One."""
        return self._put("asst_", "assistant", **body)

    def assistants(self, query: Mapping[str, str]) -> Json:
        """A page of them."""
        return self.page([each for each in self.things.values() if each["object"] == "assistant"], query)

    def add_thread(self, body: Json) -> Json:
        """One with its messages."""
        made = self._put("thread_", "thread", metadata=body.get("metadata") or {})
        self.inside[made["id"]] = {}
        for message in body.get("messages", ()):
            self._say(made["id"], message["role"], None, [_text(message["content"])])
        return made

    def _say(
        self, thread_id: str, role: str, run_id: str | None, content: list[Json], attached: Sequence[Json] = ()
    ) -> None:
        fields = {"role": role, "run_id": run_id, "thread_id": thread_id, "content": content}
        made = self._new("msg_", "thread.message", **fields, attachments=list(attached))
        self.inside[thread_id][made["id"]] = made

    def messages(self, thread_id: str, query: Mapping[str, str]) -> Json:
        """A page of them."""
        self._thing(thread_id)
        wanted = query.get("run_id")
        found = [each for each in self.inside[thread_id].values() if each["object"] == "thread.message"]
        return self.page(found, query, lambda each: wanted in (None, each["run_id"]))

    def add_run(self, thread_id: str, body: Json) -> Json:
        """One, with all that will come of it."""
        self._thing(thread_id)
        self._thing(body["assistant_id"])
        for number in range(self.play.strangers):
            file = self.add_file(f"/mnt/data/theirs-{number}.csv", b"theirs", "assistants_output")
            cited = _text("See sandbox:/mnt/data/theirs.csv", {"sandbox:/mnt/data/theirs.csv": file["id"]})
            self._say(thread_id, "assistant", "run_theirs", [cited])
            del self.things[file["id"]]  # nobody's to clean up here
        made = self._new("run_", "thread.run", thread_id=thread_id, assistant_id=body["assistant_id"])
        self.inside[thread_id][made["id"]] = made
        running = Running(made["id"], self.play, objects={"thread": thread_id})
        self.runs[made["id"]] = running
        if self.play.runs_code:
            self._come_out(running)
        return self._told(running)

    def _come_out(self, running: Running) -> None:
        thread_id, play = running.objects["thread"], self.play
        named = {name: self.add_file(name, content, "assistants_output") for name, content in play.files.items()}
        shown = {name: self.add_file(name, content, "assistants_output") for name, content in play.images.items()}
        more = {name: self.add_file(name, content, "assistants_output") for name, content in play.uncited.items()}
        attached: list[Json] = [
            {"file_id": each["id"], "tools": []} for each in (*named.values(), *shown.values(), *more.values())
        ]
        outputs: list[Json] = [{"type": "logs", "logs": play.logs}] if play.logs else []
        outputs += [{"type": "image", "image": {"file_id": each["id"]}} for each in shown.values()]
        said = next(each for each in self.inside[thread_id].values() if each["object"] == "thread.message")
        codes = _codes(play, said["content"][0]["text"]["value"])
        running.objects["steps"] = [
            self._new("step_", "thread.run.step", type="tool_calls", step_details=_calls(code, outputs if last else []))
            for code, last in codes
        ]
        cited = {f"sandbox:/mnt/data/{name}": each["id"] for name, each in named.items()}
        blocks: list[Json] = [{"type": "image_file", "image_file": {"file_id": each["id"]}} for each in shown.values()]
        for number in range(play.messages):
            is_last = number == play.messages - 1
            text = _text("\n".join([play.text, *cited]), cited) if is_last else _text(play.text)
            self._say(
                thread_id, "assistant", running.id, [*blocks, text] if is_last else [text], attached if is_last else ()
            )

    def run(self, thread_id: str, run_id: str) -> Json:
        """As it is now; the next look sees its next state."""
        self._thing(thread_id)
        running = self._running(run_id)
        told = self._told(running)
        running.looks += 1
        return told

    def run_list(self, thread_id: str, query: Mapping[str, str]) -> Json:
        """A page of them."""
        self._thing(thread_id)
        found = [each for each in self.inside[thread_id].values() if each["object"] == "thread.run"]
        return self.page([self._told(self._running(each["id"])) for each in found], query)

    def steps(self, thread_id: str, run_id: str, query: Mapping[str, str]) -> Json:
        """A page of them."""
        self._thing(thread_id)
        return self.page(list(self._running(run_id).objects.get("steps", ())), query)

    def cancel(self, *ids: str) -> Json:
        """The run, whose end is wanted."""
        self._thing(ids[0])
        running = self._running(ids[-1])
        if running.state in _ACTIVE:
            running.is_cancelled = True
        return self._told(running)

    def _running(self, run_id: str) -> Running:
        if run_id not in self.runs:
            raise MissingError(run_id)
        return self.runs[run_id]

    def _told(self, running: Running) -> Json:
        is_over = running.state not in _ACTIVE
        error = running.play.error if is_over else None
        return {
            "id": running.id,
            "object": "thread.run",
            "created_at": _CREATED,
            "status": running.state,
            "last_error": error,
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7} if is_over else None,
        }

    # -------------------------------------------------------------------------------------------------------- responses

    def add_container(self, body: Json) -> Json:
        """One."""
        made = self._put("cntr_", "container", status="running", **body)
        self.inside[made["id"]] = {}
        return made

    def containers(self, query: Mapping[str, str]) -> Json:
        """A page of them."""
        found = [each for each in self.things.values() if each["object"] == "container"]
        return self.page(found, query, lambda each: query.get("name") in (None, each["name"]))

    def add_container_file(self, container_id: str, name: str, content: bytes, source: str = "user") -> Json:
        """One that was put in, or that the code left."""
        self._thing(container_id)
        place = f"/mnt/data/{'0' * 32}-{name}" if source == "user" else f"/mnt/data/{name}"
        size = self.play.announced.get(name, len(content))
        made = self._new("cfile_", "container.file", bytes=size, container_id=container_id, path=place, source=source)
        self.inside[container_id][made["id"]] = made
        self.contents[made["id"]] = content
        return made

    def container_files(self, container_id: str, query: Mapping[str, str]) -> Json:
        """A page of them."""
        self._thing(container_id)
        return self.page(list(self.inside[container_id].values()), query)

    def add_response(self, body: Json) -> Json:
        """One, with all that will come of it."""
        container_id, play = body["tools"][0]["container"], self.play
        self._thing(container_id)
        running = Running("", play)
        made = self._put("resp_", "response", metadata=body.get("metadata") or {})
        running.id = made["id"]
        self.runs[made["id"]] = running
        if play.runs_code:
            named = {
                name: self.add_container_file(container_id, name, content, "assistant")
                for name, content in {**play.files, **play.uncited}.items()
            }
            running.objects["output"] = _items(play, body["input"], container_id, named)
        return self._response(running)

    def response(self, response_id: str) -> Json:
        """As it is now; the next look sees its next state."""
        self._thing(response_id)
        running = self._running(response_id)
        told = self._response(running)
        running.looks += 1
        return told

    def cancel_response(self, response_id: str) -> Json:
        """The response, whose end is wanted."""
        self.cancel(response_id)
        return self._response(self._running(response_id))

    def _response(self, running: Running) -> Json:
        is_over = running.state not in _ACTIVE
        return {
            "id": running.id,
            "object": "response",
            "created_at": _CREATED,
            "status": running.state,
            "error": running.play.error if is_over else None,
            "output": running.objects.get("output", []) if is_over else [],
            "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7} if is_over else None,
        }


def _codes(play: Play, said: str) -> list[tuple[str, bool]]:
    """What runs, and whether it is the last of it."""
    codes = [play.code] if play.code else [match[2] for match in _BLOCK.finditer(said)] or ["print(42)"]
    return [(code, number == len(codes) - 1) for number, code in enumerate(codes)]


def _calls(code: str, outputs: list[Json]) -> Json:
    call = {"id": "call_1", "type": "code_interpreter", "code_interpreter": {"input": code, "outputs": outputs}}
    return {"type": "tool_calls", "tool_calls": [call]}


def _text(value: str, cited: Mapping[str, str] | None = None) -> Json:
    annotations = [
        {
            "type": "file_path",
            "text": text,
            "start_index": value.index(text),
            "end_index": value.index(text) + len(text),
            "file_path": {"file_id": file_id},
        }
        for text, file_id in (cited or {}).items()
    ]
    return {"type": "text", "text": {"value": value, "annotations": annotations}}


def _items(play: Play, said: str, container_id: str, named: Mapping[str, Json]) -> list[Json]:
    outputs: list[Json] = [{"type": "logs", "logs": play.logs}] if play.logs else []
    for content in play.images.values():
        url = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        outputs.append({"type": "image", "url": url})
    calls = [
        {
            "type": "code_interpreter_call",
            "id": f"ci_{number}",
            "status": "completed",
            "code": code,
            "container_id": container_id,
            "outputs": outputs if last else [],
        }
        for number, (code, last) in enumerate(_codes(play, said))
    ]
    citations = [
        {
            "type": "container_file_citation",
            "container_id": container_id,
            "file_id": named[name]["id"],
            "filename": name,
            "start_index": 0,
            "end_index": 0,
        }
        for name in play.files
    ]
    part = {"type": "output_text", "text": play.text, "annotations": citations}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    return [*calls, message]
