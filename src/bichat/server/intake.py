"""How much of requests' bodies a process takes at a time, so that no caller fills its memory or its disk with them."""

from __future__ import annotations

from collections import Counter

from bichat.server.problems import RefusedError
from bichat.sizes import format_size

#: When whoever is refused may come back.
_RETRY_S = 5


class Intake:
    """Of one kind of bodies.  Each counts from its first byte until its request has been answered."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of all together; one caller may have half of it."""
        self._most_bytes = most_bytes
        self._held = Counter[str]()

    def hold(self, caller: str, size_bytes: int) -> None:
        """Take so much more from a caller.

        Raises:
            RefusedError: 429, where that is too much for him or in all; nothing of the request was done.
        """
        is_his = self._held[caller] + size_bytes > self._most_bytes // 2
        if is_his or self._held.total() + size_bytes > self._most_bytes:
            most = format_size(self._most_bytes // 2 if is_his else self._most_bytes)
            whose = "with this key" if is_his else "by this server"
            error = RefusedError(
                429,
                f"Rate limit reached: bodies of {most} in all are taken at a time {whose}.",
                wire_code="rate_limit_exceeded",
            )
            error.retry_after_s = _RETRY_S
            raise error
        self._held[caller] += size_bytes

    def release(self, caller: str, size_bytes: int) -> None:
        """It is not held any more."""
        self._held[caller] -= size_bytes
        if not self._held[caller]:
            del self._held[caller]
