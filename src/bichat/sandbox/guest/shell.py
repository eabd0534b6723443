"""The guest's side of the channel: takes code, runs it in one lasting `__main__`, says how it went.

Everything here shares a process with guest code, which may change any of it; the supervisor believes nothing that
comes from here except about the guest's own result.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import linecache
import os
import signal
import socket
import sys
import threading
import traceback
import types
from typing import Any, Final, NoReturn

from bichat.sandbox import wire

#: Longest message and traceback that is reported; the rest is cut from the middle.
_MAX_REPORT_CHARACTERS: Final = 64 * 1024


def prepare() -> None:
    """Nothing yet."""


def run(channel_descriptor: int, *, warm_up: bool = False) -> NoReturn:
    """Serve the channel until the supervisor closes it; then end the process."""
    channel = socket.socket(fileno=channel_descriptor)
    channel.set_inheritable(False)  # positional in the standard library
    os.setpgid(0, 0)
    _restore_signals()
    _open_streams()
    namespace = _fresh_main()
    channel.sendall(wire.encode_frame({"ready": True}))
    reader = wire.FrameReader()
    while True:
        chunk = channel.recv(1 << 16)
        if not chunk:
            os._exit(0)
        for request in reader.feed(chunk):
            if "variables" in request:
                os.environ.update(request["variables"])
                continue
            outcome = execute(request["code"], request["name"], namespace)
            if request["final"]:
                _finish()
            _flush_streams()
            channel.sendall(wire.encode_frame({"done": outcome, "cell": request["cell"]}))


def execute(code: str, name: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run `code` as the file `name` in `namespace`; what became of it, as JSON-ready values.

    `{"status": "completed"}`, or `{"status": "error", "name", "message", "traceback", "errno", "memory"}`.
    """
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        exec(compile(code, name, "exec", dont_inherit=True), namespace)  # noqa: S102  # what we are here for
    except SystemExit as error:
        if error.code is None or error.code == 0:
            return {"status": "completed"}
        return _report(error, name)
    except BaseException as error:  # noqa: BLE001  # guest code may raise anything
        return _report(error, name)
    return {"status": "completed"}


def _finish() -> None:
    """What an interpreter does at its end: wait for the threads that are not daemons, call what `atexit` was given."""
    for step in (getattr(threading, "_shutdown"), atexit._run_exitfuncs):  # noqa: B009, SLF001  # as CPython itself does
        try:
            step()
        except BaseException:  # noqa: BLE001  # the guest's, and no reason to lose its result
            traceback.print_exc()


def _report(error: BaseException, name: str) -> dict[str, Any]:
    _drop_own_frames(error, name)
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  # a guest's __str__
        message = "<no message: str() of the exception failed>"
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001  # the formatting calls code of the guest's exception too
        text = f"{type(error).__name__}: {message}\n"
    return {
        "status": "error",
        "name": _shortened(type(error).__name__),
        "message": _shortened(message),
        "traceback": _shortened(text),
        "errno": _disk_error(error),
        "memory": isinstance(error, MemoryError),
    }


def _disk_error(error: BaseException) -> int | None:
    """The errno of an OSError among what led to `error`: libraries wrap "no space left" in errors of their own."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) and isinstance(cause.errno, int):
            return cause.errno
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def _drop_own_frames(error: BaseException, name: str) -> None:
    """Cut the traceback to start at the first frame of the file `name`; a syntax error has none and loses all."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != name:
        frame = frame.tb_next
    error.__traceback__ = frame


def _shortened(text: str) -> str:
    if len(text) <= _MAX_REPORT_CHARACTERS:
        return text
    half = _MAX_REPORT_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters omitted ...]\n{text[-half:]}"


def _restore_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_streams() -> None:
    """Text streams over descriptors 0 to 2: a line is sent when it is complete, any text can be printed."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = open(descriptor, "wb", closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The guest may have closed or replaced it: its own loss.
        with contextlib.suppress(Exception):
            stream.flush()


def _fresh_main() -> dict[str, Any]:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = [""]
    return main.__dict__
