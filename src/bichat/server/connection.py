"""One connection, which nobody holds without saying or taking anything."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bichat.server.answers import JsonAnswer
from bichat.server.problems import RefusedError, error_body

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def _not_the_proxy(scope: Scope, receive: Receive, send: Send) -> None:
    refused = RefusedError(
        403,
        "This server answers the proxy before it alone, which speaks TLS (--behind-proxy).",
        wire_code="not_the_proxy",
    )
    await JsonAnswer(error_body(refused), status_code=refused.status)(scope, receive, send)


def _is_proxy(client: tuple[str, int] | None, proxies: str) -> bool:
    """Whether a connection comes from one of the proxies, or from this machine, as those do that look after the server."""
    if client is None:
        return False
    address = ipaddress.ip_address(client[0].partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return True
    return any(address in ipaddress.ip_network(each.strip(), strict=False) for each in proxies.split(","))


class Connection(H11Protocol):
    """Ends where its other side is slow beyond measure: with the head of a request, its body, or its answer.

    How long a connection is kept between requests is uvicorn's to say; how long an answer is being made is not bounded
    here.
    """

    #: Of a process at a time; one more is closed without an answer.
    most: ClassVar[int] = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    #: From the first moment, or the first byte of a further head, until the head is whole.
    head_s: ClassVar[float] = 30.0
    #: Between two pieces of a body that is waited for, and what its first `body_rate` bytes may take.
    body_s: ClassVar[float] = 60.0
    #: Bytes a second of a body, taken over all that came.
    body_rate: ClassVar[float] = 50_000.0
    #: For what is left of a body whose request has been answered.
    linger_s: ClassVar[float] = 5.0
    #: For which the other side takes nothing of an answer.
    answer_s: ClassVar[float] = 300.0

    _reading: asyncio.TimerHandle | None = None
    _is_in_head: bool = False
    _is_lingering: bool = False
    _body_began: float = 0.0
    _body_bytes: int = 0
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()  # before descriptors run out that sandboxes and the database need
            return
        if self.config.proxy_headers and not _is_proxy(self.client, str(self.config.forwarded_allow_ips)):
            self.app = _not_the_proxy
        self._await_more()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._body_bytes += len(data)
        self._await_more()

    def on_response_complete(self) -> None:
        """See `H11Protocol`: what is left of a body is waited for shortly, a head that has begun no longer than else."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._stop_reading()
            self._is_lingering = True
            self._reading = self.loop.call_later(self.linger_s, self.transport.abort)
        elif self.conn.trailing_data[0]:
            self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._stop_reading()
        self.resume_writing()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _await_more(self) -> None:
        """Both have their time in all, so that one byte now and then does not lengthen it; a body by its length."""
        state = self.conn.their_state
        if self._is_lingering:
            return
        if state is not h11.SEND_BODY:
            self._body_began, self._body_bytes = 0.0, 0
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_reading()
        elif state is h11.SEND_BODY:
            self._stop_reading()
            self._body_began = self._body_began or self.loop.time()
            ends = self._body_began + self.body_s + self._body_bytes / self.body_rate
            left = max(0.0, min(self.body_s, ends - self.loop.time()))
            self._reading = self.loop.call_later(left, self._late)
        elif not (self._is_in_head and self._reading is not None):
            self._stop_reading()
            self._is_in_head = True
            self._reading = self.loop.call_later(self.head_s, self._late)

    def _stop_reading(self) -> None:
        self._is_in_head = False
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _late(self) -> None:
        self._reading = None
        if self.flow.read_paused:  # it is we who do not take what it sends
            self._body_began = self.loop.time()
            self._await_more()
        else:
            self.transport.abort()
