"""The guest's loop: takes code from its channel, runs it, says how it went.

Everything here shares a process with guest code, which may change any of it; the supervisor believes nothing that
comes from here except about the guest's own result.
"""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import threading
import time
import traceback
import warnings
from importlib.util import find_spec
from typing import Any, Final, NoReturn

from bichat.sandbox import wire
from bichat.sandbox.guest import randomness, reports
from bichat.sandbox.guest.cells import Cells, PlainCells
from bichat.sandbox.guest.channel import Channel, ChannelLostError
from bichat.sandbox.guest.interrupts import Interrupts
from bichat.sandbox.guest.library import open_library
from bichat.sandbox.guest.place import Place
from bichat.sandbox.guest.spare import Spare
from bichat.sandbox.guest.streams import Streams

_BUILTINS: Final = dict(vars(builtins))
_CHANNEL_LOST: Final = (
    "The code closed the connection to the program that runs it, or put something else in its place: "
    "this session ends here.\n"
)
_prepared: list[Cells] = []
_warning_filters: list[Any] = []

open_library()


def prepare(*, warm_up: bool = True) -> None:
    """In the zygote, after its imports: make once what every guest would make for itself.

    Leaves no thread and no open file behind.  With `warm_up` it takes the slow first steps of the libraries that are
    imported too, a tenth of a second: what they leave in memory is then every guest's.
    """
    _warning_filters[:] = warnings.filters
    cells = _make_cells()
    if warm_up:
        cells.warm_up()
    _prepared.append(cells)


def run(channel_descriptor: int, *, warm_up: bool = False, room: str = "") -> NoReturn:
    """Serve the channel until the supervisor closes it; then end the process.

    With `warm_up` the slow first steps of the libraries that are imported are taken before it says that it is ready.
    `room` is the folder on the host that the guest lives in; empty where it has file systems of its own.
    """
    place = Place(room) if room else None
    if place is not None:
        place.settle()
    channel = Channel(channel_descriptor)
    interrupts = Interrupts()
    _restore_interpreter()
    streams = Streams()
    cells = _prepared[0] if _prepared else _make_cells()
    cells.connect(channel, streams)
    if warm_up:
        cells.warm_up()
    randomness.reseed()
    guest = Guest(channel, streams, cells, interrupts, place)
    channel.send(wire.encode_frame({"ready": True}))
    try:
        for request in channel.requests():
            guest.answer(request)
    except ChannelLostError:
        streams.say(_CHANNEL_LOST)
        os._exit(wire.CHANNEL_LOST_EXIT)
    os._exit(0)


class Guest:
    """Answers requests, one after the other."""

    def __init__(
        self, channel: Channel, streams: Streams, cells: Cells, interrupts: Interrupts, place: Place | None = None
    ) -> None:
        self._channel = channel
        self._streams = streams
        self._cells = cells
        self._interrupts = interrupts
        self._place = place
        self._spare = Spare()

    def answer(self, request: dict[str, Any]) -> None:
        """Do what one frame asks for.

        Raises:
            ChannelLostError: guest code has closed the channel.
        """
        if "variables" in request:
            os.environ.update(request["variables"])
            time.tzset()
            return
        code = request["code"] if self._place is None else self._place.localised(request["code"])
        error = self._run(code, request["name"], request["cell"], final=request["final"])
        if not self._channel.is_own:
            _end_fork(error, request["name"])
        if isinstance(error, MemoryError):
            self._spare.give()
        else:
            self._spare.take_back()
        outcome = reports.outcome(error, request["name"])
        self._streams.flush()
        self._channel.send(wire.encode_frame({"done": outcome, "cell": request["cell"]}))

    def _run(self, code: str, name: str, cell: int, *, final: bool) -> BaseException | None:
        """Run one cell; what it raised."""
        error: BaseException | None
        try:
            try:
                self._streams.mend()
                self._interrupts.open()
                self._channel.send(wire.encode_frame({"begun": cell}))
                error = self._cells.run(code, name)
                if final:
                    error = finish() or error
            finally:
                restore_builtins()
                self._interrupts.close()
        except BaseException as escaped:  # noqa: BLE001  # a signal in our own last steps, or a broken shell
            error = escaped
            error.__suppress_context__ = True
            self._interrupts.close()
        return error


def finish() -> KeyboardInterrupt | None:
    """What an interpreter does at its end: wait for the threads that are not daemons, call what `atexit` was given."""
    interrupt: KeyboardInterrupt | None = None
    for step in (getattr(threading, "_shutdown"), atexit._run_exitfuncs):  # noqa: B009, SLF001  # as CPython itself does
        try:
            step()
        except KeyboardInterrupt as error:
            interrupt = error
        except BaseException:  # noqa: BLE001  # the guest's, and no reason to lose its result
            traceback.print_exc()
    return interrupt


def restore_builtins() -> None:
    """Give back the built-in names that a cell deleted: without them not even an error can be reported.

    Uses none of them.
    """
    present = builtins.__dict__
    for name in _BUILTINS.keys() - present.keys():
        present[name] = _BUILTINS[name]


def _make_cells() -> Cells:
    if find_spec("IPython") is None:
        return PlainCells()
    from bichat.sandbox.guest.ipython_cells import IPythonCells

    return IPythonCells()


def _end_fork(error: BaseException | None, name: str) -> NoReturn:
    """A fork of the guest that came to the end of the cell ends as a program does: the next cell is not its."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        sys.stderr.write(reports.traceback_text(error, name))
    finish()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _restore_interpreter() -> None:
    """What Python itself would show to code that is not a file's."""
    sys.argv = [""]
    sys.path.insert(0, "")
    if _warning_filters:
        # The zygote forks with some switched off.
        warnings.resetwarnings()
        warnings.filters[:] = _warning_filters  # pyright: ignore[reportIndexIssue]
