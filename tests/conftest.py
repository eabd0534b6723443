"""What every test may ask for: the data directory, the environment `data` in it, and what a machine must have.

Three variables are read.  `BICHAT_DATA_DIR` and `BICHAT_TEST_DATA_DIR` (which goes first) say where the environments
lie, by default where the command line keeps them, so that they are built once.  `BICHAT_REQUIRE=namespaces,network`
turns the skipping of what this machine lacks into failures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from bichat.sandbox.environments import Environment

_ANYBODY = (
    "acceptance/test_db.py",
    "acceptance/test_node_client.py",
    "acceptance/test_save.py",
    "acceptance/test_shell.py",
    "acceptance/test_telemetry.py",
    "acceptance/test_tenant.py",
    "acceptance/test_traces.py",
    "differential",
    "docs",
    "fuzz",
    "integration/archive",
    "integration/charts",
    "integration/clients",
    "integration/conversation",
    "integration/repository",
    "integration/server",
    "integration/test_environments.py",
)
_READ = ("BICHAT_DATA_DIR", "BICHAT_TEST_DATA_DIR", "BICHAT_REQUIRE")


def pytest_configure() -> None:
    """Before any test is collected: the person's own settings must not change what the tests see."""
    from bichat.settings.location import data_dir

    for name in [name for name in os.environ if name.startswith("BICHAT_") and name not in _READ]:
        del os.environ[name]
    os.environ["BICHAT_DATA_DIR"] = os.environ.get("BICHAT_TEST_DATA_DIR") or str(data_dir())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what does not depend on who runs it."""
    here = Path(__file__).parent
    for item in items:
        if any(item.path.is_relative_to(here / place) for place in _ANYBODY):
            item.add_marker("anybody")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where environments are kept between test runs; `BICHAT_DATA_DIR` says the same to every process."""
    from bichat.settings.location import data_dir, make_data_dir

    return make_data_dir(data_dir())


@pytest.fixture(scope="session")
def data_environment(data_dir: Path) -> Environment:
    """The environment `data`, built now if it never was: that takes one to two minutes and a network."""
    from bichat.sandbox.environments import EnvironmentStore

    store = EnvironmentStore(data_dir)
    return store.find("data") or store.build("data")


@pytest.fixture
def own_data_dir(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, data_environment: Environment) -> Path:
    """A data directory of the test's own, with the environments that there are: for what keeps files and a record."""
    del data_environment
    folder = tmp_path_factory.mktemp("data")
    (folder / "environments").symlink_to(data_dir / "environments")
    return folder


@pytest.fixture(scope="session")
def require() -> Callable[[str, str], None]:
    """`require("network", "no registry answers")`: skip with the reason, or fail where `BICHAT_REQUIRE` names it."""

    def lacking(what: str, reason: str) -> None:
        if what in os.environ.get("BICHAT_REQUIRE", "").split(","):
            pytest.fail(f"{what} is required here: {reason}")
        pytest.skip(f"{what}: {reason}")

    return lacking


@pytest.fixture(scope="session")
def strange_host(require: Callable[[str, str], None]) -> Callable[..., list[str]]:
    """`strange_host("umask:777")`: the words before a command that runs it on a host like that; see `strange_host.py`."""
    program = Path(__file__).with_name("strange_host.py")

    def words(*steps: str) -> list[str]:
        return [sys.executable, str(program), *steps, "--"]

    tried = subprocess.run([*words("processes"), "/bin/true"], capture_output=True, check=False)
    if tried.returncode != 0:
        require("namespaces", f"another kind of host cannot be made here: {tried.stderr.decode()}")
    return words


@pytest.fixture(scope="session")
def open_descriptors() -> Callable[[], dict[int, str]]:
    """`open_descriptors()`: what this process holds open, by number, but for files of /proc.

    The watchdogs of interpreters that other tests keep look into those at any moment.
    """

    def held() -> dict[int, str]:
        found: dict[int, str] = {}
        for number in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):
                found[number] = os.readlink(f"/proc/self/fd/{number}")
        return {number: target for number, target in found.items() if not target.startswith("/proc/")}

    return held
