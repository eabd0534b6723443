"""What `bichat run` and `bichat shell` are given: code, input files, an output folder.  All of it is looked at first."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bichat.errors import UserInputError

DEFAULT_OUTPUT: Final = Path("bichat-output")
_STDIN: Final = "-"


class Program(NamedTuple):
    """Code to run, and what tracebacks call it."""

    name: str
    code: str


def programs(sources: Sequence[str], code: str | None) -> tuple[Program, ...]:
    """The code of `sources`, each a path or `-`, or of `-c`; at least one program.

    Raises:
        UserInputError: there is none, or both; a file cannot be read, is empty, is no UTF-8 text, or is named twice.
    """
    if bool(sources) == (code is not None):
        raise UserInputError(
            "a file and -c were both given" if sources else "there is no code to run",
            stage="usage",
            remedy="Name Python files, or -, or pass the code with -c.",
        )
    if code is not None:
        return (Program("<command>", code),)
    _check_distinct(sources)
    short = [Path(source).name for source in sources]
    return tuple(
        standard_input() if source == _STDIN else _file(source, name if short.count(name) == 1 else source)
        for source, name in zip(sources, short, strict=True)
    )


def standard_input() -> Program:
    """The code on standard input, whole.

    Raises:
        UserInputError: there is none, or it is no UTF-8 text.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # started with the descriptor closed
        raise UserInputError("there is no standard input", stage="usage", remedy="Name a Python file.")
    return Program("<stdin>", _decoded(sys.stdin.buffer.read(), "standard input"))


def paths(words: str) -> list[Path]:
    """The paths in a line that somebody typed, quoted as for a shell; `~` is the home folder.

    Raises:
        UserInputError: there is none, or a quote is open.
    """
    try:
        found = [Path(word).expanduser() for word in shlex.split(words)]
    except (ValueError, RuntimeError) as error:
        raise UserInputError(
            f"{words!r} names no files: {error}", stage="usage", remedy="Quote a path with spaces: 'my sales.csv'."
        ) from error
    if not found:
        raise UserInputError("no file is named", stage="usage", remedy="Name the files to copy.")
    return found


def inputs(paths: Sequence[Path]) -> dict[str, Path]:
    """The input files by the names that they get.

    Raises:
        UserInputError: two have the same name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if path.name in named:
            raise UserInputError(
                f"two input files are called {path.name}", stage="usage", remedy="Rename one: they go into one folder."
            )
        named[path.name] = path
    return named


def check_output(folder: Path) -> None:
    """Before anything runs: a result that cannot be saved an hour later is lost.

    Raises:
        UserInputError: files cannot be saved in `folder`.
    """
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserInputError(
            f"files cannot be saved in {folder}: {nearest} is no folder that can be written to",
            stage="usage",
            remedy="Name another folder with --output-dir.",
        )


def _check_distinct(sources: Sequence[str]) -> None:
    seen: set[str] = set()
    for source in sources:
        same = source if source == _STDIN else os.path.realpath(source)
        if same in seen:
            raise UserInputError(
                "standard input is named twice" if source == _STDIN else f"{source} is named twice",
                stage="usage",
                remedy="Name each file once: they run one after the other, in one session.",
            )
        seen.add(same)


def _file(source: str, name: str) -> Program:
    try:
        return Program(name, _decoded(Path(source).read_bytes(), source))
    except OSError as error:
        raise UserInputError(
            f"{source} cannot be read: {error.strerror}", stage="usage", remedy="Name a Python file that exists."
        ) from error


def _decoded(content: bytes, origin: str) -> str:
    if not content.strip():
        raise UserInputError(f"there is no code to run in {origin}", stage="usage", remedy="Write some Python in it.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserInputError(
            f"{origin} is not UTF-8 text (byte {error.start})", stage="usage", remedy="Save the file as UTF-8."
        ) from error
