"""An HTTP server on loopback for tests, of the standard library alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self, cast


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and each answer would wait 40 ms for the second

    @property
    def owner(self) -> Any:
        """The `Loopback` that it answers for."""
        return cast("_Server", self.server).owner

    def answer(self) -> None:
        """The request that has come: `command`, `path`, `headers`, and `rfile` for its body."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's word
        """Nothing: tests have their own output."""

    def reply(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer; of the media type `kind`."""
        self.head(status, kind, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def head(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        """The head of an answer."""
        self.send_response(status, HTTPStatus(status).phrase)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class Loopback:
    """Listens on a free port of 127.0.0.1 while it is entered."""

    handler: ClassVar[type[Handler]]
    """What answers."""

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`; only while it is entered."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: Loopback) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), owner.handler)
