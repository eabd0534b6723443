"""All attacks, family by family, in the order in which they are run."""

from __future__ import annotations

from typing import Final

from bichat.attacks import (
    artifacts,
    files,
    kernel,
    network,
    output,
    persistence,
    privileges,
    proc_and_sys,
    processes,
    resources,
    timing,
)
from bichat.attacks.attack import Attack

ATTACKS: Final[tuple[Attack, ...]] = (
    *files.ATTACKS,
    *proc_and_sys.ATTACKS,
    *network.ATTACKS,
    *processes.ATTACKS,
    *kernel.ATTACKS,
    *privileges.ATTACKS,
    *resources.ATTACKS,
    *output.ATTACKS,
    *artifacts.ATTACKS,
    *persistence.ATTACKS,
    *timing.ATTACKS,
)
