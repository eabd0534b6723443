"""What code asks for that a sandbox has not, answered in a sentence: a keyboard, an editor, new packages."""

from __future__ import annotations

import builtins
import functools
from typing import Any, Final, NoReturn

from IPython.core.error import StdinNotImplementedError, UsageError

from bichat.sandbox.guest import packages
from bichat.sandbox.guest.imports import after_import

_NO_KEYBOARD: Final = (
    "nobody can answer here: code runs without a keyboard; put the value into the code, or into a file that it reads"
)
_INSTALLERS: Final = ("pip", "uv", "conda", "mamba", "micromamba")
_EDITORS: Final = ("edit", "ed")


def refuse_magics(manager: Any) -> None:
    """Answer the magics that install and that edit, in IPython's `manager` of magics."""
    for name in _INSTALLERS:
        manager.register_function(_answer_installer, magic_name=name)
    for name in _EDITORS:
        manager.register_function(_refuse_editor, magic_name=name)


def refuse_input() -> None:
    """Answer those who wait for a line, or a password."""
    builtins.input = _refuse_input
    after_import("getpass", _refuse_passwords)


def _answer_installer(line: str) -> None:
    print(packages.answer_magic(line))


def _refuse_editor(_line: str) -> NoReturn:
    raise UsageError("there is no editor here: write a file with %%writefile")


def _refuse_input(_prompt: object = "", /) -> NoReturn:
    raise StdinNotImplementedError(_NO_KEYBOARD)


def _refuse_passwords(getpass: Any) -> None:
    getpass.getpass = functools.wraps(getpass.getpass)(lambda *_, **__: _refuse_input())
