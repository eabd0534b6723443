"""Work that goes on behind the calls: it belongs to somebody who ends it, and its failures are logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

logger = logging.getLogger(__name__)


class Background:
    """A set of tasks.  Not a task group: an owner may be entered in one task and left in another, and what goes wrong
    in the background is no exception of whoever happens to be in the foreground.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], _Job] = {}

    def start(self, run: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run `run` beside the caller, who may be a callback of the loop, until it returns or `close` is called."""
        job = _Job(run)
        task = asyncio.get_running_loop().create_task(job.do())
        self._tasks[task] = job
        task.add_done_callback(self._tasks.pop)

    async def close(self) -> None:
        """Cancel what still runs and wait for it; a job that must come to its end shields itself."""
        while self._tasks:
            # By scope: a native cancellation would break into what is shielded.
            for job in self._tasks.values():
                job.cancel()
            await asyncio.wait(tuple(self._tasks))


class _Job:
    """One of them.  Its scope is made in its task: outside of one nobody can make any."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._run = run
        self._scope: anyio.CancelScope | None = None
        self._is_unwanted = False

    def cancel(self) -> None:
        self._is_unwanted = True
        if self._scope is not None:
            self._scope.cancel()

    async def do(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if self._is_unwanted:
                    self._scope.cancel()
                await self._run()
        except Exception:
            logger.exception("a background job failed")
