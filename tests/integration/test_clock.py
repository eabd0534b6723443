"""A wall clock that jumps a day back and forth: nothing ends earlier or later for it, and nobody's folder is swept away."""

from __future__ import annotations

import itertools
import tempfile
import time

import pytest

from bichat import CodeInterpreter, Status
from bichat.sandbox import rooms

DAY_S = 86_400
pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]


@pytest.fixture
def jumping_clock(monkeypatch):
    """`time.time` is a day behind, right, and a day ahead in turn, by the call."""
    now, jumps = time.time, itertools.cycle((-DAY_S, 0, DAY_S))
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))


async def test_sessions_live_and_end_by_a_clock_that_does_not_jump(
    jumping_clock, bare_settings, limits, needs_namespaces_here, ended_error, until
):
    async with CodeInterpreter(settings=bare_settings(environment="ready", ready_sandboxes=1)) as interpreter:
        await interpreter.warm()
        lasting = await interpreter.open_session(limits=limits(idle_s=3_600, life_s=7_200))
        idle = await interpreter.open_session(limits=limits(idle_s=0.2))
        spent = await interpreter.open_session(limits=limits(life_s=0.2))
        stopped = await lasting.run("while True: pass", timeout_s=0.2)
        done = await lasting.run("import time; time.sleep(0.3); print('done')", timeout_s=20)
        await until(lambda: not idle.alive and not spent.alive)

        assert (stopped.status, done.stdout) == (Status.TIMEOUT, "done\n")
        assert [(await ended_error(session)).reason for session in (idle, spent)] == ["idle", "life"]
        assert lasting.alive
        assert 0 < done.timings.total_s < DAY_S


async def test_the_rooms_of_a_living_server_outlast_every_jump_and_those_of_a_dead_one_none(
    jumping_clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = rooms.Rooms()
    (tmp_path / "bichat-rooms-left").mkdir()

    for _ in range(3):
        rooms.Rooms().close()

    assert [str(path) for path in tmp_path.iterdir()] == [living._folder]
    living.close()
