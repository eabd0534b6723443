"""Where attacks take place: this host's own sandboxes, as the product makes them, with canaries around them."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import textwrap
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from bichat.attacks.attack import SMALL, Attack, Outcome, Statement
from bichat.attacks.canaries import VARIABLE, Canaries
from bichat.attacks.host import planted_key, planted_name
from bichat.domain import Artifact, Limits, Status
from bichat.errors import BichatError
from bichat.sandbox.artifacts import Capture
from bichat.sandbox.inputs import InputSource, check_inputs
from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.isolation.policy import COLUMN
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor

_PRELUDE: Final = Path(__file__).with_name("prelude.py")
#: No run may outlast this, whatever becomes of it.
_BOUND_S: Final = 20.0
_SIGNAL: Final = re.compile(r"\bSIG[A-Z]+\d*\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """All that came out of one run of guest code in a sandbox."""

    ended: Ended
    captured: Capture

    @property
    def text(self) -> str:
        """What was printed to stdout, as far as it was kept."""
        return self.ended.stdout.text

    @property
    def files(self) -> dict[str, Artifact]:
        """Captured files by name."""
        return {artifact.name: artifact for artifact in self.captured.artifacts}

    @property
    def refused(self) -> dict[str, str]:
        """Why files were not captured, by name."""
        return {refused.name: refused.reason for refused in self.captured.refused}

    @property
    def signs(self) -> frozenset[str]:
        """All words for how it ended: its status, the error's name, the signal's."""
        error = self.ended.error
        signals = _SIGNAL.findall(error.message) if error else []
        return frozenset({self.ended.status.value, *signals, *((error.name,) if error else ())})

    @property
    def statements(self) -> list[Statement]:
        """What the guest said, in that order."""
        return [said for line in self.text.splitlines() if (said := _statement(line)) is not None]

    def fact(self, name: str) -> Any:
        """What the guest printed as `{"name": ...}`; None when it did not."""
        for line in self.text.splitlines():
            if line.startswith(f'{{"{name}":'):
                return json.loads(line)[name]
        return None

    def judged(self, attack: Attack) -> list[Statement]:
        """What it comes to: what the guest said, and whether it ended in one of the ways that mean that it held.

        Code that said nothing and ended otherwise has not been an attack.
        """
        said = self.statements
        error = self.ended.error
        if sign := next(iter(sorted(self.signs & attack.ends, key=_specific)), ""):
            said.append(Statement(outcome=Outcome.HELD, sign=sign, what=error.message if error else sign))
        elif not said:
            how = f"{error.name}: {error.message}" if error else self.ended.status.value
            said.append(Statement(outcome=Outcome.NOT_TRIED, what=f"the attack itself broke: {how}"))
        return said


def _specific(sign: str) -> tuple[bool, str]:
    """Names of errors and signals before statuses."""
    return sign in set(Status), sign


def _statement(line: str) -> Statement | None:
    if not line.startswith('{"statement":'):
        return None
    try:
        outcome, sign, what, call = json.loads(line)["statement"]
        return Statement(
            outcome=Outcome(outcome), sign=sign, what=what, call=(call[0], tuple(call[1])) if call else None
        )
    except (ValueError, TypeError):
        return None


class Ground:
    """Fresh sandboxes of one supervisor, a neighbour that lives beside them all, and the canaries."""

    def __init__(self, supervisor: Supervisor, canaries: Canaries, layers: frozenset[Layer], folder: Path) -> None:
        self.supervisor = supervisor
        self.canaries = canaries
        self.layers = layers
        self.folder = folder
        """The suite's own, for what a driver saves."""
        self.neighbours_limits = SMALL
        self.printed: list[str] = []
        """What guests have let out since it was last emptied: text and captured bytes, to look for secrets in."""

    @asynccontextmanager
    async def sandbox(self, limits: Limits = SMALL) -> AsyncGenerator[NamespaceSandbox]:
        """A fresh one, gone with the block."""
        opened = await self.supervisor.open(limits)
        try:
            yield opened
        finally:
            with anyio.CancelScope(shield=True):
                await opened.close()

    async def run(
        self,
        code: str,
        *,
        limits: Limits = SMALL,
        given: Mapping[str, object] | None = None,
        files: Mapping[str, InputSource] | None = None,
    ) -> Ran:
        """Run `code` in a fresh sandbox, and close that."""
        async with self.sandbox(limits) as sandbox:
            if files:
                await sandbox.put(check_inputs(files, limits))
            return await self.run_in(sandbox, code, limits=limits, given=given)

    async def run_in(
        self,
        sandbox: NamespaceSandbox,
        code: str,
        *,
        limits: Limits = SMALL,
        given: Mapping[str, object] | None = None,
    ) -> Ran:
        """Run `code` in a sandbox of the driver's own, and capture its files."""
        with anyio.fail_after(_BOUND_S):
            ended = await self.execute(sandbox, code, limits=limits, given=given)
            captured = await sandbox.capture()
        ran = Ran(ended=ended, captured=captured)
        self.printed += [ran.text, ran.ended.stderr.text, *map(_start, captured.artifacts)]
        return ran

    async def execute(
        self,
        sandbox: NamespaceSandbox,
        code: str,
        *,
        limits: Limits = SMALL,
        given: Mapping[str, object] | None = None,
    ) -> Ended:
        """Run `code` and say how that ended."""
        whole = self.with_prelude(code, given)
        events = [
            event
            async for event in sandbox.execute(whole, name="attack.py", timeout_s=limits.timeout_s)
            if isinstance(event, Ended)
        ]
        return events[-1]

    def with_prelude(self, code: str, given: Mapping[str, object] | None = None) -> str:
        """The code with the attacker's tools before it, and what he is told of the host."""
        told = json.dumps({**self._given(), **(given or {})})
        # As hexadecimal digits: paths in it stay as they are, whatever the sandbox does with those in code.
        return f"{_prelude()}\ngiven = json.loads(bytes.fromhex('{told.encode().hex()}'))\n{textwrap.dedent(code)}"

    async def is_well(self) -> bool:
        """Whether a fresh sandbox still runs code as it should."""
        try:
            ran = await self.run("print('well')")
        except BichatError:
            return False
        return ran.ended.status is Status.COMPLETED and ran.text.endswith("well\n")

    def _given(self) -> dict[str, object]:
        canaries = self.canaries
        return {
            "secret": str(canaries.secret),
            "folder": str(canaries.folder),
            "tcp": canaries.tcp.getsockname()[1],
            "udp": canaries.udp.getsockname()[1],
            "abstract": canaries.abstract_name,
            "socket": str(canaries.socket_path),
            "pids": [*canaries.pids, os.getpid()],
            "victims": list(canaries.pids),
            "server": os.getpid(),
            "variable": VARIABLE,
            "planted": planted_name(),
            "key": planted_key(),
            "host_name": os.uname().nodename,
            "calls": _calls(),
        }


def _start(artifact: Artifact) -> str:
    """The first bytes of a captured file; every canary's secret is short."""
    return next(artifact.content.chunks(), b"")[:65536].decode("utf-8", "backslashreplace")


@functools.cache
def _prelude() -> str:
    return _PRELUDE.read_text(encoding="utf-8")


@functools.cache
def _calls() -> dict[str, int]:
    column = COLUMN.get(platform.machine())
    if column is None:
        return {}
    return {name: number for name, numbers in NUMBERS.items() if (number := numbers[column]) is not None}
