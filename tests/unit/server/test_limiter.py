"""How much one key may ask for."""

from __future__ import annotations

import pytest

from bichat.server.limiter import Limiter
from bichat.server.problems import RefusedError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_minute_s_requests_may_come_in_one_go_and_then_as_they_are_gained(clock):
    limiter = Limiter(per_minute=60, at_once=1000, clock=clock)
    tickets = [limiter.enter("ann") for _ in range(60)]
    assert tickets[-1].headers["x-ratelimit-remaining-requests"] == "0"
    assert tickets[-1].headers["x-ratelimit-reset-requests"] == "60.000s"

    with pytest.raises(RefusedError) as refused:
        limiter.enter("ann")
    limiter.enter("bob")
    clock.now = 1.0
    limiter.enter("ann")
    with pytest.raises(RefusedError):
        limiter.enter("ann")

    assert (refused.value.status, refused.value.wire_code, refused.value.retry_after_s) == (
        429,
        "rate_limit_exceeded",
        1,
    )


def test_an_answer_without_news_is_held_back_the_longer_the_less_its_caller_has_left(clock):
    limiter = Limiter(per_minute=60, at_once=1000, clock=clock)
    pauses = [limiter.enter("ann").pause_s for _ in range(60)]

    assert pauses == sorted(pauses)
    assert (pauses[0] < 1.1, pauses[29], pauses[-1]) == (True, 4.0, 20.0)


def test_so_many_requests_are_under_way_at_a_time_and_no_more(clock):
    limiter = Limiter(per_minute=1000, at_once=2, clock=clock)
    first, _ = limiter.enter("ann"), limiter.enter("ann")
    with pytest.raises(RefusedError):
        limiter.enter("ann")

    first.leave()
    first.leave()
    limiter.enter("ann")

    with pytest.raises(RefusedError):
        limiter.enter("ann")
    limiter.enter("bob")


def test_of_very_many_callers_those_who_are_quiet_are_forgotten(clock):
    limiter = Limiter(per_minute=1, at_once=1, clock=clock)
    stays = limiter.enter("stays")
    for number in range(10_000):
        limiter.enter(f"caller {number}").leave()
    clock.now = 61.0

    limiter.enter("one more")

    assert len(limiter._accounts) == 2
    with pytest.raises(RefusedError):
        limiter.enter("stays")
    stays.leave()
    limiter.enter("stays")
