"""How much one key may ask for: so many requests a minute, and so many at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bichat.server.problems import RefusedError

_MINUTE_S: Final = 60.0
#: Seconds that an answer is held back for a caller who has all his requests left, and for any.
_PAUSE_S: Final = 1.0
_MOST_PAUSE_S: Final = 20.0
#: Callers that are remembered; above it those who have been quiet for a minute are forgotten.
_MOST_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Account:
    """What one caller has left."""

    left: float
    at: float
    open: int = 0


class Ticket:
    """One request that was let in."""

    def __init__(self, account: _Account, per_minute: int) -> None:
        self._account = account
        self._per_minute = per_minute
        self._is_open = True

    @property
    def headers(self) -> dict[str, str]:
        """What OpenAI's wire tells of it."""
        wait_s = (self._per_minute - self._account.left) * _MINUTE_S / self._per_minute
        return {
            "x-ratelimit-limit-requests": str(self._per_minute),
            "x-ratelimit-remaining-requests": str(int(self._account.left)),
            "x-ratelimit-reset-requests": f"{wait_s:.3f}s",
        }

    @property
    def pause_s(self) -> float:
        """How long an answer that has no news yet may be held back: the longer, the less its caller has left."""
        return min(_MOST_PAUSE_S, _PAUSE_S * (self._per_minute / max(1.0, self._account.left)) ** 2)

    def leave(self) -> None:
        """It is over; may be called again."""
        if self._is_open:
            self._is_open = False
            self._account.open -= 1


class Limiter:
    """Of one process: each counts for itself."""

    def __init__(self, *, per_minute: int, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        """A caller who has been quiet may spend a minute's requests in one go."""
        self._per_minute = per_minute
        self._at_once = at_once
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(self, caller: str) -> Ticket:
        """Let a request in.

        Raises:
            RefusedError: 429, with when to come back; nothing of the request was done.
        """
        account = self._account(caller)
        if account.open >= self._at_once:
            raise _too_many(f"{account.open:,} requests at a time are under way with this key", 1.0)
        if account.left < 1:
            wait_s = (1 - account.left) * _MINUTE_S / self._per_minute
            raise _too_many(f"{self._per_minute:,} requests a minute are allowed for one key", wait_s)
        account.left -= 1
        account.open += 1
        return Ticket(account, self._per_minute)

    def _account(self, caller: str) -> _Account:
        now = self._clock()
        account = self._accounts.get(caller)
        if account is None:
            self._forget(now)
            account = self._accounts[caller] = _Account(self._per_minute, now)
        gained = (now - account.at) * self._per_minute / _MINUTE_S
        account.left = min(float(self._per_minute), account.left + gained)
        account.at = now
        return account

    def _forget(self, now: float) -> None:
        if len(self._accounts) >= _MOST_REMEMBERED:
            self._accounts = {
                caller: account
                for caller, account in self._accounts.items()
                if account.open or now - account.at < _MINUTE_S
            }


def _too_many(why: str, wait_s: float) -> RefusedError:
    error = RefusedError(429, f"Rate limit reached: {why}.", wire_code="rate_limit_exceeded")
    error.retry_after_s = math.ceil(wait_s)
    return error
