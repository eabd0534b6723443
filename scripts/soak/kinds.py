"""The kinds of executions that take turns, each with a look at what it must have come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from bichat import CodeInterpreter, ExecutionResult, Session, Status
from bichat.sizes import MIB

#: Cells after which a tenant's session is closed and another one opened.
_CELLS: Final = 50
_CHART: Final = """\
import matplotlib.pyplot as plt
plt.bar(["North", "South"], [412.5, 398.1])
plt.savefig("chart.png")
"""


class SoakError(Exception):
    """An execution came to something else than it must."""


class Tenant:
    """One of those who use the server: its session, and what it runs."""

    def __init__(self, interpreter: CodeInterpreter, name: str) -> None:
        self._interpreter = interpreter
        self._name = name
        self._session: Session | None = None
        self._cells = 0

    async def close(self) -> None:
        """End its session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def cell(self) -> None:
        """One more in its session, which counts them."""
        if self._cells % _CELLS == 0:
            await self.close()
        if self._session is None:
            self._session, self._cells = await self._interpreter.open_session(tenant=self._name), 0
            await self._session.run("x = 0")
        self._cells += 1
        result = await self._session.run("x += 1\nprint(x)")
        _expect(result, Status.COMPLETED, stdout=f"{self._cells}\n")

    async def one_shot(self) -> None:
        """In a session of its own."""
        _expect(await self._run("print(1)"), Status.COMPLETED, stdout="1\n")

    async def files(self) -> None:
        """One goes in, a larger one comes out."""
        result = await self._run("open('out', 'w').write(open('in').read() * 2)", files={"in": b"x" * MIB})
        _expect(result, Status.COMPLETED, files={"out": 2 * MIB})

    async def chart(self) -> None:
        """An image comes out."""
        result = await self._run(_CHART)
        _expect(result, Status.COMPLETED)
        result.artifact("chart.png")

    async def error(self) -> None:
        """The code raises."""
        _expect(await self._run("1 / 0"), Status.ERROR)

    async def timeout(self) -> None:
        """The code does not come to an end."""
        _expect(await self._run("while True: pass", timeout_s=0.1), Status.TIMEOUT)

    async def cancel(self) -> None:
        """The caller walks away."""
        with anyio.move_on_after(0.05):
            await self._run("while True: pass")

    async def memory(self) -> None:
        """The code asks for more than there is."""
        _expect(await self._run("x = bytearray(1 << 40)"), Status.OUT_OF_MEMORY)

    async def output(self) -> None:
        """More is printed than a result holds."""
        result = await self._run("for _ in range(4): print('x' * (1 << 20))")
        _expect(result, Status.COMPLETED)
        if result.artifact("stdout.txt").size_bytes != 4 * (MIB + 1):
            raise SoakError("output is missing")

    async def _run(
        self, code: str, *, files: dict[str, bytes] | None = None, timeout_s: float | None = None
    ) -> ExecutionResult:
        return await self._interpreter.run(code, tenant=self._name, files=files, timeout_s=timeout_s)


#: In twenty turns; those that need packages are marked by `PACKAGES`.
KINDS: Final[dict[str, tuple[int, Callable[[Tenant], Awaitable[None]]]]] = {
    "cell": (7, Tenant.cell),
    "one-shot": (4, Tenant.one_shot),
    "files": (2, Tenant.files),
    "chart": (2, Tenant.chart),
    "error": (1, Tenant.error),
    "timeout": (1, Tenant.timeout),
    "cancel": (1, Tenant.cancel),
    "memory": (1, Tenant.memory),
    "output": (1, Tenant.output),
}
PACKAGES: Final = frozenset({"chart"})


def _expect(
    result: ExecutionResult, status: Status, *, stdout: str | None = None, files: dict[str, int] | None = None
) -> None:
    made = {artifact.name: artifact.size_bytes for artifact in result.artifacts}
    if result.status is not status or stdout not in {None, result.stdout} or not (files or {}).items() <= made.items():
        raise SoakError(f"{status.value} was to come, and {result.status.value} came: {result.error} {made}")
