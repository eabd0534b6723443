"""Sandboxes that are ready before anybody asks, and the zygotes that they come from."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace

import anyio
import pytest

from bichat import CodeInterpreter, Status
from bichat.sandbox import pool
from bichat.sandbox.pool import Pool
from bichat.sizes import MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces, pytest.mark.usefixtures("needs_namespaces_here")]


@pytest.fixture
def impatient_pool(monkeypatch):
    """Looks again soon whether there is room, or one of its sandboxes has died."""
    monkeypatch.setattr(pool, "_LOOK_AGAIN_S", 0.1)


@pytest.fixture
async def ready(bare_settings, impatient_pool) -> AsyncGenerator[CodeInterpreter]:
    """An interpreter whose environment preloads a module, with two sandboxes ready."""
    async with CodeInterpreter(settings=bare_settings(environment="ready", ready_sandboxes=2)) as opened:
        with anyio.fail_after(40):
            await opened.warm()
        yield opened


async def pool_of(interpreter: CodeInterpreter, environment: str = "ready") -> Pool:
    return (await interpreter._supervisor(environment))._pool


async def test_a_session_takes_a_ready_sandbox_and_another_is_made(ready, until):
    sandboxes = await pool_of(ready)
    first = sandboxes._ready[0].sandbox

    async with ready.session(variables={"MINE": "1"}, files={"a": b"x"}) as session:
        assert session._sandbox is first
        await until(lambda: len(sandboxes) == 2)
        assert (await session.run("import os; print(os.environ['MINE'], os.listdir())")).stdout == "1 ['a']\n"
        assert all(one.sandbox is not first for one in sandboxes._ready)


async def test_a_ready_sandbox_serves_other_limits_that_are_no_walls(ready, bare_settings):
    sandboxes = await pool_of(ready)
    first = sandboxes._ready[0].sandbox
    limits = replace(bare_settings().limits, timeout_s=0.2, output_bytes=100)

    async with ready.session(limits=limits) as session:
        assert session._sandbox is first
        result = await session.run("print('x' * 1000, flush=True)\nimport time; time.sleep(60)")

    assert (result.status, result.stdout_omitted_bytes) == (Status.TIMEOUT, 901)


@pytest.mark.parametrize("change", [{"memory_bytes": 128 * MIB}, {"disk_bytes": MIB}, {"pids": 10}], ids=str)
async def test_who_asks_for_other_walls_gets_a_sandbox_made_to_measure(ready, bare_settings, change):
    sandboxes = await pool_of(ready)
    waiting = [one.sandbox for one in sandboxes._ready]

    async with ready.session(limits=replace(bare_settings().limits, **change)) as session:
        assert session._sandbox not in waiting
        assert (await session.run("print(1)")).stdout == "1\n"

    assert [one.sandbox for one in sandboxes._ready] == waiting


async def test_ready_sandboxes_that_have_died_are_not_given_out(ready, until):
    sandboxes = await pool_of(ready)
    for one in sandboxes._ready:
        os.kill(one.sandbox.guest_pid, signal.SIGKILL)
    await until(lambda: all(one.sandbox.has_died for one in sandboxes._ready))

    with anyio.fail_after(20):
        for _ in range(3):
            async with ready.session() as session:
                assert (await session.run("print(1)")).stdout == "1\n"


async def test_a_zygote_is_replaced_while_its_sessions_live_on(bare_settings, impatient_pool, until, family):
    settings = bare_settings(environment="ready", ready_sandboxes=1, zygote_life_s=0.5)
    async with CodeInterpreter(settings=settings) as interpreter, interpreter.session() as early:
        with anyio.fail_after(40):
            await interpreter.warm()
        supervisor = await interpreter._supervisor("ready")
        async with interpreter.session() as session:
            await session.run("x = 41")
            first = await supervisor.zygote()
            with anyio.fail_after(40):
                while await supervisor.zygote() is first:
                    await supervisor._nursery.changed()

            assert (await session.run("print(x + 1)")).stdout == "42\n"
            assert (await early.run("print('early')")).stdout == "early\n"
            assert family(first.pid)
        await until(lambda: family(first.pid) == [])
        async with interpreter.session() as session:
            assert (await session.run("print('works')")).stdout == "works\n"


async def test_a_zygote_that_is_killed_is_replaced_and_the_pool_is_filled_again(ready, until):
    sandboxes = await pool_of(ready)
    supervisor = await ready._supervisor("ready")
    first = await supervisor.zygote()
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: not first.lives and all(one.sandbox.has_died for one in sandboxes._ready))

    with anyio.fail_after(40):
        async with ready.session() as session:
            assert (await session.run("print(1)")).stdout == "1\n"
        await ready.warm()
        await until(lambda: len(sandboxes) == 2 and not any(one.sandbox.has_died for one in sandboxes._ready))

    assert await supervisor.zygote() is not first


async def test_a_module_that_cannot_be_imported_ahead_is_logged_and_keeps_nobody_waiting(bare_settings, caplog):
    with caplog.at_level(logging.WARNING):
        async with CodeInterpreter(settings=bare_settings(environment="hopeful", ready_sandboxes=1)) as interpreter:
            with anyio.fail_after(40):
                await interpreter.warm()
            assert (await interpreter.run("import json; print(1)")).stdout == "1\n"

    assert "no_such_module" in caplog.text


async def test_leaving_an_interpreter_ends_its_ready_sandboxes(bare_settings, until, family):
    before = family(os.getpid())
    async with CodeInterpreter(settings=bare_settings(environment="ready", ready_sandboxes=3)) as interpreter:
        with anyio.fail_after(40):
            await interpreter.warm()
        assert len(family(os.getpid())) > len(before) + 3

    await until(lambda: set(family(os.getpid())) <= set(before))


async def test_leaving_an_interpreter_that_is_just_being_warmed_leaves_nothing(bare_settings, until, family):
    before = family(os.getpid())
    for pause_s in (0, 0.05, 0.15, 0.25):
        async with CodeInterpreter(settings=bare_settings(environment="ready", ready_sandboxes=2)) as interpreter:
            await interpreter._supervisor("ready")
            await anyio.sleep(pause_s)

    await until(lambda: set(family(os.getpid())) <= set(before))
