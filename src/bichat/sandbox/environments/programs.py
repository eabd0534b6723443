"""uv and an environment's own Python as programs that die with us, and their failures in words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from bichat.errors import EnvironmentBuildError
from bichat.sandbox.environments.environment import Progress

_LEASH: Final = Path(__file__).with_name("leash.py")
_CONFINED: Final = Path(__file__).with_name("confined.py")
#: They name other environments, or packages that no lock of ours knows.
_DROPPED: Final = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_TARGET", "UV_CONSTRAINT", "UV_OVERRIDE")
_LAST_LINES: Final = 12
_MESSAGE_LENGTH: Final = 1500
_UNREACHED: Final = re.compile(
    r"fail(?:ed|ure)[^.]*fetch|failed to download|network|offline|error sending request|connect|\bdns\b"
    r"|not found in the (?:package registry|cache)|unavailable",
    re.IGNORECASE,
)
_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded|os error (?:28|122)", re.IGNORECASE)


def uv_program() -> str:
    """Path of the uv binary that came with our dependencies."""
    import uv

    return uv.find_uv_bin()


def base_python() -> str:
    """The real file of the interpreter that the running one, or its virtual environment, is made from."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def leashed(command: list[str | Path]) -> list[str]:
    """`command` as one that is killed when the thread that starts it ends: see leash.py."""
    return [sys.executable, "-I", str(_LEASH), *map(str, command)]


def confined(command: list[str | Path], *, home: Path, prefixes: tuple[Path, ...]) -> list[str]:
    """`command`, leashed, as one that reads what lies below `prefixes` and writes into `home` alone: see confined.py."""
    return leashed([sys.executable, "-I", _CONFINED, home, *prefixes, "--", *command])


def variables() -> dict[str, str]:
    """The caller's own, for uv's index and certificates stand there, but for those that name other environments."""
    return {name: value for name, value in os.environ.items() if name not in _DROPPED} | {"NO_COLOR": "1"}


def run(stage: str, command: list[str | Path], progress: Progress, *, detail: str = "") -> None:
    """Run a program to its end and tell `progress` each line that it writes to stderr.

    Raises:
        EnvironmentBuildError: it failed; the message ends in the last lines that it wrote.
    """
    progress(stage, detail)
    lines: list[str] = []
    with subprocess.Popen(
        leashed(command),
        env=variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line)
                if line.strip():
                    progress(stage, line.strip())
        except BaseException:
            # Interrupted, or `progress` gave up: what it was doing is thrown away, so nobody waits for its end.
            process.kill()
            raise
    if process.returncode != 0:
        raise failure(stage, lines)


def failure(stage: str, lines: list[str]) -> EnvironmentBuildError:
    """The error for a program that failed in `stage` after writing `lines`: what it said, and what to do about it."""
    said = " ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip())
    said = said[-_MESSAGE_LENGTH:] or "the program said nothing"
    if _FULL.search(said):
        remedy = "Make room where the data directory and uv's cache lie: an environment takes about 1.5 GB."
    elif _UNREACHED.search(said):
        remedy = (
            "Packages come from the index that uv is set up with (UV_DEFAULT_INDEX, UV_FIND_LINKS): build once while "
            "it can be reached, or point these to a local mirror."
        )
    else:
        remedy = "Read what uv says above; building again is safe."
    return EnvironmentBuildError(f"{stage} failed: {said}", stage=f"environment: {stage}", remedy=remedy)
