"""Where a guest lives that sees the host's file systems: paths that code is written for, and those that it has.

In a room with file systems of its own both are the same, and nothing of this is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from typing import Final

from bichat.sandbox.plan import DATA, TEMPORARY

#: Whole paths and what lies below them, where a path can begin: not in `https://example.org/tmp/x`, nor in `/tmpfiles`.
_PATH: Final = re.compile(r"(?<![\w./:~-])(/mnt/data|/tmp)(?![\w.-])")


class Place:
    """The folder on the host that a guest may write in."""

    def __init__(self, room: str) -> None:
        data, temporary = f"{room}/{DATA}", f"{room}/{TEMPORARY}"
        self._paths = {"/mnt/data": data, "/tmp": temporary}  # noqa: S108  # what code says
        if _is_here("/mnt/data"):
            del self._paths["/mnt/data"]
        self._temporary = temporary

    def settle(self) -> None:
        """Have temporary files made here, and what processes share."""
        before = os.environ.get("TMPDIR", "")
        for name, value in os.environ.items():
            if before and (value == before or value.startswith(f"{before}/")):
                os.environ[name] = self._temporary + value.removeprefix(before)
        tempfile.tempdir = None
        with contextlib.suppress(ImportError):  # an environment that was not built by us
            from bichat_site import shared_memory  # pyright: ignore[reportMissingImports]  # lies in the environment

            shared_memory.stand_in(sys.modules)

    def localised(self, code: str) -> str:
        """The code with the paths that it would have in a room of its own replaced by those that they have here."""
        return _PATH.sub(lambda found: self._paths.get(found[1], found[1]), code)


def _is_here(path: str) -> bool:
    """Whether the operator has made `path` lead to the folder of whoever asks."""
    try:
        return os.path.samefile(path, ".")
    except OSError:
        return False
