"""Who may open a session or run code now, who waits, and who is told to come back: caps, and a queue that is fair.

Knows no sandbox.  What it counts are claims: so many sessions, executions and bytes of memory for a tenant.  It never
ends anything that runs; to make room it asks for ready sandboxes to be given up, and then for the longest idle session
of the *same* tenant.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from bichat.errors import CapacityError, LimitError
from bichat.settings.settings import Caps
from bichat.sizes import format_size

#: What a request is told at least and at most; the guess between them is what the last ones took to leave.
_SOONEST_S: Final = 1.0
_LATEST_S: Final = 300.0
#: Weight of the newest observation in the moving average of the time between two releases.
_WEIGHT: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is asked for, or held."""

    sessions: int = 0
    executions: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Claim) -> Claim:
        return Claim(
            sessions=self.sessions + other.sessions,
            executions=self.executions + other.executions,
            memory_bytes=self.memory_bytes + other.memory_bytes,
        )

    def __neg__(self) -> Claim:
        return Claim(sessions=-self.sessions, executions=-self.executions, memory_bytes=-self.memory_bytes)


class Occupant(Protocol):
    """A session, as far as making room is concerned."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def idle_since(self) -> float | None:
        """Moment of the loop's clock since which nothing runs and nothing waits in it; None while something does."""
        ...

    @property
    def held(self) -> Claim:
        """What its end gives back."""
        ...

    def evict(self) -> None:
        """End it now; releases what it holds before it returns."""
        ...


@dataclass(eq=False, slots=True)
class _Waiter:
    claim: Claim
    needed: Claim
    """What must fit: the claim, and for a session the room to run something in it."""
    admitted: anyio.Event = field(default_factory=anyio.Event)


class _Line(OrderedDict[str, "deque[_Waiter]"]):
    """Tenants that wait, in the order of their turns, each with its requests in the order that they came."""

    def join(self, tenant: str, waiter: _Waiter) -> None:
        self.setdefault(tenant, deque()).append(waiter)

    def leave(self, tenant: str, waiter: _Waiter) -> None:
        queue = self.get(tenant, ())
        if waiter in queue:
            self[tenant].remove(waiter)
            if not self[tenant]:
                del self[tenant]

    def end_turn(self, tenant: str) -> None:
        if tenant in self:
            self.move_to_end(tenant)


class Admission:
    """One for all sessions of an interpreter."""

    def __init__(
        self, caps: Caps, *, ready_bytes: Callable[[], int] = lambda: 0, shrink: Callable[[], bool] = lambda: False
    ) -> None:
        """Nothing is held yet.

        Args:
            caps: for all together, and for each tenant.
            ready_bytes: what the ready sandboxes hold now.
            shrink: ends one of them; False when there is none.
        """
        self._caps = caps
        self._ready_bytes = ready_bytes
        self._shrink = shrink
        self._held = Claim()
        self._held_by: dict[str, Claim] = {}
        #: Neither holds up the other: while its code waits a session cannot end, and make room for another.
        self._executions = _Line()
        self._sessions = _Line()
        #: In the order of their turns.
        self._lines = [self._executions, self._sessions]
        self._occupants: set[Occupant] = set()
        self._is_making_room = False
        self.admitted_at = float("-inf")
        """Moment of the loop's clock at which the last request was admitted."""
        self._released_at: float | None = None
        self._between_s = _SOONEST_S

    @property
    def executions(self) -> int:
        """Those that are held now."""
        return self._held.executions

    def enter(self, occupant: Occupant) -> None:
        """`occupant` may be asked to make room from now on."""
        self._occupants.add(occupant)

    def leave(self, occupant: Occupant) -> None:
        """It may not any more; unknown ones are ignored."""
        self._occupants.discard(occupant)

    def has_room(self, memory_bytes: int) -> bool:
        """Whether so much more memory would fit beside all that is held, with nobody waiting."""
        return (
            not self._executions
            and not self._sessions
            and self._memory_bytes() + memory_bytes <= self._caps.memory_bytes
        )

    def check(self, claim: Claim) -> None:
        """Refuse what could never fit.

        Raises:
            LimitError: it is above what one tenant may have.
        """
        cap = min(self._caps.memory_bytes, self._caps.tenant_memory_bytes)
        if claim.memory_bytes > cap:
            raise LimitError(
                f"memory and disk of {format_size(claim.memory_bytes)} together are above what one tenant may have "
                f"here, {format_size(cap)}",
                stage="admission",
                remedy="Ask for less memory or disk, or have the operator raise BICHAT_CAP_MEMORY_BYTES and "
                "BICHAT_CAP_TENANT_MEMORY_BYTES.",
            )

    async def admit(self, tenant: str, claim: Claim, *, needed: Claim | None = None) -> None:
        """Wait until `claim` fits under every cap, and hold it.  Requests of one tenant are served in their order.

        `needed` is what must fit at that moment, if that is more: a session that nothing could ever run in is no use.

        Raises:
            CapacityError: the queue is full, or the wait was longer than `queue_wait_s`.
        """
        waiter = _Waiter(claim, needed or claim)
        line = self._sessions if claim.sessions else self._executions
        if not self._must_wait(line, tenant) and self._make_room(tenant, waiter.needed):
            self._hold(tenant, claim)
            self.admitted_at = anyio.current_time()
            return
        mine = sum(len(each.get(tenant, ())) for each in (self._executions, self._sessions))
        waiting = sum(len(queue) for each in (self._executions, self._sessions) for queue in each.values())
        if waiting >= self._caps.queue or mine >= self._caps.tenant_queue:
            raise self._refused("the queue is full", mine)
        line.join(tenant, waiter)
        try:
            with anyio.move_on_after(self._caps.queue_wait_s):
                self._serve()
                await waiter.admitted.wait()
        except BaseException:
            if waiter.admitted.is_set():
                self.release(tenant, claim)
            raise
        finally:
            line.leave(tenant, waiter)
            if not waiter.admitted.is_set():
                self._serve()  # those whom it held up
        if not waiter.admitted.is_set():
            raise self._refused(f"nothing became free within {self._caps.queue_wait_s:g} s", mine)

    def admit_at_once(self, tenant: str, claim: Claim) -> bool:
        """Hold `claim` if it fits now, ready sandboxes given up for it where need be; whether it does.  Nobody is evicted."""
        while not (self._fits_tenant(tenant, claim) and self._fits(claim)):
            if not (self._would_help(tenant, claim, ()) and self._shrink()):
                return False
        self._hold(tenant, claim)
        return True

    def release(self, tenant: str, claim: Claim) -> None:
        """Give `claim` back; whoever waits for it goes on."""
        self._hold(tenant, -claim)
        if claim.executions or claim.sessions:
            now = anyio.current_time()
            if self._released_at is not None:
                self._between_s += _WEIGHT * (now - self._released_at - self._between_s)
            self._released_at = now
        self.look_again()

    def look_again(self) -> None:
        """A session has become idle: one that waits may have its room."""
        if not self._is_making_room:
            self._serve()

    def _serve(self) -> None:
        """Admit those who wait, out of the two lines in turns, as long as there is room."""
        while any(map(self._serve_one, tuple(self._lines))):
            pass

    def _serve_one(self, line: _Line) -> bool:
        """Admit the next one of `line` that fits, tenants in turns; whether there was one.

        A tenant that is at its own cap is passed over.  One whose turn it is and for whom the whole lacks room holds
        up those behind it: what they would take could keep it waiting for ever.
        """
        for tenant, queue in line.items():
            waiter = queue[0]
            if self._make_room(tenant, waiter.needed):
                break
            if self._fits_tenant(tenant, waiter.needed):
                return False
        else:
            return False
        self._hold(tenant, waiter.claim)
        self.admitted_at = anyio.current_time()
        waiter.admitted.set()
        line.leave(tenant, waiter)
        line.end_turn(tenant)
        if line is self._lines[0]:
            self._lines.reverse()
        return True

    def _must_wait(self, line: _Line, tenant: str) -> bool:
        """Whether somebody waits who comes first: an earlier request of the tenant, or anybody who could be served."""
        before = (self._executions,) if line is self._executions else (self._executions, self._sessions)
        return tenant in line or any(
            name != tenant and self._fits_tenant(name, queue[0].needed)
            for each in before
            for name, queue in each.items()
        )

    def _make_room(self, tenant: str, claim: Claim) -> bool:
        """Whether `claim` fits, once what may be given up for it has been."""
        while not (self._fits_tenant(tenant, claim) and self._fits(claim)):
            idle = [one for one in self._occupants if one.tenant == tenant and one.idle_since is not None]
            if not self._would_help(tenant, claim, idle):
                return False
            if self._fits_tenant(tenant, claim) and self._fits_without_memory(claim) and self._shrink():
                continue
            if not idle:
                return False
            longest = min(idle, key=lambda one: one.idle_since or 0.0)
            self._occupants.discard(longest)
            self._is_making_room = True  # what it releases is for this claim
            try:
                longest.evict()
            finally:
                self._is_making_room = False
        return True

    def _would_help(self, tenant: str, claim: Claim, idle: Sequence[Occupant]) -> bool:
        """Whether `claim` fits once all of `idle` and every ready sandbox have ended: none of them ends in vain."""
        rest = sum((-one.held for one in idle), claim)
        return (
            self._fits_tenant(tenant, rest)
            and self._fits_without_memory(rest)
            and self._held.memory_bytes + rest.memory_bytes <= self._caps.memory_bytes
        )

    def _fits(self, claim: Claim) -> bool:
        return self._fits_without_memory(claim) and (
            self._memory_bytes() + claim.memory_bytes <= self._caps.memory_bytes
        )

    def _fits_without_memory(self, claim: Claim) -> bool:
        wanted = self._held + claim
        return wanted.sessions <= self._caps.sessions and wanted.executions <= self._caps.executions

    def _fits_tenant(self, tenant: str, claim: Claim) -> bool:
        wanted = self._held_of(tenant) + claim
        return (
            wanted.sessions <= self._caps.tenant_sessions
            and wanted.executions <= self._caps.tenant_executions
            and wanted.memory_bytes <= self._caps.tenant_memory_bytes
        )

    def _memory_bytes(self) -> int:
        return self._held.memory_bytes + self._ready_bytes()

    def _held_of(self, tenant: str) -> Claim:
        return self._held_by.get(tenant, Claim())

    def _hold(self, tenant: str, claim: Claim) -> None:
        self._held += claim
        self._held_by[tenant] = self._held_of(tenant) + claim
        if self._held_by[tenant] == Claim():
            del self._held_by[tenant]

    def _refused(self, why: str, before: int) -> CapacityError:
        guess = self._between_s * (before + 1)
        return CapacityError(
            f"all room is taken, and {why}", retry_after_s=round(min(max(guess, _SOONEST_S), _LATEST_S), 1)
        )
