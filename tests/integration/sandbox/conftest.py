"""Attacks and honest programs, run in real sandboxes of a bare environment (no packages)."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from bichat.domain import Artifact, CodeError, Limits, RefusedFile, Status
from bichat.errors import SandboxUnavailableError
from bichat.sandbox.artifacts import Capture
from bichat.sandbox.environments.environment import MANIFEST, Environment
from bichat.sandbox.environments.recipe import folder_key
from bichat.sandbox.inputs import check_inputs
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer, Level
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor
from bichat.sizes import MIB

PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
#: Small, so that a bomb that goes off hurts nobody.
SMALL = Limits(
    timeout_s=30,
    memory_bytes=256 * MIB,
    disk_bytes=64 * MIB,
    inodes=1_000,
    pids=64,
    output_kill_bytes=8 * MIB,
)
#: No run may outlast this, whatever becomes of it.
_BOUND_S = 50


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that came out of one attack."""

    ended: Ended
    captured: Capture

    @property
    def status(self) -> Status:
        return self.ended.status

    @property
    def stdout(self) -> str:
        return self.ended.stdout.text

    @property
    def stderr(self) -> str:
        return self.ended.stderr.text

    @property
    def error(self) -> CodeError:
        assert self.ended.error is not None, f"the code completed: {self.stdout}"
        return self.ended.error

    @property
    def answer(self) -> Any:
        """What the code handed to `answer` last."""
        for line in reversed(self.stdout.splitlines()):
            if line.startswith('{"answer":'):
                return json.loads(line)["answer"]
        pytest.fail(f"the code gave no answer: {self.ended}")

    @property
    def files(self) -> dict[str, Artifact]:
        return {artifact.name: artifact for artifact in self.captured.artifacts}

    @property
    def refused(self) -> dict[str, RefusedFile]:
        return {refused.name: refused for refused in self.captured.refused}


class RunCode(Protocol):
    """Run `code` in a fresh sandbox; `given` are constants that it finds by name; `fresh`: from a zygote of its own."""

    def __call__(
        self,
        code: str,
        *,
        limits: Limits = SMALL,
        layers: frozenset[Layer] = ALL_LAYERS,
        given: Mapping[str, object] | None = None,
        files: Mapping[str, Any] | None = None,
        environment: Environment | None = None,
        supervisor: Supervisor | None = None,
        fresh: bool = False,
    ) -> Outcome: ...


def with_probe(code: str, given: Mapping[str, object] | None = None) -> str:
    constants = "".join(f"{name} = {value!r}\n" for name, value in (given or {}).items())
    return PROBE + constants + textwrap.dedent(code)


async def attack(
    supervisor: Supervisor, code: str, *, limits: Limits = SMALL, files: Mapping[str, Any] | None = None
) -> Outcome:
    """Run `code` as it is in a fresh sandbox of `supervisor`, and close that."""
    with anyio.fail_after(_BOUND_S):
        sandbox = await supervisor.open(limits)
        try:
            await sandbox.put(check_inputs(files or {}, limits))
            async for event in sandbox.execute(code, name="main.py", timeout_s=limits.timeout_s):
                if isinstance(event, Ended):
                    return Outcome(event, await sandbox.capture())
        finally:
            await sandbox.close()
    raise AssertionError("an execution ends with Ended")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("namespaces")


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own: supervisors that live longer than one test live there."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session", autouse=True)
def needs_namespaces(portal: BlockingPortal, bare_environment: Environment, spool_folder: Path, require) -> None:
    """Everything here runs at the level `namespaces`, which this host may not have."""

    async def try_one() -> None:
        async with Supervisor(bare_environment, spool_folder=spool_folder) as supervisor:
            await attack(supervisor, "pass")

    try:
        portal.call(try_one)
    except SandboxUnavailableError as error:
        require("namespaces", f"{error} ({error.remedy})")


@pytest.fixture(scope="session")
def open_environment(
    portal: BlockingPortal, bare_environment: Environment, make_bare_environment, spool_folder: Path, require
) -> Iterator[Environment]:
    """As `bare_environment`, for the level `landlock` too: every user can reach it, and its Python."""
    with ExitStack() as exits:
        environment = bare_environment
        if os.geteuid() == 0:
            # Guests are other users then, and the interpreter that runs the tests may lie in root's own home.
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bichat-tests-")))
            folder.chmod(0o755)
            base_python = Path("/usr/bin/python3").resolve()
            if not base_python.exists():
                require("landlock", "root's guests need a Python that every user can reach: /usr/bin/python3")
            environment = make_bare_environment(folder / "bare", base_python, Path("/usr"))

        async def try_one() -> None:
            layers = Level.LANDLOCK.layers
            async with Supervisor(environment, spool_folder=spool_folder, layers=layers) as supervisor:
                await attack(supervisor, "pass")

        try:
            portal.call(try_one)
        except SandboxUnavailableError as error:
            require("landlock", f"{error} ({error.remedy})")
        yield environment


@pytest.fixture(scope="session")
def open_data_dir(open_environment: Environment, bare_data_dir: Path) -> Iterator[Path]:
    """As `bare_data_dir`, for the level `landlock` too; `open_environment` in it as `bare`, and as `ready` with a preload."""
    if os.geteuid() != 0:
        yield bare_data_dir
        return
    with tempfile.TemporaryDirectory(prefix="bichat-tests-") as folder:
        data_dir = Path(folder)
        data_dir.chmod(0o755)
        for name, preload in (("bare", ()), ("ready", ("json",))):
            path = data_dir / "environments" / name / folder_key("")
            shutil.copytree(open_environment.path, path, symlinks=True)
            manifest = replace(open_environment, path=path, name=name, preload=preload).to_dict()
            (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        yield data_dir


@pytest.fixture(params=list(Level), ids=str)
def level(request: pytest.FixtureRequest) -> Level:
    """Each level in turn."""
    return request.param


@pytest.fixture(scope="session", name="limits")
def _limits() -> Limits:
    return SMALL


@pytest.fixture(scope="session", name="with_probe")
def _with_probe():
    """`with_probe(code)`: the code with the attacker's helpers before it, for tests that drive a sandbox themselves."""
    return with_probe


@pytest.fixture(scope="session", name="attack")
def _attack():
    """`await attack(supervisor, code)`: for tests that need an event loop's hand on what they do."""
    return attack


@pytest.fixture(scope="session")
def spool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="session")
def supervise(portal: BlockingPortal, bare_environment: Environment, spool_folder: Path):
    """A supervisor for an environment and layers; one each, alive until the session ends."""
    supervisors: dict[tuple[Path, frozenset[Layer]], Supervisor] = {}
    with ExitStack() as exits:

        def supervisor(environment: Environment | None = None, layers: frozenset[Layer] = ALL_LAYERS) -> Supervisor:
            environment = environment or bare_environment
            key = (environment.path, layers)
            if key not in supervisors:
                fresh = Supervisor(environment, spool_folder=spool_folder, layers=layers)
                supervisors[key] = exits.enter_context(portal.wrap_async_context_manager(fresh))
            return supervisors[key]

        yield supervisor


@pytest.fixture(scope="session")
def run_code(portal: BlockingPortal, supervise, bare_environment: Environment, spool_folder: Path) -> RunCode:
    def run(
        code: str,
        *,
        limits: Limits = SMALL,
        layers: frozenset[Layer] = ALL_LAYERS,
        given: Mapping[str, object] | None = None,
        files: Mapping[str, Any] | None = None,
        environment: Environment | None = None,
        supervisor: Supervisor | None = None,
        fresh: bool = False,
    ) -> Outcome:
        with ExitStack() as exits:
            if fresh:
                supervisor = Supervisor(environment or bare_environment, spool_folder=spool_folder, layers=layers)
                exits.enter_context(portal.wrap_async_context_manager(supervisor))
            chosen = supervisor or supervise(environment, layers)
            whole = with_probe(code, given)
            return portal.call(lambda: attack(chosen, whole, limits=limits, files=files))

    return run


@pytest.fixture(scope="session")
def open_sandbox(portal: BlockingPortal):
    """A sandbox of a supervisor as a context manager, for tests that drive it themselves through the portal."""

    @contextmanager
    def opened(supervisor: Supervisor, limits: Limits = SMALL) -> Generator[NamespaceSandbox]:
        sandbox = portal.call(lambda: supervisor.open(limits))
        try:
            yield sandbox
        finally:
            portal.call(sandbox.close)

    return opened


@pytest.fixture
def leaky_descriptor(tmp_path: Path) -> Iterator[str]:
    """A file of the server, open and inheritable as no careful server would have it."""
    path = tmp_path / "canary"
    path.write_text("secret", encoding="utf-8")
    with path.open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        yield str(path)
