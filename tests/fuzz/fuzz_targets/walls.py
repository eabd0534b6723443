"""What a target may do to this machine: write below one folder, and nothing else.

Names that a fuzzer makes are absolute paths and `..` sooner or later.  A target that followed one, or code under test
that did, meets EACCES here and not the file.  (Modes and times of what is outside are not in Landlock's care.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bichat.sandbox.isolation import kernel, landlock


def can_stand() -> bool:
    """Whether this kernel has what they are made of."""
    return landlock.abi_version() > 0


def stand_around(*folders: Path) -> None:
    """From now on this thread, and those that it starts, write below `folders` alone; for good.

    Raises:
        OSError: the kernel has no Landlock.
    """
    kernel.forbid_new_privileges()
    landlock.restrict(["/"], ["/dev/null", *map(str, folders)], scoped=False)


def within(folder: Path, job: Callable[[], None]) -> None:
    """Run `job` in a thread of its own that stands within walls around `folder`, which is its place for temp files."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        with ThreadPoolExecutor(1, "fuzz", stand_around, (folder,)) as thread:
            thread.submit(job).result()
    finally:
        tempfile.tempdir = before
