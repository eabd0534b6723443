"""Sandboxes that are ready and warm before anybody asks, so that nobody waits for the fork, the walls and first steps."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio

from bichat.domain import Limits
from bichat.errors import BichatError
from bichat.sandbox.background import Background
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.nursery import Nursery, Zygote
from bichat.sizes import MIB

#: What one ready sandbox holds of its own, roughly, warmed up with numpy, pandas and matplotlib.
READY_BYTES: Final = 32 * MIB
#: After this the pool looks again whether there is room, or whether one of its sandboxes has died.
_LOOK_AGAIN_S: Final = 5.0
#: How long nothing new must have begun before a sandbox is made ahead, which takes a processor a tenth of a second:
#: with nothing running, with a processor to spare, with none.
_PAUSE_IDLE_S: Final = 0.05
_PAUSE_SPARE_S: Final = 0.25
_PAUSE_FULL_S: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    sandbox: NamespaceSandbox
    zygote: Zygote


@dataclass(frozen=True, slots=True)
class Activity:
    """How much of the machine is wanted for what somebody waits for."""

    executions: int = 0
    """Those that run."""
    admitted_at: float = float("-inf")
    """Moment of the loop's clock at which the last session or execution was admitted."""


class Pool:
    """Of one environment.  A sandbox that leaves it never comes back."""

    def __init__(
        self,
        nursery: Nursery,
        make: Callable[[Zygote], Awaitable[NamespaceSandbox]],
        *,
        limits: Limits,
        size: int,
        has_room: Callable[[], bool],
        activity: Callable[[], Activity],
    ) -> None:
        """Nothing is made yet.

        Args:
            nursery: whose preloaded zygote they are forked from.
            make: makes one.
            limits: what they are made with: who asks for other walls gets one made to measure.
            size: how many are kept.
            has_room: whether another one may be made now.
            activity: what goes on beside it: whoever waits for something has the processors first.
        """
        self._nursery = nursery
        self._make = make
        self._walls = walls(limits)
        self._size = size
        self._has_room = has_room
        self._activity = activity
        self._ready: deque[_Ready] = deque()
        self._taken = anyio.Event()
        self._tried = anyio.Event()
        self._failed = False
        self._background = Background()

    def open(self) -> None:
        """Begin to fill, in the background."""
        if self._size:
            self._background.start(self._keep_filled)

    async def close(self) -> None:
        """End those that nobody has taken."""
        await self._background.close()
        while self._ready:
            await self._ready.pop().sandbox.close()

    async def filled(self) -> None:
        """Wait until it is full, or as full as it can be now."""
        while len(self._ready) < self._size and self._has_room() and not self._failed:
            await self._tried.wait()

    def __len__(self) -> int:
        return len(self._ready)

    def take(self, limits: Limits) -> NamespaceSandbox | None:
        """One that is ready, if there is one with these walls."""
        if walls(limits) != self._walls:
            return None
        self._drop_stale()
        if not self._ready:
            return None
        self._refill()
        return self._ready.popleft().sandbox

    def shrink(self) -> bool:
        """End one to make room; whether there was any."""
        if not self._ready:
            return False
        self._background.start(self._ready.pop().sandbox.close)
        return True

    def _refill(self) -> None:
        self._taken.set()
        self._taken = anyio.Event()

    def _drop_stale(self) -> None:
        """Let go of those that have died, and of those whose zygote has been replaced."""
        for ready in tuple(self._ready):
            if ready.zygote.retired or ready.sandbox.has_died:
                self._ready.remove(ready)
                self._background.start(ready.sandbox.close)

    async def _keep_filled(self) -> None:
        while True:
            zygote = self._nursery.preloaded
            if zygote is None:
                await self._nursery.changed()
                continue
            self._drop_stale()
            pause_s = _LOOK_AGAIN_S
            if len(self._ready) < self._size and self._has_room():
                left_s = self._quiet_at() - anyio.current_time()
                if left_s > 0:
                    pause_s = min(left_s, _PAUSE_IDLE_S)
                elif await self._add(zygote):
                    continue
            with anyio.move_on_after(pause_s):
                await self._taken.wait()

    def _quiet_at(self) -> float:
        """When another may be made, if nothing new begins until then."""
        activity = self._activity()
        if not activity.executions:
            quiet_s = _PAUSE_IDLE_S
        elif activity.executions < len(os.sched_getaffinity(0)):
            quiet_s = _PAUSE_SPARE_S
        else:
            quiet_s = _PAUSE_FULL_S
        return activity.admitted_at + quiet_s

    async def _add(self, zygote: Zygote) -> bool:
        """Make one more; whether that went well."""
        try:
            sandbox = await self._make(zygote)
        except BichatError as error:
            logger.warning("no sandbox could be made ahead: %s", error)
            self._failed = True
        else:
            self._ready.append(_Ready(sandbox, zygote))
            self._failed = False
        self._tried.set()
        self._tried = anyio.Event()
        return not self._failed


def walls(limits: Limits) -> tuple[int, ...]:
    """Those limits that a sandbox is built with; all others are the supervisor's to hold."""
    return limits.memory_bytes, limits.disk_bytes, limits.inodes, limits.pids, limits.cpus
