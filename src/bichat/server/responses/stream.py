"""Answers that are streams of server-sent events."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.responses import Response

from bichat.server.responses.events import HEARTBEAT

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Seconds without an event after which a comment is sent, so that nothing on the way takes the connection for dead.
HEARTBEAT_S: Final = 15.0

logger = logging.getLogger(__name__)


class EventStream(Response):
    """Sends each piece of `pieces` as soon as it is there, whole; ends when they end, or when nobody listens any more.

    A client that reads slowly slows the pieces down, not what they tell of.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._pieces = pieces
        self._heartbeat_s = heartbeat_s
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """See ASGI."""
        lock = anyio.Lock()

        async def put(body: bytes) -> None:
            async with lock:
                self._sent += 1
                await send({"type": "http.response.body", "body": body, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat, put)
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            try:
                async with aclosing(self._pieces) as pieces:
                    async for piece in pieces:
                        await put(piece)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except Exception:
                # The head is sent: a stream that breaks off is all that can be said.
                logger.exception("a stream broke off")
                raise
            tasks.cancel_scope.cancel()

    async def _beat(self, put: Any) -> None:
        while True:
            before = self._sent
            await anyio.sleep(self._heartbeat_s)
            if self._sent == before:
                await put(HEARTBEAT)


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
