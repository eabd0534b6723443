"""The guest's end of its channel to the supervisor: whole frames, from the guest's own process alone."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from bichat.sandbox import wire
from bichat.sandbox.guest import interrupts


class ChannelLostError(Exception):
    """The descriptor is closed, or is something else by now: guest code did that."""


class Channel:
    """Takes requests and sends frames.  Forks of the guest close their copy and send nothing."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)  # positional in the standard library
        self._identity = _identity(descriptor)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._queue: deque[bytes] = deque()
        self._is_sending = False
        os.register_at_fork(after_in_child=self._let_go)

    @property
    def is_own(self) -> bool:
        """Whether this process is the one that speaks here, not a fork of it."""
        return os.getpid() == self._pid

    def requests(self) -> Iterator[dict[str, Any]]:
        """What the supervisor asks for, until it closes its end.

        Raises:
            ChannelLostError: the descriptor is gone.
        """
        reader = wire.FrameReader()
        while True:
            self._check()
            try:
                chunk = self._socket.recv(1 << 16)
            except OSError as error:
                raise ChannelLostError from error
            if not chunk:
                return
            yield from reader.feed(chunk)

    def send(self, frame: bytes) -> None:
        """Send one whole frame, whatever interrupts that; an interrupt comes when it is out.

        Raises:
            ChannelLostError: the descriptor is gone, or the supervisor.
        """
        with self._lock, interrupts.deferred():
            self._queue.append(frame)
            if self._is_sending:
                return  # a finalizer that ran in the middle of another frame: this one follows it
            self._is_sending = True
            try:
                while self._queue:
                    self._check()
                    self._socket.sendall(self._queue.popleft())
            except OSError as error:
                raise ChannelLostError from error
            finally:
                self._is_sending = False

    def _check(self) -> None:
        # A number that guest code closed may be that of a file of its own by now.
        if not self.is_own or _identity(self._socket.fileno()) != self._identity:
            raise ChannelLostError

    def _let_go(self) -> None:
        """In a fork: what it may become, a daemon say, must not hold the channel open."""
        if _identity(self._socket.fileno()) == self._identity:
            self._socket.close()


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
