"""A run at another server, looked at until it has ended, or until nobody wants it any more."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from bichat.clients.answers import Json
from bichat.clients.job import Job
from bichat.clients.options import ClientOptions
from bichat.clients.wire import Answer
from bichat.errors import RemoteServiceError

#: States in which a run may still do something.
_ACTIVE: Final = frozenset({"queued", "in_progress", "cancelling"})

logger = logging.getLogger(__name__)


class Watch:
    """Of one run."""

    def __init__(
        self,
        job: Job,
        options: ClientOptions,
        look: Callable[[float | None], Awaitable[Answer]],
        cancel: Callable[[], Awaitable[None]],
    ) -> None:
        """`look` gives the run as it is, and goes on trying until a moment; `cancel` asks for its end."""
        self._job = job
        self._options = options
        self._look = look
        self._cancel = cancel

    async def ended(self) -> tuple[Json, bool]:
        """The run at its end, and whether its time was over before.

        Raises:
            RemoteServiceError: nobody knows what became of it.
        """
        deadline = anyio.current_time() + self._job.timeout_s
        failure: RemoteServiceError | None = None
        has_answered = False
        with anyio.move_on_after(self._job.timeout_s):
            while failure is None:
                try:
                    answer = await self._look(deadline)
                except RemoteServiceError as error:
                    error.ran = None
                    if not error.is_retryable or (error.retry_after_s or 0) > deadline - anyio.current_time() > 0:
                        raise
                    failure = error
                    continue
                has_answered = True
                if str(answer.body.get("status")) not in _ACTIVE:
                    self._job.is_over = True
                    return answer.body, False
                await anyio.sleep(answer.poll_after_s or self._options.poll_interval_s)
        run = await self.cancelled()
        if run is None and (failure is not None or not has_answered):
            raise failure or RemoteServiceError(
                f"the server did not say within {self._job.timeout_s:g} s what became of the run", is_retryable=True
            )
        return run or {}, run is None or run.get("status") != "completed"

    async def cancelled(self) -> Json | None:
        """The run, once it has ended because nobody wants it any more; None where nobody knows.

        A run that does not end although it is to is given back as it is.
        """
        self._job.is_unwanted = True
        last: Json | None = None
        with anyio.move_on_after(self._options.cleanup_s):
            try:
                await self._cancel()
            except RemoteServiceError as error:
                logger.info("a run could not be cancelled, and may have ended: %s", error)
            try:
                while True:
                    answer = await self._look(None)
                    last = answer.body
                    if str(last.get("status")) not in _ACTIVE:
                        self._job.is_over = True
                        return last
                    await anyio.sleep(answer.poll_after_s or self._options.poll_interval_s)
            except RemoteServiceError as error:
                logger.warning("a run that is not wanted any more cannot be looked at: %s", error)
        return last
