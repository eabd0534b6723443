"""From a caller's change of mind to the next answer of the same session."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Final

import anyio

from bench.samples import Samples
from bench.tasks import OutputError
from bichat import CodeInterpreter, Stdout
from bichat.session import Session

#: Kinds of code that yield to an interrupt, by name; each prints first.
KINDS: Final = {
    "endless loop": "print('on', flush=True)\nwhile True:\n    pass",
    "sleep": "import time\nprint('on', flush=True)\ntime.sleep(600)",
    "grouping over and over": (
        "import numpy as np, pandas as pd\n"
        "frame = pd.DataFrame({'a': np.arange(200_000) % 7, 'b': 1.0})\n"
        "print('on', flush=True)\n"
        "while True:\n    frame.groupby('a').sum()"
    ),
}


async def cancel(interpreter: CodeInterpreter, times: int) -> dict[str, Samples]:
    """By kind of code: from cancelling the task that waits for it to having read a variable from before it.

    Raises:
        OutputError: the variable is gone.
    """
    found = {kind: Samples() for kind in KINDS}
    async with interpreter.session() as session:
        await session.run("kept = 41")
        for _ in range(times):
            for kind, code in KINDS.items():
                cancelled_at = await _cancelled(session, code)
                result = await session.run("print(kept)")
                found[kind].seconds.append(time.perf_counter() - cancelled_at)
                if result.stdout != "41\n":
                    raise OutputError(f"the session did not keep its variable: {result.status} {result.stdout!r}")
    return found


async def _cancelled(session: Session, code: str) -> float:
    """Run `code` until it prints, then cancel the task that listens to it; the moment of that."""
    cancelled_at = 0.0

    async def listen() -> None:
        nonlocal cancelled_at
        async with aclosing(session.stream(code)) as events:
            async for event in events:
                if isinstance(event, Stdout):
                    cancelled_at = time.perf_counter()
                    group.cancel_scope.cancel()
                    await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
    return cancelled_at
