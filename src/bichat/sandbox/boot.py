"""The file that the launcher process starts with: makes `bichat.sandbox` importable, and nothing else.

It runs under the *environment's* Python, whose packages guest code will see.  Putting bichat's parent folder on
`sys.path` would show the guest everything that is installed beside the server, so only the two packages are made
known, by path, without running their `__init__`.
"""

from __future__ import annotations

import os
import sys
import types


def _graft(name: str, folder: str) -> None:
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package


if __name__ == "__main__":
    _here = os.path.dirname(os.path.abspath(__file__))
    _graft("bichat", os.path.dirname(_here))
    _graft("bichat.sandbox", _here)
    from bichat.sandbox.launcher import main

    main(int(sys.argv[1]), int(sys.argv[2]))
