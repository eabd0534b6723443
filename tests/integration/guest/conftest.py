"""Sessions of the environment `data`, driven from outside: what the guest makes of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from bichat import CodeInterpreter, Limits
from bichat.domain import ExecutionResult
from bichat.errors import SandboxUnavailableError
from bichat.session import Session
from bichat.settings.settings import Settings
from bichat.sizes import MIB

#: Small, so that a bomb that goes off hurts nobody.
LIMITS = Limits(timeout_s=60, memory_bytes=1024 * MIB, disk_bytes=64 * MIB)

Run = Callable[..., ExecutionResult]


@pytest.fixture(scope="package")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(scope="package")
def interpreter(portal: BlockingPortal, data_dir: Path, data_environment, require) -> Iterator[CodeInterpreter]:
    """One for all tests here, and gone after them: its zygote takes seconds to import what the environment has."""
    settings = Settings(data_dir=data_dir, environment=data_environment.name, limits=LIMITS)
    try:
        with portal.wrap_async_context_manager(CodeInterpreter(settings=settings)) as opened:
            portal.call(opened.run, "pass")
            yield opened
    except SandboxUnavailableError as error:
        require("namespaces", f"{error} ({error.remedy})")


@pytest.fixture
def session(portal: BlockingPortal, interpreter: CodeInterpreter) -> Iterator[Session]:
    """A fresh one for each test."""
    with portal.wrap_async_context_manager(interpreter.session()) as opened:
        yield opened


@pytest.fixture
def run(portal: BlockingPortal, session: Session) -> Run:
    """`run(code)`: the next cell of the session."""
    return lambda code, **options: portal.call(partial(session.run, code, **options))


@pytest.fixture
def run_script(portal: BlockingPortal, interpreter: CodeInterpreter) -> Run:
    """`run_script(code)`: a program in a sandbox of its own."""
    return lambda code, **options: portal.call(partial(interpreter.run, code, **options))


@pytest.fixture
def interrupted(portal: BlockingPortal, session: Session) -> Run:
    """`interrupted(code)`: a cell that is interrupted once it has made a file called `begun`."""

    async def begun() -> None:
        while not any(file.name == "begun" for file in await session.files()):
            pass

    def run_and_interrupt(code: str) -> ExecutionResult:
        running: Future[ExecutionResult] = portal.start_task_soon(session.run, code)
        portal.call(begun)
        portal.call(session.interrupt)
        return running.result(timeout=60)

    return run_and_interrupt
