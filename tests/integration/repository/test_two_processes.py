"""Processes that share a database: none touches the other's live work, and together they do everything once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bichat.errors import ConflictError, NotFoundError
from bichat.repository import open_repository
from bichat.repository.records import FileState, Policy, RunState
from bichat.testing.repository_tests.chat import Chat, everything, lease, moment, output, stored, upload

pytestmark = pytest.mark.anyio

_PRELUDE = """
import json, sys
from datetime import UTC, datetime, timedelta
import anyio
from bichat.errors import BichatError
from bichat.repository import open_repository
from bichat.repository.records import *
from bichat.testing.repository_tests.chat import *

def tell(value):
    print(json.dumps(value, default=str), flush=True)

def wait():
    assert sys.stdin.readline(), "the test is gone"

async def main():
    async with open_repository(sys.argv[1]) as repository:
        chat = Chat(repository, "acme")
        await work(repository, chat)
"""


class Process:
    """Another process on the same database."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self.running = running

    def told(self) -> Any:
        """The next thing that it says."""
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        assert line, "it ended: see its stderr"
        return json.loads(line)

    def go_on(self) -> None:
        """Let it take its next step."""
        assert self.running.stdin is not None
        self.running.stdin.write("\n")
        self.running.stdin.flush()


@pytest.fixture
def start(address) -> Generator[Callable[[str], Process]]:
    """`start(code)`: a process that does `async def work(repository, chat)`."""
    with ExitStack() as exits:

        def started(code: str) -> Process:
            command = [sys.executable, "-W", "error", "-c", f"{_PRELUDE}\n{code}\nanyio.run(main)", address]
            running = exits.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            exits.callback(running.kill)
            return Process(running)

        yield started


_RESERVE = """
async def work(repository, chat):
    mine = lease("first", datetime.now(UTC) + timedelta(minutes=1))
    execution = await chat.execution(await chat.session(lease=mine), lease=mine)
    run = await chat.run(await chat.conversation(), lease=mine)
    made = await repository.outputs.reserve("acme", output("acme", execution.id, lease=mine))
    file = await repository.files.reserve("acme", upload("acme", lease=mine))
    tell([made.id, made.storage_key, file.id, execution.id, run.id])
    wait()
    try:
        await repository.outputs.publish("acme", made.id, stored(made.storage_key))
        await repository.files.publish("acme", file.id, stored(file.storage_key))
        tell("published")
    except BichatError as error:
        tell(error.code)
"""


async def test_a_second_process_that_sweeps_leaves_the_first_ones_work_alone(start, repository):
    first = start(_RESERVE)
    made, _, file, _, run = first.told()

    swept = await repository.upkeep.sweep(datetime.now(UTC))
    first.go_on()

    assert first.told() == "published"
    assert (swept.outputs, swept.files, swept.runs, swept.sessions, swept.executions) == (0, 0, 0, 0, 0)
    assert (await repository.outputs.get("acme", made)).state is FileState.AVAILABLE
    assert (await repository.files.get("acme", file)).state is FileState.AVAILABLE
    assert (await repository.runs.get("acme", run)).state is RunState.RUNNING


async def test_what_a_killed_process_was_at_is_taken_once_its_lease_has_run_out_and_not_before(start, repository):
    first = start(_RESERVE)
    _, key, file, execution, run = first.told()
    first.running.kill()
    first.running.wait()

    assert (await repository.upkeep.sweep(datetime.now(UTC))).outputs == 0
    swept = await repository.upkeep.sweep(datetime.now(UTC) + timedelta(minutes=2))

    assert (swept.outputs, swept.files, swept.runs, swept.sessions, swept.executions) == (1, 1, 1, 1, 1)
    assert key in await Chat(repository, "acme").waiting()
    assert (await repository.executions.get("acme", execution)).status == "lost"
    assert (await repository.runs.get("acme", run)).state is RunState.FAILED
    with pytest.raises(NotFoundError):
        await repository.files.get("acme", file)


async def test_a_process_that_is_killed_in_a_transaction_leaves_nothing_of_it_and_no_lock(start, repository):
    chat = Chat(repository, "acme")
    file = await chat.upload()
    inside = """
import sqlalchemy as sa
from bichat.repository.database import open_database
async def work(repository, chat):
    async with open_database(sys.argv[1]).writing() as connection:
        await connection.execute(sa.text("DELETE FROM bichat_files"))
        tell("inside")
        wait()
"""
    first = start(inside)
    assert first.told() == "inside"
    first.running.kill()
    first.running.wait()

    assert await repository.files.get("acme", file.id) == file
    assert await chat.waiting() == {}
    await repository.files.delete("acme", file.id)
    assert set(await chat.waiting()) == {file.storage_key}


async def test_a_process_that_comes_too_late_is_told_that_its_work_was_taken(start, repository):
    first = start(_RESERVE)
    made, key, *_ = first.told()
    await repository.upkeep.sweep(datetime.now(UTC) + timedelta(minutes=2))

    first.go_on()

    assert first.told() == "not_found"
    assert key in await Chat(repository, "acme").waiting()
    with pytest.raises(NotFoundError):
        await repository.outputs.get("acme", made)


async def test_two_processes_that_sweep_and_work_off_the_outbox_do_everything_once(start, repository):
    chat = Chat(repository, "acme")
    execution = await chat.execution()
    gone, alive = lease("gone", moment()), lease("alive")
    for _ in range(40):
        await repository.outputs.reserve("acme", output("acme", execution.id, lease=gone))
        await repository.files.reserve("acme", upload("acme", lease=gone))
    kept = [await repository.files.reserve("acme", upload("acme", lease=alive)) for _ in range(10)]
    sweeping = """
async def work(repository, chat):
    tell("ready")
    wait()
    total, keys = 0, []
    while (swept := await repository.upkeep.sweep(moment(1), limit=3)).outputs + swept.files:
        total += swept.outputs + swept.files
        for deletion in await repository.outbox.claim(datetime.now(UTC) + timedelta(minutes=1), limit=4):
            keys.append(deletion.storage_key)
            await repository.outbox.done(deletion.id)
    while claimed := await repository.outbox.claim(datetime.now(UTC) + timedelta(minutes=1), limit=4):
        for deletion in claimed:
            keys.append(deletion.storage_key)
            await repository.outbox.done(deletion.id)
    tell([total, keys])
"""
    both = [start(sweeping), start(sweeping)]
    for process in both:
        assert process.told() == "ready"
    for process in both:
        process.go_on()

    (one, some), (other, others) = [process.told() for process in both]

    assert one + other == 80
    assert len({*some, *others}) == len(some) + len(others) == 80
    assert await chat.waiting() == {}
    for file in kept:
        await repository.files.publish("acme", file.id, stored(file.storage_key))


async def test_two_processes_stay_within_one_quota_and_one_run_and_lose_no_write(start, repository):
    chat = Chat(repository, "acme")
    await repository.tenants.set_policy("acme", Policy(quota_files=30))
    conversation = await chat.conversation()
    writing = f"""
async def work(repository, chat):
    conversation = await repository.conversations.get("acme", "{conversation.id}")
    tell("ready")
    wait()
    done = dict(files=0, runs=0, messages=0)
    async def attempt(number):
        for name, step in (("files", chat.upload), ("runs", lambda: chat.run(conversation))):
            try:
                await step()
                done[name] += 1
            except BichatError as error:
                assert error.code in ("limit_exceeded", "conflict"), error
        await chat.message(conversation, str(number))
        done["messages"] += 1
    async with anyio.create_task_group() as tasks:
        for number in range(25):
            tasks.start_soon(attempt, number)
    tell(done)
"""
    both = [start(writing), start(writing)]
    for process in both:
        assert process.told() == "ready"
    for process in both:
        process.go_on()

    one, other = [process.told() for process in both]

    assert one["files"] + other["files"] == 30
    assert one["runs"] + other["runs"] == 1
    assert (await repository.tenants.usage("acme")).files == 30
    assert len(await everything(repository.messages.page, "acme", conversation.id)) == 50
    with pytest.raises(ConflictError):
        await chat.run(conversation)


async def test_a_lease_that_is_renewed_while_another_process_sweeps_is_never_lost(start, address):
    sweeping = """
async def work(repository, chat):
    tell("ready")
    wait()
    taken = 0
    for _ in range(40):
        swept = await repository.upkeep.sweep(datetime.now(UTC), limit=10)
        taken += swept.outputs + swept.files + swept.executions + swept.sessions + swept.runs
    tell(taken)
"""
    other = start(sweeping)
    assert other.told() == "ready"
    async with open_repository(address) as repository:
        mine = lease("mine", datetime.now(UTC) + timedelta(minutes=5))
        for _ in range(10):
            await repository.files.reserve("acme", upload("acme", lease=mine))
        other.go_on()
        for _ in range(40):
            assert await repository.upkeep.renew("mine", datetime.now(UTC) + timedelta(minutes=5)) == 10

        assert other.told() == 0
