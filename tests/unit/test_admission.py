"""Admission: what is held, who makes room for whom, and in which order those who wait are served."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from bichat.admission import Admission, Claim
from bichat.errors import CapacityError, LimitError
from bichat.settings.settings import Caps
from bichat.sizes import MIB

pytestmark = pytest.mark.anyio

#: Room for whatever a test is not about.
ROOMY = Caps(
    sessions=100,
    tenant_sessions=100,
    executions=100,
    tenant_executions=100,
    memory_bytes=1 << 40,
    tenant_memory_bytes=1 << 40,
    queue_wait_s=30.0,
)
SESSION = Claim(sessions=1)
EXECUTION = Claim(executions=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(eq=False)
class Idler:
    """A session that does what admission asks of one."""

    admission: Admission
    tenant: str = "ann"
    idle_since: float | None = 0.0
    held: Claim = SESSION
    evicted: bool = False

    def __post_init__(self) -> None:
        self.admission.enter(self)

    def evict(self) -> None:
        self.evicted = True
        self.admission.leave(self)
        self.admission.release(self.tenant, self.held)


@dataclass
class Log:
    """Requests that were begun at the same moment, and the order in which they were let in."""

    admission: Admission
    admitted: list[str] = field(default_factory=list)
    refused: list[tuple[str, CapacityError]] = field(default_factory=list)

    async def ask(self, name: str, claim: Claim) -> None:
        """`name` is a tenant, with a number behind it."""
        try:
            await self.admission.admit(name.rstrip("0123456789"), claim)
        except CapacityError as error:
            self.refused.append((name, error))
        else:
            self.admitted.append(name)


def holds_nothing(admission: Admission) -> bool:
    return (admission._held, admission._held_by, dict(admission._executions), dict(admission._sessions)) == (
        Claim(),
        {},
        {},
        {},
    )


async def test_what_fits_is_held_and_given_back_to_the_last_byte():
    admission = Admission(ROOMY)
    claim = Claim(sessions=1, executions=2, memory_bytes=3)

    await admission.admit("ann", claim)
    await admission.admit("bob", claim)

    assert admission._held == claim + claim

    admission.release("ann", claim)
    admission.release("bob", claim)

    assert holds_nothing(admission)


@pytest.mark.parametrize(
    "caps",
    [
        {"sessions": 2},
        {"tenant_sessions": 2},
        {"executions": 2},
        {"tenant_executions": 2},
        {"memory_bytes": 2 * MIB},
        {"tenant_memory_bytes": 2 * MIB},
    ],
    ids=lambda caps: next(iter(caps)),
)
async def test_at_each_cap_the_next_request_waits_until_one_before_it_gives_back(caps):
    admission = Admission(replace(ROOMY, **caps))
    claim = Claim(sessions=1, executions=1, memory_bytes=MIB)
    log = Log(admission)
    await admission.admit("ann", claim)
    await admission.admit("ann", claim)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "ann", claim)
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == []
        admission.release("ann", claim)
        await anyio.wait_all_tasks_blocked()

    assert log.admitted == ["ann"]
    assert admission._held == claim + claim


@pytest.mark.parametrize("cap", ["tenant_sessions", "tenant_executions", "tenant_memory_bytes"])
async def test_a_tenant_at_its_own_cap_keeps_nobody_else_waiting(cap):
    admission = Admission(replace(ROOMY, **{cap: 1}))
    claim = Claim(sessions=1, executions=1, memory_bytes=1)
    log = Log(admission)
    await admission.admit("ann", claim)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "ann", claim)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await admission.admit("bob", claim)
        assert log.admitted == []
        admission.release("ann", claim)

    assert log.admitted == ["ann"]


async def test_what_could_never_fit_is_refused_by_name_and_not_queued():
    admission = Admission(replace(ROOMY, memory_bytes=10 * MIB, tenant_memory_bytes=5 * MIB))

    admission.check(Claim(memory_bytes=5 * MIB))
    with pytest.raises(LimitError, match="memory and disk"):
        admission.check(Claim(memory_bytes=5 * MIB + 1))

    assert holds_nothing(admission)


async def test_ready_sandboxes_are_given_up_before_any_session_ends():
    ready = [4 * MIB] * 2
    admission = Admission(
        replace(ROOMY, memory_bytes=12 * MIB),
        ready_bytes=lambda: sum(ready),
        shrink=lambda: bool(ready) and bool(ready.pop()),
    )
    idler = Idler(admission, held=Claim(sessions=1, memory_bytes=2 * MIB))
    await admission.admit("ann", idler.held)

    await admission.admit("ann", Claim(sessions=1, memory_bytes=6 * MIB))
    assert (len(ready), idler.evicted) == (1, False)
    await admission.admit("ann", Claim(sessions=1, memory_bytes=4 * MIB))
    assert (len(ready), idler.evicted) == (0, False)
    await admission.admit("ann", Claim(sessions=1, memory_bytes=2 * MIB))
    assert idler.evicted


async def test_ready_sandboxes_stay_where_giving_them_up_would_not_help():
    ready = [MIB]
    admission = Admission(
        replace(ROOMY, executions=1, tenant_sessions=1, queue_wait_s=0.01),
        ready_bytes=lambda: sum(ready),
        shrink=lambda: bool(ready) and bool(ready.pop()),
    )
    await admission.admit("ann", Claim(sessions=1, executions=1, memory_bytes=4 * MIB))

    large = Claim(sessions=1, memory_bytes=ROOMY.memory_bytes - MIB)
    for tenant, claim in (("bob", EXECUTION), ("ann", Claim(sessions=1, memory_bytes=1)), ("bob", large)):
        with pytest.raises(CapacityError):
            await admission.admit(tenant, claim)

    assert ready


async def test_the_longest_idle_session_of_the_same_tenant_ends_and_nobody_elses():
    admission = Admission(replace(ROOMY, sessions=4))
    late, early = Idler(admission, idle_since=20.0), Idler(admission, idle_since=10.0)
    busy, other = Idler(admission, idle_since=None), Idler(admission, "bob", idle_since=1.0)
    for one in (late, early, busy, other):
        await admission.admit(one.tenant, SESSION)

    await admission.admit("ann", SESSION)
    assert [one.evicted for one in (late, early, busy, other)] == [False, True, False, False]
    await admission.admit("ann", SESSION)
    assert [one.evicted for one in (late, early, busy, other)] == [True, True, False, False]


@pytest.mark.parametrize(
    "caps",
    [{"executions": 1}, {"tenant_executions": 1}],
    ids=["all", "tenant"],
)
async def test_no_idle_session_ends_for_an_execution_that_only_another_one_can_make_way_for(caps):
    admission = Admission(replace(ROOMY, **caps, queue_wait_s=0.01))
    idler = Idler(admission)
    await admission.admit("ann", SESSION)
    await admission.admit("ann", EXECUTION)

    with pytest.raises(CapacityError):
        await admission.admit("ann", EXECUTION)

    assert not idler.evicted


async def test_no_idle_session_ends_where_all_of_them_together_would_not_make_room():
    admission = Admission(replace(ROOMY, memory_bytes=10 * MIB, queue_wait_s=0.01))
    idlers = [Idler(admission, held=Claim(sessions=1, memory_bytes=MIB)) for _ in range(2)]
    for idler in idlers:
        await admission.admit("ann", idler.held)
    await admission.admit("bob", Claim(executions=1, memory_bytes=6 * MIB))

    with pytest.raises(CapacityError):
        await admission.admit("ann", Claim(executions=1, memory_bytes=5 * MIB))

    assert [idler.evicted for idler in idlers] == [False, False]


async def test_what_an_evicted_session_gives_back_goes_to_the_one_that_it_ended_for():
    admission = Admission(replace(ROOMY, sessions=2, tenant_sessions=1))
    log = Log(admission)
    Idler(admission)
    await admission.admit("ann", SESSION)
    await admission.admit("bob", SESSION)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob", SESSION)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await admission.admit("ann", SESSION)
        assert log.admitted == []
        admission.release("bob", SESSION)

    assert log.admitted == ["bob"]


async def test_a_session_that_becomes_idle_makes_way_for_one_that_waits():
    admission = Admission(replace(ROOMY, tenant_sessions=1))
    busy = Idler(admission, idle_since=None)
    log = Log(admission)
    await admission.admit("ann", SESSION)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "ann", SESSION)
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == []
        busy.idle_since = 1.0
        admission.look_again()

    assert (log.admitted, busy.evicted) == (["ann"], True)


async def test_a_hundred_requests_of_one_tenant_keep_the_one_of_another_waiting_for_one_at_most():
    admission = Admission(replace(ROOMY, executions=1))
    log = Log(admission)
    await admission.admit("ann", EXECUTION)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(log.ask, f"ann{number}", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(log.ask, "bob", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        for _ in range(101):
            admission.release(log.admitted[-1].rstrip("0123456789") if log.admitted else "ann", EXECUTION)
            await anyio.wait_all_tasks_blocked()

    assert log.admitted.index("bob") <= 1
    assert [name for name in log.admitted if name != "bob"] == [f"ann{number}" for number in range(100)]


ONE_SHOT = Claim(sessions=1, executions=1)


@pytest.mark.parametrize("many, one", [(EXECUTION, ONE_SHOT), (ONE_SHOT, EXECUTION)], ids=["cells", "one-shots"])
async def test_neither_cells_of_open_sessions_nor_new_sessions_starve_the_other(many, one):
    admission = Admission(replace(ROOMY, executions=1))
    log = Log(admission)
    await admission.admit("ann", many)
    held = [("ann", many)]

    async def ask(name: str, claim: Claim) -> None:
        await log.ask(name, claim)
        held.append((name.rstrip("0123456789"), claim))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(ask, f"ann{number}", many)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, "bob", one)
        await anyio.wait_all_tasks_blocked()
        while held:
            admission.release(*held.pop())
            await anyio.wait_all_tasks_blocked()

    assert log.admitted.index("bob") <= 1
    assert holds_nothing(admission)


async def test_a_session_that_waits_for_another_to_end_holds_up_no_code_of_open_ones():
    admission = Admission(replace(ROOMY, sessions=2, executions=1))
    log = Log(admission)
    for tenant in ("ann", "ann"):
        await admission.admit(tenant, SESSION)
    await admission.admit("ann", EXECUTION)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob", SESSION)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(log.ask, "ann", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        admission.release("ann", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == ["ann"]
        admission.release("ann", SESSION)

    assert log.admitted == ["ann", "bob"]


async def test_a_session_opens_only_where_something_could_run_in_it_and_holds_what_it_needs_alone():
    admission = Admission(replace(ROOMY, memory_bytes=10, queue_wait_s=0.01))
    idle, whole = Claim(sessions=1, memory_bytes=1), Claim(sessions=1, memory_bytes=5)

    for _ in range(6):
        await admission.admit("ann", idle, needed=whole)
    assert admission._held.memory_bytes == 6
    with pytest.raises(CapacityError):
        await admission.admit("ann", idle, needed=whole)

    # All of them ask for their code at once: none is idle, and yet they are served one after the other.
    await admission.admit("ann", Claim(executions=1, memory_bytes=4))


async def test_tenants_take_turns_and_each_ones_requests_keep_their_order():
    admission = Admission(replace(ROOMY, executions=1))
    log = Log(admission)
    await admission.admit("eve", EXECUTION)
    holder = "eve"

    async with anyio.create_task_group() as tasks:
        for name in ("ann1", "ann2", "ann3", "bob1", "cat1", "cat2"):
            tasks.start_soon(log.ask, name, EXECUTION)
            await anyio.wait_all_tasks_blocked()
        for _ in range(6):
            admission.release(holder, EXECUTION)
            await anyio.wait_all_tasks_blocked()
            holder = log.admitted[-1].rstrip("0123456789")

    assert log.admitted == ["ann1", "bob1", "cat1", "ann2", "cat2", "ann3"]


async def test_a_newcomer_does_not_go_past_one_whose_turn_it_is():
    admission = Admission(replace(ROOMY, memory_bytes=10))
    log = Log(admission)
    await admission.admit("ann", Claim(memory_bytes=5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob", Claim(memory_bytes=8))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(log.ask, "cat", Claim(memory_bytes=4))
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == []
        admission.release("ann", Claim(memory_bytes=5))
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == ["bob"]
        admission.release("bob", Claim(memory_bytes=8))

    assert log.admitted == ["bob", "cat"]


@pytest.mark.parametrize("tenant", ["bob", "cat"], ids=["the same tenant's", "another tenant's"])
async def test_those_behind_one_that_gives_up_go_on_at_once(tenant):
    admission = Admission(replace(ROOMY, memory_bytes=10))
    log = Log(admission)
    await admission.admit("ann", Claim(memory_bytes=5))

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(log.ask, "bob", Claim(memory_bytes=8))
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(log.ask, tenant, Claim(memory_bytes=4))
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert log.admitted == [tenant]


async def test_those_behind_one_whose_wait_is_over_go_on_at_once():
    admission = Admission(replace(ROOMY, memory_bytes=10, queue_wait_s=0.2))
    log = Log(admission)
    await admission.admit("ann", Claim(memory_bytes=5))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob1", Claim(memory_bytes=8))
        await anyio.sleep(0.1)  # so that their ends lie apart
        tasks.start_soon(log.ask, "bob2", Claim(memory_bytes=4))

    assert ([name for name, _ in log.refused], log.admitted) == (["bob1"], ["bob2"])


async def test_a_wait_that_was_in_vain_is_refused_with_a_time_to_come_back():
    admission = Admission(replace(ROOMY, executions=1, queue_wait_s=0.01))
    await admission.admit("ann", EXECUTION)

    with pytest.raises(CapacityError) as caught:
        await admission.admit("bob", EXECUTION)

    assert caught.value.retry_after_s >= 1
    assert caught.value.to_dict()["code"] == "capacity"
    assert "Come back" in caught.value.remedy
    admission.release("ann", EXECUTION)
    assert holds_nothing(admission)


@pytest.mark.parametrize(
    "caps, tenants, refused",
    [
        ({"queue": 3}, ["ann", "bob", "cat", "dan"], ["dan"]),
        ({"tenant_queue": 2}, ["ann", "ann", "ann", "bob"], ["ann"]),
    ],
    ids=["all", "tenant"],
)
async def test_a_full_queue_refuses_at_once(caps, tenants, refused):
    admission = Admission(replace(ROOMY, executions=1, **caps))
    log = Log(admission)
    await admission.admit("eve", EXECUTION)

    async with anyio.create_task_group() as tasks:
        for tenant in tenants:
            tasks.start_soon(log.ask, tenant, EXECUTION)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert [name for name, _ in log.refused] == refused
    assert all(error.retry_after_s >= 1 for _, error in log.refused)


@pytest.mark.parametrize("moment", ["while it waits", "as it is admitted"])
async def test_a_request_that_was_cancelled_holds_nothing(moment):
    admission = Admission(replace(ROOMY, executions=1))
    log = Log(admission)
    await admission.admit("ann", EXECUTION)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        if moment == "as it is admitted":
            admission.release("ann", EXECUTION)
            assert admission._held == EXECUTION
        tasks.cancel_scope.cancel()
    if moment == "while it waits":
        admission.release("ann", EXECUTION)
    for _ in log.admitted:  # it may have had its answer before it heard of the cancellation
        admission.release("bob", EXECUTION)

    assert holds_nothing(admission)


async def test_nothing_is_made_ready_while_somebody_waits():
    admission = Admission(replace(ROOMY, memory_bytes=10, executions=1))
    assert admission.has_room(10)
    assert not admission.has_room(11)
    log = Log(admission)
    await admission.admit("ann", EXECUTION)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.ask, "bob", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        assert not admission.has_room(1)
        admission.release("ann", EXECUTION)
        await anyio.wait_all_tasks_blocked()
        assert admission.has_room(1)


claims = st.builds(
    Claim, sessions=st.integers(0, 2), executions=st.integers(0, 2), memory_bytes=st.integers(0, 6)
).filter(lambda claim: claim != Claim())
steps = st.lists(st.tuples(st.sampled_from("abc"), claims, st.integers(0, 3)), max_size=25)


@given(steps=steps)
async def test_however_requests_come_no_cap_is_passed_none_is_lost_and_nothing_is_left(steps):
    caps = replace(
        ROOMY,
        sessions=3,
        tenant_sessions=2,
        executions=3,
        tenant_executions=2,
        memory_bytes=9,
        tenant_memory_bytes=6,
    )
    admission = Admission(caps)
    finished: list[int] = []

    async def one(number: int, tenant: str, claim: Claim, pauses: int) -> None:
        await admission.admit(tenant, claim)
        held, mine = admission._held, admission._held_of(tenant)
        assert held.sessions <= caps.sessions
        assert held.executions <= caps.executions
        assert held.memory_bytes <= caps.memory_bytes
        assert mine.sessions <= caps.tenant_sessions
        assert mine.executions <= caps.tenant_executions
        assert mine.memory_bytes <= caps.tenant_memory_bytes
        await _pause(pauses)
        admission.release(tenant, claim)
        finished.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number, step in enumerate(steps):
                tasks.start_soon(partial(one, number, *step))

    assert sorted(finished) == list(range(len(steps)))
    assert holds_nothing(admission)


@given(steps=steps, cancelled=st.sets(st.integers(0, 24)))
async def test_whoever_is_cancelled_when_those_that_stay_are_served(steps, cancelled):
    admission = Admission(replace(ROOMY, sessions=2, executions=2, memory_bytes=6))
    finished: set[int] = set()

    async def one(number: int, tenant: str, claim: Claim, pauses: int) -> None:
        with anyio.CancelScope() as scope:
            if number in cancelled:
                tasks.start_soon(_cancel_after, scope, pauses)
            await admission.admit(tenant, claim)
            try:
                await _pause(pauses)
            finally:
                admission.release(tenant, claim)
            finished.add(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number, step in enumerate(steps):
                tasks.start_soon(partial(one, number, *step))

    assert set(range(len(steps))) - cancelled <= finished
    assert holds_nothing(admission)


async def _pause(times: int) -> None:
    for _ in range(times):
        await checkpoint()


async def _cancel_after(scope: anyio.CancelScope, pauses: int) -> None:
    await _pause(pauses)
    scope.cancel()
