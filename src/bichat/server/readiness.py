"""Whether code can run here yet."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final, Self

import anyio

from bichat.errors import BichatError
from bichat.interpreter import CodeInterpreter
from bichat.sandbox.background import Background

#: Whoever asks has little patience: an orchestrator's probe gives up after seconds.
_PATIENCE_S: Final = 5.0

logger = logging.getLogger(__name__)


class Readiness:
    """Gets the first sandbox ready before anybody asks for it, and looks again whenever it is asked.

    On a new machine that includes building the environment, a minute or two, which goes on however often it is asked
    meanwhile.  Used as an async context manager; it ends what it has begun.
    """

    def __init__(self, interpreter: CodeInterpreter) -> None:
        """Nothing begins before it is entered."""
        self._interpreter = interpreter
        self._background = Background()
        self._looked: anyio.Event | None = None
        self._reason = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._background.close()

    def begin(self) -> anyio.Event:
        """Look once more, unless that is under way; the event comes when it is known."""
        if self._looked is None or self._looked.is_set():
            self._looked = anyio.Event()
            self._background.start(partial(self._look, self._looked))
        return self._looked

    async def reason(self) -> str:
        """Why no sandbox can be had: a `BichatError.code`, `starting` where that is not known in time, "" where one can."""
        looked = self.begin()
        with anyio.move_on_after(_PATIENCE_S):
            await looked.wait()
            return self._reason
        return "starting"

    async def _look(self, looked: anyio.Event) -> None:
        try:
            await self._interpreter.warm()
            self._reason = ""
        except BichatError as error:
            # The server stays up: files and lists need no sandbox, and what is missing may come.
            if error.code != self._reason:
                logger.warning("no sandbox can be had: %s", error)
            self._reason = error.code
        finally:
            looked.set()
