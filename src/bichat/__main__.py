"""`bichat` and `python -m bichat`."""

from __future__ import annotations

import os
import sys

#: What a umask may take away: from others, never from the owner, who could not go into the folders that he makes.
_OTHERS = 0o077


def main() -> None:
    """Run the command line.

    What runs code takes a head start: its sandbox comes up while this process still imports what it needs itself.
    """
    os.umask(os.umask(_OTHERS) & _OTHERS)
    launched = None
    if sys.argv[1:2] in (["run"], ["shell"]) and sys.platform == "linux":
        from bichat.cli.head_start import take_head_start

        launched = take_head_start(sys.argv[1], sys.argv[2:])
    from bichat.cli.app import app

    try:
        app(obj=launched)
    finally:
        if launched is not None:
            launched.end()


if __name__ == "__main__":
    main()
