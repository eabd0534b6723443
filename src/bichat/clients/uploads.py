"""Files that go in: as forms take them, and how code finds them under their own names."""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import anyio.to_thread

from bichat.domain import Limits
from bichat.errors import UserInputError
from bichat.sandbox.inputs import InputFile, InputSource, check_inputs
from bichat.sizes import MIB

#: Of a file that was uploaded for one execution: it goes by itself, should nobody be there to delete it.
EXPIRES_AFTER: Final = {"anchor": "created_at", "seconds": 3600}
_MOST_TOGETHER: Final = 512 * MIB
_FOLDER: Final = "/mnt/data/"
_LINKS: Final = """\
import os

for name, places in {links}:
    for place in places:
        if os.path.exists(place) and not os.path.lexists(name):
            os.symlink(place, name)
"""


async def checked(files: Mapping[str, InputSource]) -> tuple[InputFile, ...]:
    """The files, once they are known to be readable.

    Raises:
        UserInputError, LimitError: a name cannot be one in `/mnt/data`, a file is unreadable, or they are too large.
    """
    limits = Limits(disk_bytes=_MOST_TOGETHER)
    return await anyio.to_thread.run_sync(check_inputs, files, limits) if files else ()


@contextmanager
def opened(file: InputFile) -> Generator[BinaryIO]:
    """Its bytes, read as they are sent.

    Raises:
        UserInputError: it cannot be read any more.
    """
    if not isinstance(file.source, Path):
        yield io.BufferedReader(_From(file.source, file.start))
        return
    try:
        stream = file.source.open("rb")
    except OSError as error:
        raise UserInputError(f"the input file '{file.name}' cannot be read: {error.strerror}", stage="input") from error
    with stream:
        yield stream


def links(places: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Code that lets each file be found as `/mnt/data/NAME`, whichever of its places the server has put it in."""
    table = [(_FOLDER + name, [_FOLDER + place.removeprefix(_FOLDER) for place in them]) for name, them in places]
    return _LINKS.format(links=repr(table)) if places else ""


class _From(io.RawIOBase):
    """A stream of somebody else's that begins where it stood: forms rewind what they send to its start."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream = stream
        self._start = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = self._start if whence == io.SEEK_SET else 0
        return self._stream.seek(base + offset, whence) - self._start

    def tell(self) -> int:
        return self._stream.tell() - self._start
