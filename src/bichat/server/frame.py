"""Around every request: its id, its size, how long it took, a line in the log; nothing of what was said in it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from bichat.server.answers import JsonAnswer
from bichat.server.forms import MOST_JSON_BYTES, is_form
from bichat.server.problems import RefusedError
from bichat.sizes import MIB, format_size

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bichat.server.intake import Intake
    from bichat.server.limiter import Ticket
    from bichat.server.services import Caller

#: Largest form with files: what a file may have, and what is around it.
MOST_FORM_BYTES: Final = 513 * MIB
_VERSION: Final = "2020-10-01"
#: In the log: whoever asked went away before the request was whole.
_GONE: Final = 499

logger = logging.getLogger("bichat.server")


class Frame:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
                headers["openai-version"] = _VERSION
                headers.update(_counted(scope))
            await send(message)

        body = _Body(scope, receive)
        trace.get_current_span().set_attribute("bichat.request.id", request_id)
        try:
            await self._app(scope, body.receive, told)
        except ClientDisconnect:
            status = status or _GONE
        except Exception:
            if status:
                raise  # what was begun cannot be taken back: the connection is broken off
            logger.exception("request %s failed", request_id)
            await _failed(request_id)(scope, receive, told)
        finally:
            body.release()
            if (ticket := scope["state"].get("ticket")) is not None:
                ticket.leave()
            _log(scope, request_id, status, time.perf_counter() - started)


def _failed(request_id: str) -> JsonAnswer:
    """Of an error of ours; nothing of it is told but where to look."""
    message = f"The server had an error while processing your request; its log knows it as {request_id}."
    return JsonAnswer(
        {"error": {"message": message, "type": "server_error", "param": None, "code": None}}, status_code=500
    )


def _counted(scope: Scope) -> dict[str, str]:
    ticket: Ticket | None = scope["state"].get("ticket")
    return {} if ticket is None else ticket.headers


class _Body:
    """A request's body as it comes, until there is too much of it, or of all that the server is taking."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        is_formed = is_form(headers)
        self._most = MOST_FORM_BYTES if is_formed else MOST_JSON_BYTES
        self._kind = "forms" if is_formed else "bodies"
        announced = headers.get("content-length", "")
        self._announced = int(announced[:20]) if announced.isdigit() else 0
        self._scope = scope
        self._receive = receive
        self._count = 0
        self._held = 0
        self._holder = ""

    async def receive(self) -> Message:
        """See ASGI.

        Raises:
            RefusedError: 413 or 429.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            size = max(self._count, self._announced)
            if size > self._most:
                raise RefusedError(
                    413,
                    f"The body of the request is larger than {format_size(self._most)}.",
                    wire_code="request_too_large",
                )
            self._hold(size - self._held)
        return message

    def _hold(self, size_bytes: int) -> None:
        if size_bytes > 0:
            caller: Caller | None = self._scope["state"].get("caller")
            self._holder = self._holder or (caller.name if caller is not None else "")
            self._intake.hold(self._holder, size_bytes)
            self._held += size_bytes

    @property
    def _intake(self) -> Intake:
        return getattr(self._scope["app"].state, self._kind)

    def release(self) -> None:
        """The request has been answered."""
        if self._held:
            self._intake.release(self._holder, self._held)
            self._held = 0


def _log(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    """The route as it is declared: an address may hold what is nobody's business."""
    caller: Any = scope.get("state", {}).get("caller")
    logger.info(
        "request",
        extra={
            "request": request_id,
            "method": scope["method"],
            "route": getattr(scope.get("route"), "path", "-"),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "tenant": getattr(caller, "tenant", "-"),
        },
    )
