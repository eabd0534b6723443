"""One thread acting as another user for a while: the one that a sandbox's files and processes belong to."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Final

from bichat.errors import SandboxUnavailableError

_STAGE: Final = "input"


@contextmanager
def acting_as(owner: tuple[int, int] | None) -> Generator[None]:
    """Within it this thread, and no other, makes files as `owner` (uid, gid); None changes nothing.

    Host uid 0 has no name in the user namespace that the guest's tmpfs belongs to, so that a file made by root there
    fails with EOVERFLOW.  A thread that is started within it would inherit the owner: start none.

    Raises:
        SandboxUnavailableError: the kernel did not let us.
    """
    if owner is None:
        yield
        return
    uid, gid = owner
    old_uid, old_gid = _set_fs_ids(uid, gid)
    try:
        yield
    finally:
        _set_fs_ids(old_uid, old_gid)


def _set_fs_ids(uid: int, gid: int) -> tuple[int, int]:
    """Set both for this thread; gives the ids from before."""
    libc = _libc()
    old_gid: int = libc.setfsgid(gid)
    old_uid: int = libc.setfsuid(uid)
    # Neither reports a failure: a second call that fails for certain (-1 is no id) tells what holds.
    if libc.setfsuid(-1) != uid or libc.setfsgid(-1) != gid:
        libc.setfsuid(old_uid)
        libc.setfsgid(old_gid)
        raise SandboxUnavailableError(
            f"cannot make files as uid {uid}, gid {gid} in thread {threading.current_thread().name}",
            stage=_STAGE,
            remedy="As root the server needs CAP_SETUID and CAP_SETGID; or run it as an ordinary user.",
        )
    return old_uid, old_gid


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
