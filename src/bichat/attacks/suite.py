"""Runs the attacks against this host's own sandboxes, one after the other, and leaves the host as it was."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from bichat.attacks.attack import Attack, Outcome, Statement, through
from bichat.attacks.canaries import canaries
from bichat.attacks.catalogue import ATTACKS
from bichat.attacks.ground import Ground
from bichat.attacks.host import HOST_LEFT_AS_IT_WAS, Host
from bichat.attacks.report import Report, Result, summed
from bichat.errors import BichatError, SandboxUnavailableError
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.layers import Layer, Level
from bichat.sandbox.isolation.policy import RULES, Rule, among_others
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.supervisor import Supervisor

#: Longest for one attack with all its sandboxes, and for the suite: what is left then is said to be not tried.
_ATTACK_S: Final = 30.0
_SUITE_S: Final = 300.0
_NOT_KNOWN: Final = "not known"

Progress = Callable[[Result], None]
"""Told of each attack when it is over."""


async def run_suite(
    environment: Environment,
    folder: Path,
    *,
    level: Level,
    layers: frozenset[Layer] | None = None,
    attacks: Sequence[Attack] = ATTACKS,
    progress: Progress = lambda _: None,
) -> Report:
    """Every attack at `level`, each in fresh sandboxes of `environment`, some fifteen seconds on two processors.

    Args:
        environment: whose Python the sandboxes have; its packages are not used.
        folder: an empty one, for what the suite keeps meanwhile.
        level: that is attacked; one that this host lacks gives a report that says so.
        layers: all of the level's; only tests leave one out.
        attacks: all of them; only tests leave some out.
        progress: told of each when it is over.
    """
    layers = level.layers if layers is None else layers
    before = Host.seen()
    results: list[Result] = []
    lacks: tuple[str, ...] = ()
    try:
        with canaries() as standing:
            async with Supervisor(environment, spool_folder=folder, layers=layers, minimum=level) as supervisor:
                ground = Ground(supervisor, standing, layers, folder)
                async with ground.sandbox() as first:
                    lacks = first.isolation.lacks
                if os.geteuid() == 0:
                    standing.add_victim((await supervisor.zygote()).host_id)
                deadline = time.monotonic() + _SUITE_S
                async with _Neighbour.of(ground) as neighbour:
                    for attack in attacks:
                        result = await _tried(attack, ground, neighbour, deadline)
                        results.append(result)
                        progress(result)
    except SandboxUnavailableError as error:
        if results:
            raise
        return Report(level=level, uid=os.geteuid(), available=False, reason=f"{error}. {error.remedy}".strip())
    if attacks is ATTACKS:
        results.append(_judged(HOST_LEFT_AS_IT_WAS, await before.compared(), layers, 0.0))
        progress(results[-1])
    before.sweep()
    return Report(level=level, uid=os.geteuid(), available=True, lacks=lacks, results=tuple(results))


class _Neighbour:
    """Another tenant's sandbox of the same zygote, which lives beside all the others; replaced when it was killed."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._sandbox: NamespaceSandbox | None = None

    @staticmethod
    @asynccontextmanager
    async def of(ground: Ground) -> AsyncGenerator[_Neighbour]:
        """There as long as the block lasts."""
        neighbour = _Neighbour(ground)
        try:
            await neighbour._settle()
            yield neighbour
        finally:
            with anyio.CancelScope(shield=True):
                if neighbour._sandbox is not None:
                    await neighbour._sandbox.close()

    async def _settle(self) -> None:
        self._sandbox = await self._ground.supervisor.open(self._ground.neighbours_limits)
        code = "import os\nopen('own', 'w').write('x')\nos.write(1, b'settled')"
        await self._ground.run_in(self._sandbox, code, limits=self._ground.neighbours_limits)

    async def harm(self) -> list[str]:
        """In words, what has happened to it since the last time."""
        sandbox = self._sandbox
        if sandbox is None or sandbox.gone:
            if sandbox is not None:
                await sandbox.close()
            await self._settle()
            return ["another tenant's sandbox was killed"]
        names = [file.name for file in await sandbox.files()]
        return [] if names == ["own"] else [f"files of another tenant's sandbox changed to {names}"]


async def _tried(attack: Attack, ground: Ground, neighbour: _Neighbour, deadline: float) -> Result:
    started = time.monotonic()
    if started > deadline:
        said = [Statement(outcome=Outcome.NOT_TRIED, what=f"the suite's {_SUITE_S:.0f} seconds were over")]
        return _judged(attack, said, ground.layers, 0.0)
    ground.printed.clear()
    try:
        with anyio.fail_after(_ATTACK_S):
            said = await (attack.driver or _run_alone)(ground, attack)
    except TimeoutError:
        said = [through(f"the server could not end it within {_ATTACK_S:.0f} seconds")]
    except BichatError as error:
        said = [through(f"the server was kept from its work: {error}")]
    said += [through(words) for words in ground.canaries.disturbed()]
    said += [through(words) for words in await neighbour.harm()]
    if any(ground.canaries.token in text for text in ground.printed):
        said.insert(0, through("the secret of a canary was read"))
    return _judged(attack, said, ground.layers, time.monotonic() - started)


async def _run_alone(ground: Ground, attack: Attack) -> list[Statement]:
    """The code in a sandbox of its own."""
    return (await ground.run(attack.code, limits=attack.limits)).judged(attack)


def _judged(attack: Attack, said: list[Statement], layers: frozenset[Layer], duration_s: float) -> Result:
    outcome, observed = summed(said)
    stopped_by = _stopped_by(attack, said, layers) if outcome is Outcome.HELD else ""
    return Result(attack=attack, outcome=outcome, observed=observed, stopped_by=stopped_by, duration_s=duration_s)


def _stopped_by(attack: Attack, said: list[Statement], layers: frozenset[Layer]) -> str:
    found: dict[str, None] = {}
    for statement in said:
        if statement.outcome is Outcome.HELD:
            found[" or ".join(_stoppers(attack, statement, layers)) or _NOT_KNOWN] = None
    if len(found) > 1:
        found.pop(_NOT_KNOWN, None)
    return ", ".join(found)


def _stoppers(attack: Attack, statement: Statement, layers: frozenset[Layer]) -> tuple[str, ...]:
    """The filter is asked before anything else in the kernel is: where it answers so, it was the filter."""
    if statement.call is not None and Layer.SECCOMP in layers:
        name, arguments = statement.call
        rule = _rules(layers).get(name)
        if rule is not None and _named(rule.answer((*arguments, *(0,) * 6))) == statement.sign:
            return (Layer.SECCOMP.value,)
    return attack.stopped_by(statement.sign, layers - {Layer.SECCOMP} if statement.call else layers)


def _named(number: int) -> str:
    import errno

    return errno.errorcode.get(number, "")


def _rules(layers: frozenset[Layer]) -> dict[str, Rule]:
    from bichat.sandbox.isolation import landlock

    if Level.of(layers) is Level.NAMESPACES:
        return RULES
    return among_others(landlock_abi=landlock.abi_version(), pid=None)
