"""Environments without packages, which start in a moment, and interpreters that use one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import pytest

from bichat import CodeInterpreter, Limits
from bichat.errors import SandboxUnavailableError
from bichat.sandbox.environments.environment import MANIFEST, Environment
from bichat.sandbox.environments.recipe import folder_key
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


@pytest.fixture
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
