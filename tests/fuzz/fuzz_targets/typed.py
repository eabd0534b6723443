"""What people type: sizes and durations in variables, cells in the shell, paths to copy."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bichat.cli.arguments import paths as named_paths
from bichat.cli.cells import indentation, is_whole
from bichat.errors import UserInputError
from bichat.settings.settings import load_settings
from bichat.sizes import format_size, parse_size
from fuzz_targets.choices import Choices

_VARIABLES: Final = (
    *("BICHAT_DEFAULT_TIMEOUT_S", "BICHAT_DEFAULT_MEMORY_BYTES", "BICHAT_MAX_DISK_BYTES", "BICHAT_MAX_IDLE_S"),
    *("BICHAT_DEFAULT_PIDS", "BICHAT_CAP_SESSIONS", "BICHAT_CAP_MEMORY_BYTES", "BICHAT_READY_SANDBOXES"),
    *("BICHAT_ZYGOTE_LIFE_S", "BICHAT_CAP_QUEUE"),
)
_SIZES: Final = (
    *(b"1", b"0", b".", b"9" * 100, b"k", b"KiB", b"g", b" ", b"-", b"e5", b"inf", b"nan", b"\xd9\xa1", b"\xc2\xb2"),
)
_CELLS: Final = (
    *(b"\n", b"    ", b"\t", b"\r", b"\f", b":", b"(", b")", b"[", b"'", b'"', b"'''", b"\\", b"#", b"%", b"%%", b"!"),
    *(b"=", b"if x", b"else", b"def f", b"class A", b"return", b"match x", b"case 1", b"await x", b"async ", b"lambda"),
    *(b"x", b"for x in x", b"try", b"@x", b"%time f()", b"x = !ls", b"f'{x", b"}'", b"1_", b"0x", b"\\N{", b"\\x"),
    *(b"\xff", b"`", b"-" * 9_000, b"x." * 9_000, b"[" * 90, b"lambda:" * 3_000),
)
_PATHS: Final = (*(b"~", b"~nobody-there", b"/", b".", b" ", b"'", b'"', b"\\", b"$HOME", b"#", b"\n", b"*", b"-"),)


def _text(data: bytes) -> str:
    """As the shell hands over what is no UTF-8."""
    return data.replace(b"\0", b"").decode("utf-8", "surrogateescape")


def sizes(data: bytes, room: Path) -> None:
    """A text is a size above zero that can be told to people, or an error that says so."""
    try:
        size = parse_size(_text(Choices(data).spelled(_SIZES, 24)))
    except UserInputError:
        return

    assert size > 0
    assert format_size(size)


def settings(data: bytes, room: Path) -> None:
    """Whatever the variables hold: settings of finite numbers above zero, or an error that can be told."""
    choices = Choices(data)
    before = dict(os.environ)
    try:
        while choices.left:
            os.environ[_VARIABLES[choices.number(len(_VARIABLES))]] = _text(choices.spelled(_SIZES, choices.number(4)))
        with suppress(UserInputError):
            found = load_settings()
            for numbers in (found.limits, found.bounds, found.caps):
                assert all(value > 0 and math.isfinite(value) for value in asdict(numbers).values())
            assert found.limits.within(found.bounds) is found.limits
    finally:
        os.environ.clear()
        os.environ.update(before)


def cells(data: bytes, room: Path) -> None:
    """Of anything typed is known whether it is whole, and how far the next line is indented."""
    text = _text(Choices(data).spelled(_CELLS, 200))

    assert is_whole(text) in (True, False)
    assert not indentation(text).strip(" ")


def paths(data: bytes, room: Path) -> None:
    """A line names one file at least, or is an error that says so."""
    with suppress(UserInputError):
        assert named_paths(_text(Choices(data).spelled(_PATHS, 64)))
