"""Sandboxes that are ready and warm before anybody asks, so that nobody waits for the fork, the walls and first steps."""

from __future__ import annotations

import logging
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    sandbox: NamespaceSandbox
    zygote: Zygote


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
    ) -> None:
        """Nothing is made yet.

        Args:
            nursery: whose preloaded zygote they are forked from.
            make: makes one.
            limits: what they are made with: who asks for other walls gets one made to measure.
            size: how many are kept.
            has_room: whether another one may be made now.
        """
        self._nursery = nursery
        self._make = make
        self._walls = walls(limits)
        self._size = size
        self._has_room = has_room
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
            if len(self._ready) < self._size and self._has_room() and await self._add(zygote):
                continue
            with anyio.move_on_after(_LOOK_AGAIN_S):
                await self._taken.wait()

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
