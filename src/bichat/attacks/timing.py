"""Attacks on moments: of tear-down, of collecting, of opening.  What was to end has ended, and nothing comes after it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import anyio

from bichat.attacks.attack import SMALL, Attack, Family, Statement, expect, through
from bichat.attacks.ground import Ground
from bichat.attacks.host import family
from bichat.domain import Status
from bichat.errors import BichatError
from bichat.sandbox.inputs import check_inputs
from bichat.sandbox.isolation.layers import Layer
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.sandbox import Ended
from bichat.sizes import MIB

#: How long the server may take to end what it ends; it is far less, on an idle machine.
_END_S: Final = 4.0


async def _nothing_lives_on(ground: Ground, attack: Attack) -> list[Statement]:
    """After the sandbox is closed there are as many processes below the server as before."""
    before = set(family(os.getpid()))
    ran = await ground.run(attack.code, limits=attack.limits)
    with anyio.move_on_after(_END_S):
        while set(family(os.getpid())) - before:  # noqa: ASYNC110  # nobody tells of another's children
            await anyio.sleep(0.01)
    left = sorted(set(family(os.getpid())) - before)
    started = ran.fact("started")
    return [
        expect(bool(started), "teardown", f"processes that it had started: {started}"),
        expect(not left, "teardown", f"processes left when the sandbox was closed: {left or 'none'}"),
    ]


async def _nothing_written_after(ground: Ground, attack: Attack) -> list[Statement]:
    """What a process that was left writes after the sandbox was closed reaches nobody: there is no such process."""
    async with ground.sandbox(attack.limits) as sandbox:
        ended = await ground.execute(sandbox, attack.code, limits=attack.limits)
        folder = os.dup(sandbox._handles.folder)  # noqa: SLF001  # what the supervisor itself reads by
    try:
        before = _sizes(folder)
        await anyio.sleep(0.1)
        after = _sizes(folder)
    finally:
        os.close(folder)
    return [
        expect(ended.status is Status.COMPLETED, "teardown", f"the code ended as {ended.status.value}"),
        expect(before == after, "teardown", f"sizes after the end: {before}, and later {after}"),
    ]


def _sizes(folder: int) -> dict[str, int]:
    found: dict[str, int] = {}
    with suppress(OSError):
        for name in os.listdir(folder):
            found[name] = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    return found


async def _ended_in_the_middle_of_a_read(ground: Ground, attack: Attack) -> list[Statement]:
    """The tree is killed while its files are read: what comes out is whole, or an error in words."""
    said: list[Statement] = []
    for delay_s in (0.0, 0.001, 0.005, 0.02):
        async with ground.sandbox(attack.limits) as sandbox:
            await ground.execute(sandbox, attack.code, limits=attack.limits)
            try:
                async with _killed_after(sandbox, delay_s):
                    captured = await sandbox.capture()
            except BichatError as error:
                said.append(expect(True, "supervisor", f"an error in words: {error}"))
                continue
        sizes = {artifact.name: sum(map(len, artifact.content.chunks())) for artifact in captured.artifacts}
        told = {artifact.name: artifact.size_bytes for artifact in captured.artifacts}
        said.append(expect(sizes == told, "collector", f"{len(sizes)} files, each as long as it says"))
    return said


async def _ended_in_the_middle_of_a_write(ground: Ground, attack: Attack) -> list[Statement]:
    """The tree is killed while files are put into it: an error in words, or all of them are there."""
    inputs = check_inputs({"large.bin": bytes(16 * MIB)}, attack.limits)
    for delay_s in (0.0, 0.002, 0.01):
        async with ground.sandbox(attack.limits) as sandbox:
            with suppress(BichatError):
                async with _killed_after(sandbox, delay_s):
                    await sandbox.put(inputs)
    return [expect(await ground.is_well(), "supervisor", "the next one runs")]


@asynccontextmanager
async def _killed_after(sandbox: NamespaceSandbox, delay_s: float) -> AsyncGenerator[None]:
    """The sandbox is killed so long after the block began; the block goes on."""

    async def kill() -> None:
        await anyio.sleep(delay_s)
        sandbox.kill(Status.CANCELLED)

    failure: BichatError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        try:
            yield
        except BichatError as error:  # not in the group, which would wrap it
            failure = error
    if failure is not None:
        raise failure


async def _walked_away(ground: Ground, attack: Attack) -> list[Statement]:
    """The caller stops listening at the first word; the code does not heed that, and is ended all the same."""
    before = set(family(os.getpid()))
    async with ground.sandbox(attack.limits) as sandbox:
        code = ground.with_prelude(attack.code)
        events = sandbox.execute(code, name="attack.py", timeout_s=30.0)
        with anyio.fail_after(_END_S):
            async for event in events:
                if not isinstance(event, Ended):
                    break
            await events.aclose()
            began = time.monotonic()
            await sandbox.settle()
            lasted = time.monotonic() - began
    with anyio.move_on_after(_END_S):
        while set(family(os.getpid())) - before:  # noqa: ASYNC110  # nobody tells of another's children
            await anyio.sleep(0.01)
    left = sorted(set(family(os.getpid())) - before)
    return [
        expect(lasted < _END_S, "supervisor", f"ended after {lasted:.1f} s"),
        expect(not left, "teardown", f"processes left: {left or 'none'}"),
    ]


async def _hung_collector(ground: Ground, attack: Attack) -> list[Statement]:
    """Collecting files of a guest that changes them all the time ends, and the guest's sandbox with it."""
    async with ground.sandbox(attack.limits) as sandbox:
        await ground.execute(sandbox, attack.code, limits=attack.limits)
        try:
            with anyio.fail_after(_END_S):
                for _ in range(5):
                    await sandbox.capture()
        except TimeoutError:
            return [through(f"collecting took longer than {_END_S:.0f} s")]
    return [expect(True, "collector", "five times collected while files came and went")]


async def _many_at_once(ground: Ground, attack: Attack) -> list[Statement]:
    """Eight sandboxes at once, all of which die at the same moment; each has its own answer, and nothing is left."""
    before = set(family(os.getpid()))
    answers: dict[int, object] = {}

    async def one(number: int) -> None:
        ran = await ground.run(attack.code, limits=attack.limits, given={"number": number})
        answers[number] = ran.fact("number")

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, number)
    with anyio.move_on_after(_END_S):
        while set(family(os.getpid())) - before:  # noqa: ASYNC110  # nobody tells of another's children
            await anyio.sleep(0.01)
    left = sorted(set(family(os.getpid())) - before)
    return [
        expect(answers == {number: number for number in range(8)}, "fresh sandbox", f"answers by session: {answers}"),
        expect(not left, "teardown", f"processes left: {left or 'none'}"),
    ]


async def _spool_is_empty(ground: Ground, attack: Attack) -> list[Statement]:
    """Captured bytes lie in files without names: none is left where they are kept."""
    before = sorted(os.listdir(ground.folder))
    ran = await ground.run(attack.code, limits=attack.limits)
    after = sorted(os.listdir(ground.folder))
    return [
        expect(len(ran.files) > 0, "collector", f"{len(ran.files)} files were captured"),
        expect(before == after, "collector", f"names where captured bytes are kept: {after}"),
    ]


_timing = partial(
    Attack,
    family=Family.TIMING,
    layers=(Layer.PID_NAMESPACE, Layer.OWN_PROCESS_GROUP),
    limits=replace(SMALL, timeout_s=2.0),
)
_outliving = partial(
    _timing,
    driver=_nothing_lives_on,
    expected="every process ends with its sandbox",
    limits=replace(SMALL, timeout_s=1.0),
)

ATTACKS: Final = (
    _outliving(
        name="daemon-outlives-its-session",
        tries="to live on as a daemon: forked twice, in a session of its own, with all streams closed",
        code="""
        import time
        if os.fork() == 0:
            works(os.setsid)
            if os.fork() == 0:
                os.closerange(0, 1024)
                time.sleep(60)
            os._exit(0)
        os.wait()
        os.write(1, b'{"started": 1}\\n')
        """,
    ),
    _outliving(
        name="daemons-deaf-to-signals",
        tries="to live on deaf to every signal, stopped, and in groups of their own",
        code="""
        import signal, time
        for number in range(4):
            if os.fork() == 0:
                for each in range(1, 65):
                    works(signal.signal, each, signal.SIG_IGN)
                works(os.setpgid, 0, 0)
                if number % 2:
                    os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(60)
        os.write(1, b'{"started": 4}\\n')
        """,
    ),
    _outliving(
        name="processes-that-breed-while-they-are-killed",
        tries="to fork faster than it is killed, each child living for a moment only",
        limits=replace(SMALL, timeout_s=0.5, pids=30),
        code="""
        import time
        os.write(1, b'{"started": 1}\\n')
        until = time.monotonic() + 3
        for _ in range(4):
            works(os.fork)
        while time.monotonic() < until:
            try:
                if os.fork():
                    os._exit(0)
            except OSError:
                pass
        """,
    ),
    _outliving(
        name="programs-that-live-on",
        tries="to start programs in the background, by a shell, with nohup",
        code="""
        import subprocess
        subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP INT; sleep 60 & sleep 61 & wait"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.write(1, b'{"started": 1}\\n')
        """,
    ),
    _outliving(
        name="process-without-its-first-thread",
        tries="to hide a process whose first thread has ended, so that it looks dead",
        code="""
        import threading
        if os.fork() == 0:
            threading.Thread(target=threading.Event().wait).start()
            call("exit", 0)
        os.write(1, b'{"started": 1}\\n')
        """,
    ),
    _timing(
        name="writes-after-the-end",
        tries="to write into its files after its session has ended, into what the server holds of them",
        driver=_nothing_written_after,
        expected="nothing is written after the end",
        code="""
        if os.fork() == 0:
            with open("growing", "ab", buffering=0) as file:
                while True:
                    works(file.write, b"x")
                    if os.fstat(file.fileno()).st_size > 1 << 20:
                        os.truncate("growing", 0)
        """,
    ),
    _timing(
        name="end-in-the-middle-of-a-read",
        tries="to have its session end while the server reads its files",
        driver=_ended_in_the_middle_of_a_read,
        expected="what comes out is whole, or an error in words",
        code="""
        for number in range(20):
            open(f"{number}", "wb").write(bytes(1 << 20))
        """,
    ),
    _timing(
        name="end-in-the-middle-of-a-write",
        tries="to have its session end while the server puts files into it",
        driver=_ended_in_the_middle_of_a_write,
        expected="an error in words, and the server goes on",
        code="pass",
    ),
    _timing(
        name="caller-who-walks-away",
        tries="to run on after its caller has gone, swallowing every interrupt",
        driver=_walked_away,
        expected="it is ended soon after",
        code="""
        import time
        print("began", flush=True)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                time.sleep(1)
            except BaseException:
                pass
        """,
    ),
    _timing(
        name="files-that-come-and-go",
        tries="to keep the collector busy for ever: files renamed, grown and deleted while it lists them",
        driver=_hung_collector,
        expected="collecting ends",
        layers=(),
        code="""
        import time
        os.mkdir("d")
        until = time.monotonic() + 5
        if os.fork() == 0:
            number = 0
            while time.monotonic() < until:
                number += 1
                works(lambda: open(f"d/{number % 300}", "wb").write(b"x" * 1000))
                works(os.rename, f"d/{number % 7}", f"{number % 11}")
                works(os.unlink, f"d/{(number + 150) % 300}")
        """,
    ),
    _timing(
        name="deaths-at-the-same-moment",
        tries="to be mistaken for another one, as eight die at once",
        driver=_many_at_once,
        expected="each has its own answer",
        layers=(),
        code="""
        os.write(1, json.dumps({"number": given["number"]}).encode() + b"\\n")
        open("own", "w").write(str(given["number"]))
        os.kill(os.getpid(), 9)
        """,
    ),
    _timing(
        name="names-of-captured-bytes",
        tries="to find what the server keeps of captured files, by a name on its disk",
        driver=_spool_is_empty,
        expected="captured bytes have no name",
        layers=(),
        code="open('kept', 'w').write('x' * 100_000)",
    ),
)
