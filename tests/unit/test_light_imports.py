"""What is loaded when: `import bichat` and the start of `bichat run` stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "anyio",
    "asyncio",
    "pydantic",
    "pydantic_settings",
    "prompt_toolkit",
    "rich",
    "typer",
    "uv",
    "fastapi",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "openai",
}


def _loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import bichat", id="the package"),
        pytest.param("import bichat; bichat.Limits()", id="its values"),
        pytest.param("import bichat.cli.head_start", id="the head start of bichat run"),
    ],
)
def test_nothing_heavy_is_loaded(statement):
    assert _loaded_after(statement) & HEAVY == set()


@pytest.mark.parametrize("module", ["bichat.cli.app", "bichat.repository", "bichat.repository.records"])
def test_a_database_is_loaded_for_those_alone_who_open_one(module):
    assert _loaded_after(f"import {module}") & {"sqlalchemy", "alembic", "aiosqlite", "psycopg"} == set()


def test_the_official_client_is_loaded_by_those_alone_who_bring_one():
    assert _loaded_after("import bichat.clients, bichat.executor, bichat.agent.local_executor") & {"openai"} == set()


def test_the_line_editor_is_loaded_for_the_shell_alone():
    loaded = _loaded_after("import bichat.cli.app, bichat.cli.run, bichat.interpreter")

    assert loaded & {"prompt_toolkit", "pygments"} == set()


def test_using_the_sandbox_elsewhere_than_linux_says_what_to_do():
    code = (
        "import sys; sys.platform = 'darwin'\n"
        "import bichat\n"
        "try: bichat.CodeInterpreter\n"
        "except bichat.SandboxUnavailableError as error: print(error.code, error.message, error.remedy)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.startswith("sandbox_unavailable the sandbox needs the Linux kernel, and this is darwin")
    assert "WSL 2" in done.stdout
