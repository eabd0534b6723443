"""A sandbox's `/mnt/data`, through the supervisor's own handle: one job at a time, also after the tree is dead."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from bichat.domain import Artifact, Limits, SessionFile
from bichat.errors import LimitError, SandboxLostError, StorageError
from bichat.names import printable
from bichat.sandbox.artifacts import Capture, Snapshot, capture, capture_one, listing, remove_one
from bichat.sandbox.descriptors import no_descriptor_in_words
from bichat.sandbox.inputs import InputFile, check_fits, write_input
from bichat.sandbox.rooms import Room
from bichat.sandbox.walk import FileState

_Value = TypeVar("_Value")


class Folder:
    """Owns its descriptor.  Once closed every method raises `SandboxLostError`."""

    def __init__(
        self, descriptor: int, *, owner: tuple[int, int] | None, spool_folder: Path, room: Room | None = None
    ) -> None:
        """`owner`: uid and gid that the guest has on the host; None when the server is that user itself.

        `room`: what it is a part of, where it has no disk of its own whose size would be its limit.
        """
        self._descriptor = descriptor
        self._owner = owner
        self._spool_folder = spool_folder
        self._room = room
        #: Worker threads work on the descriptor by its number: it is closed when none of them does.
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False
        #: What was there when the last execution had ended, and what has been put there since.
        self._before = Snapshot({})

    async def put(self, files: Sequence[InputFile], limits: Limits) -> None:
        """Copy `files` in.  What their owner brought is nothing that the code made: they are not captured as they are.

        Raises:
            StorageError: the disk of the host that they would lie on is full.
            And as `write_input`.
        """

        def write() -> None:
            for file in files:
                if self._room is not None:
                    check_fits(file, self._room.measured(), limits)
                with _host_disk(file, self._room):
                    write_input(self._descriptor, file, self._owner)
                with suppress(OSError):  # the code may have taken it away already
                    state = os.stat(file.name, dir_fd=self._descriptor, follow_symlinks=False)
                    self._before.files[os.fsencode(file.name)] = FileState.of(state)

        if files:
            await self._in_turn(write)

    async def capture(self, limits: Limits) -> Capture:
        """What is new or changed since the last time, copied."""

        def take() -> Capture:
            captured = capture(self._descriptor, self._before, limits, self._spool_folder)
            self._before = captured.after
            return captured

        if self._is_bare():
            self._before = Snapshot({})
            return Capture(artifacts=(), refused=(), after=self._before)
        return await self._in_turn(take)

    async def files(self, limits: Limits) -> tuple[SessionFile, ...]:
        """The regular files there."""
        return await self._in_turn(lambda: listing(self._descriptor, limits))

    async def open(self, name: str, limits: Limits) -> Artifact:
        """One of them, copied."""
        return await self._in_turn(lambda: capture_one(self._descriptor, name, limits, self._spool_folder))

    async def remove(self, name: str, limits: Limits) -> None:
        """Remove one of them."""
        await self._in_turn(lambda: remove_one(self._descriptor, name, limits))

    @property
    def is_full(self) -> bool:
        """Whether no byte, or no file, fits on its disk any more."""
        state = os.fstatvfs(self._descriptor)
        return state.f_bavail == 0 or state.f_ffree == 0

    @property
    def used_bytes(self) -> int:
        """What lies on its disk, `/tmp` and `/dev/shm` included."""
        if self._room is not None:
            return self._room.used_bytes
        state = os.fstatvfs(self._descriptor)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    async def close(self) -> None:
        """Let go of it once no worker thread is at it; may be called again."""
        async with self._turn:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)

    def _is_bare(self) -> bool:
        """Whether there is nothing in it, told in microseconds: a worker thread would take longer to wake."""
        if self._closed or self._turn.locked():
            return False
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with os.scandir(self._descriptor) as entries:
                return next(entries, None) is None
        except OSError:  # locked by the guest: the slow way knows how
            return False

    async def _in_turn(self, job: Callable[[], _Value]) -> _Value:
        async with self._turn:
            if self._closed:
                raise SandboxLostError("the sandbox has ended", stage="files")
            with no_descriptor_in_words("files"):
                return await anyio.to_thread.run_sync(job)


@contextmanager
def _host_disk(file: InputFile, room: Room | None) -> Generator[None]:
    """Within it a file is written that fits into a room: if it finds no place, that is not for the sandbox's limits."""
    try:
        yield
    except LimitError as error:
        if room is None or not isinstance(error.__cause__, OSError):
            raise
        raise StorageError(
            f"the input file '{printable(file.name)}' does not fit: the host's disk that sandboxes' folders lie on is full",
            stage="input",
            remedy="Make room in the folder for temporary files, or let TMPDIR name another.",
        ) from error.__cause__
