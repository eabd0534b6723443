"""One connection, which nobody holds without saying or taking anything."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """Ends where its other side is slow beyond measure: with the head of a request, its body, or its answer.

    How long a connection is kept between requests is uvicorn's to say; how long an answer is being made is not bounded
    here.
    """

    #: From the first moment, or the first byte of a further head, until the head is whole.
    head_s: ClassVar[float] = 30.0
    #: Between two pieces of a body that is waited for.
    body_s: ClassVar[float] = 60.0
    #: For which the other side takes nothing of an answer.
    answer_s: ClassVar[float] = 300.0

    _reading: asyncio.TimerHandle | None = None
    _is_in_head: bool = False
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._await_more()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._await_more()

    def on_response_complete(self) -> None:
        """See `H11Protocol`: what is left of a body, or a head that has begun, is waited for no longer than else."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
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
        """A head has its time in all, so that one byte now and then does not lengthen it; a body has it for each piece."""
        state = self.conn.their_state
        if self.transport.is_closing() or state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_reading()
        elif state is h11.SEND_BODY:
            self._stop_reading()
            self._reading = self.loop.call_later(self.body_s, self._late)
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
            self._await_more()
        else:
            self.transport.abort()
