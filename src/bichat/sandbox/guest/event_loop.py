"""Cells that await something."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop


class LoopRunner:
    """Runs cells that await something in IPython's event loop."""

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What the cell gives.  An interrupt while it waits ends what it waits for."""
        loop = get_asyncio_loop()
        cell = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(cell)
        except KeyboardInterrupt as interrupt:
            cell.cancel()
            result = loop.run_until_complete(cell)
            if type(result.error_in_exec).__name__ == "CancelledError":
                result.error_in_exec = interrupt.with_traceback(result.error_in_exec.__traceback__)
            return result

    def __str__(self) -> str:
        return "asyncio"
