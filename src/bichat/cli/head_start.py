"""A launcher for `bichat run` and `bichat shell`, started before the arguments are parsed.

Importing what the command line needs takes about as long as importing pandas; done side by side, a run costs little
more than a bare `python FILE`.  All that is read here is a hint: what the real parser says later wins, and a launcher
that was started for something else is ended unused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bichat.errors import BichatError
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.environments.store import EnvironmentStore
from bichat.sandbox.launch import Launched, launch
from bichat.settings.location import data_dir, default_environment

_IMPORT: Final = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)
_MAX_READ_CHARACTERS: Final = 256 * 1024

#: What runs every cell, and what gives its figures out.
_ALWAYS: Final = frozenset({"IPython"})
_DRAWS: Final = frozenset({"matplotlib", "seaborn"})
_DRAWN_BY: Final = frozenset({"matplotlib_inline"})
#: What somebody at a terminal is likely to import first.
_LIKELY: Final = frozenset({"numpy", "pandas", "matplotlib"})


def take_head_start(command: str, arguments: Sequence[str]) -> Launched | None:
    """Start a launcher for `bichat COMMAND ARGUMENTS`; None where there is nothing to start from, or anything is odd."""
    try:
        environment = EnvironmentStore(data_dir()).find(_environment_name(arguments))
        if environment is None:
            return None
        packages = _LIKELY if command == "shell" and os.isatty(0) else _imported(arguments)
        return launch(environment, preload=_preload(packages, environment))
    except (BichatError, OSError):
        return None  # the command itself meets the same error, and has the words for it


def _environment_name(arguments: Sequence[str]) -> str:
    for at, argument in enumerate(arguments):
        if argument in ("--environment", "-e") and at + 1 < len(arguments):
            return arguments[at + 1]
        if argument.startswith("--environment="):
            return argument.partition("=")[2]
    return default_environment()


def _preload(packages: frozenset[str], environment: Environment) -> tuple[str, ...]:
    """Those modules of the environment's lists that code which imports `packages` needs."""
    needed = packages | _ALWAYS | (_DRAWN_BY if packages & _DRAWS else _ALWAYS)
    return tuple(
        module for module in (*environment.preload, *environment.on_demand) if module.partition(".")[0] in needed
    )


def _imported(arguments: Sequence[str]) -> frozenset[str]:
    """The packages that the code's import lines name."""
    return frozenset(match for text in _sources(arguments) for match in _IMPORT.findall(text))


def _sources(arguments: Sequence[str]) -> Iterable[str]:
    for at, argument in enumerate(arguments):
        if argument == "-c" and at + 1 < len(arguments):
            yield arguments[at + 1]
        elif argument.endswith(".py") and (path := Path(argument)).is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                yield file.read(_MAX_READ_CHARACTERS)
