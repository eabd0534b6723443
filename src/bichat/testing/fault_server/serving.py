"""HTTP on loopback before the world, and the faults."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from bichat.testing.fault_server.play import Play
from bichat.testing.fault_server.world import MissingError, World
from bichat.testing.loopback import Handler, Loopback

#: Longest time that an answer is held back whose client does not hang up; a test that takes so long has failed.
_PATIENCE_S: Final = 30.0
_FOR_EVER: Final = 1 << 30


class Fault(Enum):
    """What goes wrong with a request."""

    #: 401; nothing is done.
    REFUSED = auto()
    #: 429; nothing is done.
    BUSY = auto()
    #: 500; nothing is done.
    BROKEN = auto()
    #: 404, as if it were not there.
    GONE = auto()
    #: No answer, until the client hangs up; nothing is done.
    STALLS = auto()
    #: It is done; but the connection breaks before the answer.
    LOST = auto()
    #: It is done; but there is no answer, until the client hangs up.
    SILENT = auto()
    #: It is done; the answer is a page of HTML.
    GARBAGE = auto()
    #: Half of the answer, then the connection breaks.
    CUT = auto()
    #: Other bytes than there are, each time others.
    SHIFTING = auto()


#: A method and a path, and what it is called.
_ROUTES: Final = tuple(
    (method, re.compile(path.replace("*", "([^/]+)") + "$"), name)
    for method, path, name in (
        ("GET", "/models/*", "models.retrieve"),
        ("POST", "/files", "files.create"),
        ("GET", "/files/*", "files.retrieve"),
        ("GET", "/files/*/content", "files.content"),
        ("DELETE", "/files/*", "files.delete"),
        ("POST", "/assistants", "assistants.create"),
        ("GET", "/assistants", "assistants.list"),
        ("DELETE", "/assistants/*", "assistants.delete"),
        ("POST", "/threads", "threads.create"),
        ("DELETE", "/threads/*", "threads.delete"),
        ("GET", "/threads/*/messages", "messages.list"),
        ("POST", "/threads/*/runs", "runs.create"),
        ("GET", "/threads/*/runs", "runs.list"),
        ("GET", "/threads/*/runs/*", "runs.retrieve"),
        ("POST", "/threads/*/runs/*/cancel", "runs.cancel"),
        ("GET", "/threads/*/runs/*/steps", "steps.list"),
        ("POST", "/containers", "containers.create"),
        ("GET", "/containers", "containers.list"),
        ("DELETE", "/containers/*", "containers.delete"),
        ("POST", "/containers/*/files", "container_files.create"),
        ("GET", "/containers/*/files", "container_files.list"),
        ("GET", "/containers/*/files/*/content", "container_files.content"),
        ("POST", "/responses", "responses.create"),
        ("GET", "/responses/*", "responses.retrieve"),
        ("POST", "/responses/*/cancel", "responses.cancel"),
        ("DELETE", "/responses/*", "responses.delete"),
    )
)
#: What every request may be called.
ROUTES: Final = tuple(name for _, _, name in _ROUTES)


class _Handler(Handler):
    @property
    def _faults(self) -> FaultServer:
        return self.owner

    def answer(self) -> None:
        """See `Handler.answer`."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        parts = urlsplit(self.path)
        where = parts.path.removeprefix("/v1")
        for method, pattern, name in _ROUTES:
            match = pattern.match(where)
            if method == self.command and match:
                ids = [unquote(each) for each in match.groups()]
                with suppress(OSError):  # the client has gone
                    self._called(name, ids, dict(parse_qsl(parts.query)), body)
                return
        self._reply(404, _error("there is no such route", "not_found"))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _called(self, name: str, ids: list[str], query: dict[str, str], body: bytes) -> None:
        faults = self._faults
        fault = faults.fault(name)
        faults.met(name)
        refusals = {
            Fault.REFUSED: (401, "invalid_api_key"),
            Fault.BUSY: (429, "rate_limit_exceeded"),
            Fault.BROKEN: (500, "server_error"),
            Fault.GONE: (404, "not_found"),
        }
        if fault in refusals:
            status, code = refusals[fault]
            self._reply(status, _error("as the test wants it", code))
            return
        if fault is Fault.STALLS:
            self._hold()
            return
        try:
            with faults.lock:
                answer = self._done(name, ids, query, body)
        except MissingError as error:
            self._reply(404, _error(f"There is no {error}.", "not_found"))
            return
        if fault is Fault.SILENT:
            self._hold()
        elif fault is Fault.LOST:
            self.close_connection = True
        elif fault is Fault.GARBAGE:
            self._reply(200, b"<html>Welcome to the hotel's network!</html>")
        elif fault is Fault.SHIFTING and isinstance(answer, bytes):
            self._reply(200, b"%d" % len(faults.requests))
        else:
            self._reply(200, answer, cuts=fault is Fault.CUT)

    def _done(self, name: str, ids: list[str], query: dict[str, str], body: bytes) -> Any:  # noqa: C901, PLR0911, PLR0912  # a table of routes
        world = self._faults.world
        is_form = self.headers.get("content-type", "").startswith("multipart/form-data")
        given: Any = {} if is_form or not body else json.loads(body)
        if given:
            self._faults.bodies.append((name, given))
        match name:
            case "models.retrieve":
                return world.model(ids[0])
            case "files.create":
                return world.add_file(*self._form(body), "assistants")
            case "files.retrieve":
                return world.file(ids[0])
            case "files.content" | "container_files.content":
                return world.content(*ids)
            case "files.delete" | "assistants.delete" | "threads.delete" | "containers.delete" | "responses.delete":
                return world.delete(ids[0])
            case "assistants.create":
                return world.add_assistant(given)
            case "assistants.list":
                return world.assistants(query)
            case "threads.create":
                return world.add_thread(given)
            case "messages.list":
                return world.messages(ids[0], query)
            case "runs.create":
                return world.add_run(ids[0], given)
            case "runs.list":
                return world.run_list(ids[0], query)
            case "runs.retrieve":
                return world.run(ids[0], ids[1])
            case "runs.cancel":
                return world.cancel(*ids)
            case "steps.list":
                return world.steps(ids[0], ids[1], query)
            case "containers.create":
                return world.add_container(given)
            case "containers.list":
                return world.containers(query)
            case "container_files.create":
                return world.add_container_file(ids[0], *self._form(body))
            case "container_files.list":
                return world.container_files(ids[0], query)
            case "responses.create":
                return world.add_response(given)
            case "responses.retrieve":
                return world.response(ids[0])
            case _:
                return world.cancel_response(ids[0])

    def _form(self, body: bytes) -> tuple[str, bytes]:
        """Name and bytes of the file in a form."""
        boundary = b"--" + self.headers["content-type"].partition("boundary=")[2].strip('"').encode()
        for part in body.split(boundary):
            head, _, content = part.partition(b"\r\n\r\n")
            if found := re.search(rb'filename="([^"]*)"', head):
                return found[1].decode(), content.removesuffix(b"\r\n")
        raise MissingError("file")

    def _hold(self) -> None:
        """Nothing more, until the client hangs up."""
        self.close_connection = True
        self.connection.settimeout(_PATIENCE_S)
        with suppress(OSError):
            self.connection.recv(1, socket.MSG_PEEK)

    def _reply(self, status: int, body: Any, *, cuts: bool = False) -> None:
        data: bytes = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Length": str(len(data))}
        if self._faults.poll_after_ms is not None:
            headers["openai-poll-after-ms"] = str(self._faults.poll_after_ms)
        if status == 429:
            headers["retry-after-ms"] = "1"
        self.head(status, "application/octet-stream" if isinstance(body, bytes) else "application/json", headers)
        self.wfile.write(data[: len(data) // 2] if cuts else data)
        if cuts:
            self.close_connection = True


class FaultServer(Loopback):
    """Serves while it is entered."""

    handler = _Handler

    def __init__(
        self,
        play: Play | None = None,
        *,
        knows_local_python: bool = True,
        page_size: int = 2,
        knows_filters: bool = True,
        poll_after_ms: int | None = 1,
    ) -> None:
        """What comes of runs, and what the server is like.

        Args:
            play: of every run.
            knows_local_python: whether it lists that model.
            page_size: entries of a page at most, whatever is asked for.
            knows_filters: whether lists heed `run_id` and `name`.
            poll_after_ms: `openai-poll-after-ms` of every answer; None for none.
        """
        self.world = World(
            play or Play(), knows_local_python=knows_local_python, page_size=page_size, knows_filters=knows_filters
        )
        self.requests: list[str] = []
        """What was asked for, by the names of `ROUTES`, oldest first."""
        self.bodies: list[tuple[str, Any]] = []
        """The same with the JSON that came along, of those that bring any."""
        self.poll_after_ms = poll_after_ms
        self.lock = threading.Lock()
        self._faults: dict[str, list[tuple[Fault, int]]] = {}
        self._before: dict[str, Callable[[], None]] = {}

    @property
    def url(self) -> str:
        """For `base_url`."""
        return f"{self.root}/v1"

    @property
    def left(self) -> list[str]:
        """Ids of what was made and is not deleted: assistants, threads, files, containers, responses."""
        with self.lock:
            return self.world.left()

    def fails(self, name: str, fault: Fault, *, times: int = _FOR_EVER) -> None:
        """Let the next requests of this name fail so, behind those for which that was said before."""
        if name not in ROUTES:
            raise ValueError(name)
        self._faults.setdefault(name, []).append((fault, times))

    def heals(self) -> None:
        """Nothing fails any more."""
        self._faults.clear()

    def before(self, name: str, does: Callable[[], None]) -> None:
        """Do something when a request of this name has come, before it is answered."""
        self._before[name] = does

    def fault(self, name: str) -> Fault | None:
        """That of this request."""
        with self.lock:
            self.requests.append(name)
            waiting = self._faults.get(name)
            if not waiting:
                return None
            fault, times = waiting[0]
            waiting[:1] = [(fault, times - 1)] if times > 1 else []
            return fault

    def met(self, name: str) -> None:
        """A request of this name has come."""
        if name in self._before:
            self._before[name]()


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "test", "param": None, "code": code}}
