"""Every process that a guest has started, where no pid namespace holds them: its process group, which none can leave.

Standard library only: init kills by it, and so does the supervisor.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from typing import Final

#: `PIDFD_SIGNAL_PROCESS_GROUP` of pidfd_send_signal(2), since Linux 6.9.
_TO_GROUP: Final = 4
#: Between two looks whether those that were killed have gone.
_LOOK_AGAIN_S: Final = 0.001
#: Longest wait for them: whoever is to reap them may be dead, and they stay as zombies then.
_END_S: Final = 10.0


class ProcessGroup:
    """The group that a living process leads.  It keeps its meaning when that one has ended and the others have not."""

    def __init__(self, leader: int) -> None:
        """Of the process with the pid `leader`.

        Raises:
            ProcessLookupError: there is none.
        """
        self._number = leader
        self._leader = os.pidfd_open(leader)

    def close(self) -> None:
        """Let go of it; may be called again."""
        if self._leader >= 0:
            os.close(self._leader)
            self._leader = -1

    def send(self, number: int) -> bool:
        """Send a signal to all of it; whether there was anybody, dead ones that nobody has reaped yet included."""
        try:
            signal.pidfd_send_signal(self._leader, number, None, _TO_GROUP)
        except ProcessLookupError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older kernel
                raise
            return self._send_by_number(number)
        return True

    def send_to_leader(self, number: int) -> None:
        """Send a signal to that one alone, if it lives."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._leader, number)

    def end(self) -> None:
        """Kill all of it, and wait until somebody has reaped the last of them."""
        until = time.monotonic() + _END_S
        while self.send(signal.SIGKILL) and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN_S)

    def _send_by_number(self, number: int) -> bool:
        """A number is not given out again while anybody is in its group: if another process has it, ours are gone."""
        try:
            signal.pidfd_send_signal(self._leader, 0)
        except ProcessLookupError:
            with suppress(ProcessLookupError):
                os.getpgid(self._number)
                return False
        try:
            os.killpg(self._number, number)
        except ProcessLookupError:
            return False
        return True
