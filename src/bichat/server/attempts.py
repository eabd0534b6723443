"""Requests that are sent again, by a client that has had no answer: they get the run that the first of them began.

The official clients send a request again by themselves, after a time-out of theirs or when the connection breaks, and say
so (`x-stainless-retry-count`).  Other programs give it a name (`Idempotency-Key`).  Code must not run twice for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final, Self

import anyio
from fastapi import Request

from bichat.conversation.request import RunRequest
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.moments import utc_now
from bichat.repository.records import Run
from bichat.sandbox.background import Background
from bichat.server.problems import FieldError
from bichat.server.services import Caller

NAME: Final = "idempotency-key"
_COUNT: Final = "x-stainless-retry-count"
_MOST_NAME: Final = 255
#: How long a run is found that is over: longer than any client waits before it tries again.
_FOUND: Final = timedelta(days=1)
#: How long it is found once its answer is sent, which may be lost on the way: clients try again after half a second.
_AFTERWARDS_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that begins a run."""

    key: str
    """The same of the same request of the same caller."""
    digest: str
    """Of what was sent, where the caller has named it; else empty."""
    is_repeated: bool
    """Whether it may have begun its run before."""

    def of(self, request: RunRequest) -> RunRequest:
        """What is asked for with it."""
        return replace(request, attempt=self.key, digest=self.digest)


def attempt_of(request: Request, caller: Caller) -> Attempt:
    """That of a request whose body was read (`bichat.server.forms.json_body`).

    Raises:
        FieldError: its name is too long.
    """
    name = request.headers.get(NAME, "")
    if len(name) > _MOST_NAME:
        raise FieldError(f"Invalid '{NAME}': {_MOST_NAME} characters at most.", param=NAME, wire_code=None)
    digest: str = request.state.digest
    whose = (caller.tenant, caller.user, caller.key_id or "", request.url.path)
    told = "\0".join((*whose, "named" if name else "sent", name or digest))
    return Attempt(
        key=hashlib.sha256(told.encode()).hexdigest(),
        digest=digest if name else "",
        is_repeated=bool(name) or is_repeated(request),
    )


def is_repeated(request: Request) -> bool:
    """Whether its client says that it has sent it before."""
    return request.headers.get(_COUNT, "0") != "0"


class Attempts:
    """Of one process.  Used inside `async with`."""

    def __init__(self, repository: ChatRepository) -> None:
        self._repository = repository
        self._starting: dict[str, anyio.Event] = {}
        self._background = Background()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._background.close()

    async def begun(self, caller: Caller, attempt: Attempt, start: Callable[[], Awaitable[Run]]) -> Run:
        """The run of a request: the one that it has begun before, or what `start` begins, once.

        Raises:
            FieldError: the request has a name that was another one's.
            As `start`.
        """
        if attempt.is_repeated:
            while (starting := self._starting.get(attempt.key)) is not None:
                await starting.wait()
            if (before := await self._before(caller, attempt)) is not None:
                return before
        started = self._starting[attempt.key] = anyio.Event()
        try:
            return await start()
        finally:
            if self._starting.get(attempt.key) is started:
                del self._starting[attempt.key]
            started.set()

    async def _before(self, caller: Caller, attempt: Attempt) -> Run | None:
        run = await self._repository.runs.attempted(caller.tenant, attempt.key)
        if run is None or (run.ended_at is not None and utc_now() - run.ended_at > _FOUND):
            return None
        if run.request.get("digest", "") != attempt.digest:
            raise FieldError(f"The '{NAME}' was another request's.", param=NAME, wire_code="idempotency_key_reused")
        return run

    async def is_answered(self, request: Request, run: Run) -> bool:
        """Whether whoever asked is still there to be answered, and nobody is to find the run again: the same request begins
        another one soon.

        One that was named finds its run for as long as that is there, a day at most; one that nobody waits for any more,
        until somebody has its answer.
        """
        if run.request.get("digest") or await request.is_disconnected():
            return False
        if run.attempt:
            self._background.start(partial(self._forget, run))
        return True

    async def _forget(self, run: Run) -> None:
        try:
            await anyio.sleep(_AFTERWARDS_S)
        finally:
            with anyio.CancelScope(shield=True):
                await self._repository.runs.answered(run.tenant, run.id)
