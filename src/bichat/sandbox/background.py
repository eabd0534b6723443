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
        self._tasks: dict[asyncio.Task[None], anyio.CancelScope] = {}

    def start(self, job: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run `job` beside the caller, until it returns or `close` is called."""
        scope = anyio.CancelScope()
        task = asyncio.create_task(_logged(job, scope))
        self._tasks[task] = scope
        task.add_done_callback(self._tasks.pop)

    async def close(self) -> None:
        """Cancel what still runs and wait for it; a job that must come to its end shields itself."""
        while self._tasks:
            # By scope: a native cancellation would break into what is shielded.
            for scope in self._tasks.values():
                scope.cancel()
            await asyncio.wait(tuple(self._tasks))


async def _logged(job: Callable[[], Coroutine[Any, Any, object]], scope: anyio.CancelScope) -> None:
    try:
        with scope:
            await job()
    except Exception:
        logger.exception("a background job failed")
