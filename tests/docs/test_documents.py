"""What the documents show is true: programs run, commands and options exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from _pytest.mark.structures import ParameterSet

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced example and where it stands."""

    language: str
    text: str
    place: str


def _examples(language: str) -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(content):
            line = content.count("\n", 0, match.start()) + 1
            found.append(Block(match[1], match[2], f"{page.relative_to(ROOT)}:{line}"))
    return [block for block in found if block.language == language]


def _lines(language: str, first_word: str) -> list[ParameterSet]:
    """The lines of the examples in `language` that start with `first_word`, without comments."""
    lines = [
        (line.split("  #")[0].strip(), block.place) for block in _examples(language) for line in block.text.splitlines()
    ]
    return [pytest.param(line, id=f"{place} {line}") for line, place in lines if line.startswith(first_word)]


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in _examples("python")])
def test_a_program_in_a_document_runs(block: Block, tmp_path: Path, own_data_dir: Path):
    shutil.copy(ROOT / "examples" / "data" / "sales.csv", tmp_path)
    program = tmp_path / "example.py"
    program.write_text(block.text, encoding="utf-8")
    # What does not use bichat is code for the sandbox.
    bichat = Path(sys.executable).with_name("bichat")
    command = (
        [sys.executable, "-W", "error", "example.py"]
        if "bichat" in block.text
        else [bichat, "run", "example.py", "--file", "sales.csv"]
    )

    environment = {**os.environ, "BICHAT_DATA_DIR": str(own_data_dir)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", _lines("bash", "bichat "))
def test_a_command_in_a_document_exists_with_its_options(line: str):
    from bichat.cli.app import app

    command: Any = typer.main.get_command(app)
    words = re.findall(r'"[^"]*"|\S+', line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}

    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("line", _lines("bash", "make "))
def test_a_make_target_in_a_document_exists(line: str):
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert {word for word in line.split()[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_between_documents_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert missing == []


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_the_exit_codes_are_the_same_wherever_they_are_listed():
    pages = (ROOT / "README.md", ROOT / "docs/reference/commands.md")
    first, second = (re.findall(r"^\| (\d+) \|", page.read_text(encoding="utf-8"), re.MULTILINE) for page in pages)

    assert first == second
