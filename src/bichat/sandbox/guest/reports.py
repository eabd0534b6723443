"""What a guest says of how its code ended: Python's own words, the user's frames only, bounded."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

#: Longest message and traceback that is reported; the rest is cut from the middle.
_MAX_CHARACTERS: Final = 64 * 1024
#: Said of an error that the cell has nothing to do with.
_BROKEN: Final = "earlier code has broken this interpreter: restart the session"
#: Modules that compile a cell: what Python says there of code that is no syntax error, and still cannot be compiled
#: (lone surrogates, nested too deep, NUL in Python 3.11.2), or run (`return` beside `await`), is said of the cell.
_COMPILERS: Final = ("compilerop.py", "async_helpers.py", "codeop.py", "ast.py")
_UNCOMPILABLE: Final = (ValueError, OverflowError, RuntimeError)
_STANDARD_LIBRARY: Final = os.path.dirname(os.path.abspath(os.__file__))
#: Packages whose frames say nothing about the user's code.
_MACHINERY: Final = ("bichat", "IPython")


def outcome(error: BaseException | None, name: str) -> dict[str, Any]:
    """How the cell `name` ended that raised `error`, or nothing, as JSON-ready values.

    `{"status": "completed"}`, or `{"status": "error", "name", "message", "traceback", "errno", "memory"}`.
    """
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return {"status": "completed"}
    message = _message(error)
    if _is_ours(error, name):
        message = f"{message} ({_BROKEN})"
    return {
        "status": "error",
        "name": shortened(type(error).__name__, _MAX_CHARACTERS),
        "message": shortened(message, _MAX_CHARACTERS),
        "traceback": shortened(traceback_text(error, name), _MAX_CHARACTERS),
        "errno": _disk_error(error),
        "memory": isinstance(error, MemoryError),
    }


def traceback_text(error: BaseException, name: str | None = None) -> str:
    """As Python prints it, without the frames of what runs cells.

    With `name` it starts at the first frame of that file; an error that has none, as a syntax error, shows no frame.
    """
    for one in _causes(error):
        frames = [frame for frame in _frames(one.__traceback__) if not _is_machinery(frame)]
        while one is error and name is not None and frames and frames[0].tb_frame.f_code.co_filename != name:
            del frames[0]
        one.__traceback__ = _chain(frames)
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001  # the formatting calls code of the guest's exception
        return f"{type(error).__name__}: {_message(error)}\n"


def _is_ours(error: BaseException, name: str) -> bool:
    """Whether what runs cells has failed, and not the cell: no frame is the user's, a library's or a magic's."""
    if isinstance(error, (SyntaxError, KeyboardInterrupt, SystemExit, MemoryError)):
        return False
    files = [frame.tb_frame.f_code.co_filename for frame in _frames(error.__traceback__)]
    if not files or (isinstance(error, _UNCOMPILABLE) and os.path.basename(files[-1]) in _COMPILERS):
        return False
    return all(map(_is_machinerys, files)) and name not in files


def _is_machinerys(file: str) -> bool:
    if os.sep + "magic" in file:
        return False
    if file.startswith("<frozen "):
        return True
    parts = file.split(os.sep)
    is_standard = file.startswith(_STANDARD_LIBRARY + os.sep) and "site-packages" not in parts
    return is_standard or any(package in parts for package in _MACHINERY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def _frames(first: TracebackType | None) -> Iterator[TracebackType]:
    while first is not None:
        yield first
        first = first.tb_next


def _is_machinery(frame: TracebackType) -> bool:
    module = frame.tb_frame.f_globals.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] in _MACHINERY


def _chain(frames: list[TracebackType]) -> TracebackType | None:
    chain = None
    for frame in reversed(frames):
        chain = TracebackType(chain, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return chain


def shortened(text: str, limit: int) -> str:
    """`text`, cut in its middle to `limit` characters with a line that says how many are missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters omitted ...]\n{text[-half:]}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  # a guest's __str__
        return "<no message: str() of the exception failed>"


def _disk_error(error: BaseException) -> int | None:
    """The errno of an OSError among what led to `error`: libraries wrap "no space left" in errors of their own."""
    numbers = (cause.errno for cause in _causes(error) if isinstance(cause, OSError))
    return next((number for number in numbers if isinstance(number, int)), None)
