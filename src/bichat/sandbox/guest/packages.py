"""What is answered to code that wants to install packages: whether they are there, and how they get in."""

from __future__ import annotations

import re
import shlex
from typing import Final

_HOW: Final = (
    "Packages cannot be installed from code: the sandbox has no network and its environment is read-only. "
    "The operator adds them with `bichat env build` (docs/how-to/environments.md)."
)
_COMMAND: Final = re.compile(
    r"\s*(?:\S*python[\d.]*\s+-m\s+)?(?:pip[\d.]*|uv|conda|mamba|micromamba)\s+(?:pip\s+)?(?:install|add)\b(?P<names>[^;&|]*)"
)
#: Options whose value would be taken for a package.
_WITH_VALUE: Final = frozenset({"-r", "-c", "-e", "-i", "-f", "-t", "-n", "--requirement", "--index-url", "--channel"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def answer_command(command: str) -> tuple[str, bool] | None:
    """The answer to a line of shell that installs packages, and whether all are there; None for any other line."""
    match = _COMMAND.match(command)
    return None if match is None else answer(match["names"])


def answer_magic(line: str) -> str:
    """The answer to `%pip LINE`, `%conda LINE` and their like."""
    command, _, names = line.strip().partition(" ")
    return answer(names)[0] if command in ("install", "add") else _HOW


def answer(arguments: str) -> tuple[str, bool]:
    """The answer to somebody who wants to install `arguments`, and whether all are there."""
    from importlib import metadata  # takes as long as many cells

    lines: list[str] = []
    names = _names(arguments)
    for name in names:
        try:
            lines.append(f"{name} is installed already: version {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} is not in this environment")
    is_complete = bool(names) and all(" already: " in line for line in lines)
    return "\n".join(lines if is_complete else [*lines, _HOW]), is_complete


def _names(arguments: str) -> list[str]:
    try:
        words = shlex.split(arguments, comments=True)
    except ValueError:
        words = arguments.split()
    names: list[str] = []
    skips = False
    for word in words:
        match = None if skips or word.startswith("-") else _NAME.match(word)
        skips = word in _WITH_VALUE
        if match is not None:
            names.append(match[0])
    return names
