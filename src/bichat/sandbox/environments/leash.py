"""Run a command that dies with its starter: `python leash.py COMMAND ARGUMENT...`, standard library only.

A build that is killed with SIGKILL cannot end its own children.  The kernel does: this file asks for SIGKILL at the
parent's death and becomes the command.  It also makes what the command writes readable for other accounts, since
as root the guests run as a user who owns nothing; a umask set in the server would hold for all its threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command in the arguments."""
    starter = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != starter:
        sys.exit(1)
    os.umask(0o022)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
