"""Setting up from a clean checkout: what is locked, what is packed, what `make setup` does on odd machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [
    *sorted(ROOT.glob("requirements/*.txt")),
    ROOT / "src" / "bichat" / "sandbox" / "environments" / "data.txt",
]
#: Enough of the checkout to set it up.
PARTS = ["Makefile", "LICENSE", "README.md", "pyproject.toml", "requirements", "scripts", "src"]


def _pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text("utf-8"), re.MULTILINE))


@pytest.fixture(name="checkout")
def _checkout(tmp_path: Path) -> Path:
    """A fresh copy of the checkout, in a folder with spaces and an accent in its name."""
    copy = tmp_path / "my projects, été" / "bi chat"
    copy.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / part)
    return copy


Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(name="make")
def _make(checkout: Path) -> Make:
    """Runs `make` in the copy, as a person would whose umask is strict."""

    def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTEST"))}
        return subprocess.run(
            ["make", *arguments],
            cwd=checkout,
            env={**kept, **({"PATH": path} if path else {})},
            umask=0o077,
            capture_output=True,
            text=True,
            check=False,
        )

    return make


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---------------------------------------------------------------------------------------------------------- locks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_has_a_hash(lock: Path):
    entries = re.split(r"\n(?=[a-z0-9])", "\n" + lock.read_text("utf-8"))[1:]

    assert entries
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_address_and_no_place(lock: Path):
    lines = lock.read_text("utf-8").splitlines()

    assert [line for line in lines if "://" in line or "index" in line or " /" in line] == []


def test_the_lock_holds_everything_that_the_package_needs():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]

    assert {re.split(r"[<>=\[ ]", requirement)[0] for requirement in needed} <= set(
        _pinned(ROOT / "requirements" / "dev.txt")
    )


def test_setup_starts_with_the_locked_uv():
    bootstrap = _pinned(ROOT / "requirements" / "bootstrap.txt")

    assert bootstrap == {"uv": _pinned(ROOT / "requirements" / "dev.txt")["uv"]}


# -------------------------------------------------------------------------------------------------------- package


def test_the_wheel_holds_every_file_of_the_package(checkout: Path, tmp_path: Path):
    subprocess.run(
        [sys.executable, "-c", "import sys, hatchling.build as b; b.build_wheel(sys.argv[1])", str(tmp_path)],
        cwd=checkout,
        check=True,
        capture_output=True,
    )

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    present = {path.relative_to(checkout / "src").as_posix() for path in checkout.glob("src/**/*") if path.is_file()}
    assert packed == present
    assert {"bichat/py.typed", "bichat/sandbox/environments/data.txt"} <= packed


# ----------------------------------------------------------------------------------------------------------- make


def test_make_lists_every_target(make: Make):
    text = (ROOT / "Makefile").read_text("utf-8")
    phony = set(re.findall(r"^\.PHONY: (\w+)", text, re.MULTILINE))

    listed = {line.split()[1] for line in make().stdout.splitlines()}

    assert listed == phony
    assert {"setup", "demo", "test", "check", "format", "lock", "clean"} <= listed


def test_an_old_python_is_refused_with_what_to_do(make: Make, tmp_path: Path):
    old = _program(
        tmp_path / "old" / "python3",
        '#!/bin/sh\ncase "$2" in\n*sys.executable*) echo "$0" ;;\n*python_version*) echo 3.9.2 ;;\n*) exit 1 ;;\nesac\n',
    )

    done = make("setup", f"PYTHON={old}")

    assert done.returncode != 0
    assert "3.9.2" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_a_missing_python_is_named(make: Make, checkout: Path):
    done = make("setup", "PYTHON=python3.99")

    assert done.returncode != 0
    assert "python3.99" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_pip_venv_and_uv_setup_says_what_to_install(make: Make, tmp_path: Path):
    bare = _program(
        tmp_path / "bare" / "python3",
        f'#!/bin/sh\ncase "$1 $2" in\n"-m pip" | "-m venv") exit 1 ;;\n'
        f'*sys.executable*) echo "$0" ;;\n*) exec {sys.executable} "$@" ;;\nesac\n',
    )

    done = make("setup", f"PYTHON={bare}", path="/usr/bin:/bin")

    assert done.returncode != 0
    assert "neither pip nor venv" in done.stderr
    assert "apt-get install python3-pip" in done.stderr


@pytest.mark.network
@pytest.mark.parametrize("python", sorted({"/usr/bin/python3", "python3"}))
def test_setup_works_in_a_folder_with_spaces_and_is_done_the_second_time(make: Make, checkout: Path, require, python):
    if _lacks(python):
        require("python", f"{python} is older than 3.11 or has neither pip nor venv")

    first = make("-j2", "setup", f"PYTHON={python}")
    second = make("setup")

    assert first.returncode == 0, first.stderr
    assert "==> installing bichat" in first.stdout
    assert second.stdout == "==> ready: .venv/bin/bichat\n"
    assert {entry.name for entry in checkout.iterdir()} == {*PARTS, ".venv", "build"}
    said = subprocess.run([checkout / ".venv/bin/bichat", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("bichat 0.")


@pytest.mark.slow
@pytest.mark.network
def test_a_checkout_that_was_moved_is_set_up_again(make: Make, checkout: Path):
    make("setup", f"PYTHON={sys.executable}")
    (checkout / ".venv" / ".ready").write_text("/somewhere/else\n")
    (checkout / ".venv" / ".place").write_text("/somewhere/else")

    done = make("setup", f"PYTHON={sys.executable}")

    assert done.returncode == 0, done.stderr
    assert "==> making .venv" in done.stdout


def _lacks(python: str) -> bool:
    code = "import sys, importlib.util as u; sys.exit(sys.version_info < (3, 11) or not (u.find_spec('pip') or u.find_spec('ensurepip')))"
    try:
        return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode != 0
    except OSError:
        return True
