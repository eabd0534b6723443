"""What happens in one run, written down in order before anybody is told."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import anyio
import anyio.lowlevel

from bichat.conversation import run_events
from bichat.errors import ConflictError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import Message, Run, RunEvent

#: Events that are kept in memory for those who follow in this process; who is further behind reads the database.
_RECENT: Final = 1000
#: Events, and characters of their text, that may wait to be written before whoever makes them has to wait.
_MOST_WAITING: Final = 200
_MOST_CHARS: Final = 1 << 18
#: Characters of one event that others were joined to.
_MOST_JOINED: Final = 1 << 14
_DELTAS: Final = frozenset(
    {run_events.TEXT_DELTA, run_events.REASONING_DELTA, run_events.CODE_DELTA, run_events.ARGUMENTS_DELTA}
)


class Journal:
    """Of a run that this process works on.  One task makes events, one writes them, any number read them.

    While a transaction is on its way what comes meanwhile is gathered, and deltas of one item are joined: many small
    events cost few transactions.  Messages are written in the transaction of the events that tell of them.
    """

    def __init__(self, repository: ChatRepository, run: Run) -> None:
        self._repository = repository
        self._run = run
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._messages: dict[str, Message] = {}
        self._chars = 0
        self._recent: deque[RunEvent] = deque(maxlen=_RECENT)
        self._written = 0
        self._is_writing = False
        self._has_work = anyio.Event()
        self._is_settled = anyio.Event()
        self._news = anyio.Event()
        self._failure: Exception | None = None
        self._is_closed = False

    async def note(self, kind: str, payload: dict[str, Any], message: Message | None = None) -> None:
        """Let it be written, and `message` as it is now with it; waits only where much is waiting already.

        Raises:
            DatabaseError: something before could not be written.
            ConflictError: the run is over, or somebody else's: whoever works on it stops.
        """
        self._check()
        if not self._joined(kind, payload):
            self._waiting.append((kind, payload))
        if message is not None:
            self._messages[message.id] = message
        self._chars += _length(payload)
        self._has_work.set()
        if len(self._waiting) >= _MOST_WAITING or self._chars >= _MOST_CHARS:
            await self.settle()

    def _joined(self, kind: str, payload: dict[str, Any]) -> bool:
        if kind not in _DELTAS or not self._waiting:
            return False
        last_kind, last = self._waiting[-1]
        if last_kind != kind or last["item"] != payload["item"] or len(last["delta"]) > _MOST_JOINED:
            return False
        last["delta"] += payload["delta"]
        return True

    async def settle(self) -> None:
        """Wait until all is written.

        Raises:
            As `note`.
        """
        while (self._waiting or self._is_writing) and self._failure is None:
            self._is_settled = anyio.Event()
            self._has_work.set()
            await self._is_settled.wait()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def write(self) -> None:
        """Write what comes, until `close`; runs beside whoever makes events."""
        while not (self._is_closed and not self._waiting) and self._failure is None:
            if not self._waiting:
                self._has_work = anyio.Event()
                await self._has_work.wait()
                continue
            events, messages = tuple(self._waiting), tuple(self._messages.values())
            self._waiting.clear()
            self._messages.clear()
            self._chars = 0
            self._is_writing = True
            try:
                await self._record(events, messages)
            except Exception as error:  # noqa: BLE001  # raised where events are made
                self._failure = error
            finally:
                self._is_writing = False
                self._is_settled.set()
        self._news.set()

    async def _record(self, events: tuple[tuple[str, dict[str, Any]], ...], messages: tuple[Message, ...]) -> None:
        run = self._run
        last = await self._repository.runs.record(run.tenant, run.id, events, messages=messages)
        for number, (kind, payload) in enumerate(events, start=last - len(events) + 1):
            self._recent.append(RunEvent(sequence=number, kind=kind, payload=payload))
        self._written = last
        news, self._news = self._news, anyio.Event()
        news.set()

    @property
    def is_lost(self) -> bool:
        """Whether the run is over, or somebody else's, by the database: nothing of this process's counts any more."""
        return isinstance(self._failure, ConflictError)

    def close(self) -> None:
        """Nothing more comes."""
        self._is_closed = True
        self._has_work.set()
        self._news.set()

    def behind(self, number: int) -> tuple[RunEvent, ...] | None:
        """Events behind `number` that are written; None where they are not all in memory."""
        if not self._recent or self._recent[0].sequence > number + 1:
            return None
        return tuple(event for event in self._recent if event.sequence > number)

    async def more(self, number: int) -> None:
        """Wait until something behind `number` is written, or the run is over here."""
        while self._written <= number and not self._is_closed:
            await self._news.wait()
        await anyio.lowlevel.checkpoint()  # who asks again and again lets others go on

    async def closed(self) -> None:
        """Wait until nothing more comes here."""
        while not self._is_closed:
            await self._news.wait()
        await anyio.lowlevel.checkpoint()


def _length(payload: dict[str, Any]) -> int:
    return sum(len(value) for value in payload.values() if isinstance(value, str)) + 64
