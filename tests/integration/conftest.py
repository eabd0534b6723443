"""Environments without packages, which start in a moment, and sessions in them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from bichat import CodeInterpreter, Completed, Limits, Stdout
from bichat.errors import SandboxUnavailableError, SessionEndedError
from bichat.sandbox.environments.environment import MANIFEST, Environment
from bichat.sandbox.environments.recipe import folder_key
from bichat.session import Session
from bichat.settings.settings import Settings
from bichat.sizes import MIB

#: Small, so that a bomb that goes off hurts nobody.
SMALL = Limits(
    timeout_s=30,
    memory_bytes=256 * MIB,
    disk_bytes=64 * MIB,
    inodes=1_000,
    pids=64,
    output_kill_bytes=8 * MIB,
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def make_bare_environment():
    """An environment without packages, made by hand: what `python -m venv --without-pip` makes, where that is missing too."""

    def make(folder: Path, base_python: Path, base_prefix: Path) -> Environment:
        version = base_python.name.removeprefix("python")
        (folder / "bin").mkdir(parents=True)
        (folder / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(base_python)
        # Without the second line a Python that is no virtual environment's own would lend its packages.
        (folder / "pyvenv.cfg").write_text(
            f"home = {base_python.parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
        )
        return Environment(
            name="bare",
            path=folder,
            base_prefix=base_prefix,
            base_python=base_python,
            python_version=version,
            lock_hash="",
            created_at=datetime.now(UTC),
        )

    return make


@pytest.fixture(scope="session")
def make_own_bare_environment(make_bare_environment) -> Callable[[Path], Environment]:
    """The same of the running interpreter's base Python."""

    def make(folder: Path) -> Environment:
        base_python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        return make_bare_environment(folder, base_python, Path(sys.base_prefix))

    return make


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory, make_own_bare_environment) -> Environment:
    """The running interpreter's base Python, and no package."""
    return make_own_bare_environment(tmp_path_factory.mktemp("environment") / "bare")


@pytest.fixture(scope="session")
def bare_data_dir(tmp_path_factory: pytest.TempPathFactory, make_own_bare_environment) -> Path:
    """A data directory with environments of no packages: `bare` and `other` preload nothing, `ready` a module."""
    data_dir = tmp_path_factory.mktemp("data")
    for name, preload in (("bare", ()), ("other", ()), ("ready", ("json",)), ("hopeful", ("json", "no_such_module"))):
        made = make_own_bare_environment(data_dir / "environments" / name / folder_key(""))
        manifest = replace(made, name=name, preload=preload).to_dict()
        (made.path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return data_dir


@pytest.fixture(scope="session")
def bare_settings(bare_data_dir: Path) -> Callable[..., Settings]:
    """`bare_settings(caps=...)`: settings whose sandboxes are small and have no packages."""
    small = Settings(data_dir=bare_data_dir, environment="bare", limits=SMALL)
    return partial(replace, small)


@pytest.fixture(scope="session")
def needs_namespaces_here(bare_settings, require) -> None:
    """Sessions run at the level `namespaces`, which this host may not have."""

    async def try_one() -> None:
        async with CodeInterpreter(settings=bare_settings(), preload=False) as interpreter:
            await interpreter.run("pass")

    try:
        anyio.run(try_one)
    except SandboxUnavailableError as error:
        require("namespaces", f"{error} ({error.remedy})")


@pytest.fixture(scope="session")
def family():
    """The living processes below a pid of ours, itself included."""

    def living(root: int) -> list[int]:
        found = [root] if os.path.exists(f"/proc/{root}") else []
        for pid in found:
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with suppress(OSError):
                        found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_bytes().split())
        return [pid for pid in found if _is_living(pid)]

    return living


def _is_living(pid: int) -> bool:
    """Whether it is there and not a zombie, which its parent may not have looked at yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------------ sessions


@pytest.fixture(scope="module")
async def interpreter(bare_settings, needs_namespaces_here) -> AsyncGenerator[CodeInterpreter]:
    """One for the tests of a module that do it no harm."""
    async with CodeInterpreter(settings=bare_settings(), preload=False) as opened:
        yield opened


@pytest.fixture
async def session(interpreter: CodeInterpreter) -> AsyncGenerator[Session]:
    """A fresh one."""
    async with interpreter.session() as opened:
        yield opened


@pytest.fixture(scope="session", name="limits")
def _limits(bare_settings) -> Callable[..., Limits]:
    """`limits(idle_s=1)`: small ones, with these changed."""
    return partial(replace, bare_settings().limits)


@pytest.fixture(scope="session", name="until")
def _until():
    """`await until(lambda: ...)`: wait for something that nobody tells us of."""

    async def until(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():  # noqa: ASYNC110  # nobody sets an event when a process has gone
                await anyio.sleep(0.01)

    return until


@pytest.fixture(scope="session", name="begun")
def _begun():
    """`async with begun(session, code) as outcome`: entered with the first output of `code`, left with its end.

    Then `outcome` holds its `result`, or the `error` of a session that has ended.
    """

    @asynccontextmanager
    async def begun(
        session: Session, code: str = "import time\nprint('started', flush=True)\ntime.sleep(60)"
    ) -> AsyncGenerator[dict[str, Any]]:
        outcome: dict[str, Any] = {}
        has_begun = anyio.Event()

        async def run() -> None:
            try:
                async for event in session.stream(code):
                    if isinstance(event, Stdout):
                        has_begun.set()
                    elif isinstance(event, Completed):
                        outcome["result"] = event.result
            except SessionEndedError as error:
                outcome["error"] = error

        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await has_begun.wait()
                yield outcome

    return begun


@pytest.fixture(scope="session", name="answer")
def _answer():
    """`await answer(session, "x + 1")`: what the expression is there, printed."""

    async def answer(session: Session, expression: str) -> str:
        with anyio.fail_after(40):
            result = await session.run(f"print({expression})")
        assert result.ok, result.error
        return result.stdout.removesuffix("\n")

    return answer


@pytest.fixture(scope="session", name="ended_error")
def _ended_error():
    """`await ended_error(session)`: what the next call raises in a session that has ended."""

    async def ended_error(session: Session) -> SessionEndedError:
        with anyio.fail_after(40), pytest.raises(SessionEndedError) as caught:
            await session.run("print('alive')")
        return caught.value

    return ended_error


@pytest.fixture(scope="session", name="growth_of")
def _growth_of():
    """`with growth_of() as bytes_grown`: `bytes_grown()` is how far the memory of this process has risen at most since."""

    @contextmanager
    def measured() -> Generator[Callable[[], int]]:
        def resident(field: str) -> int:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is held now
        before = resident("VmRSS")
        yield lambda: resident("VmHWM") - before

    return measured
