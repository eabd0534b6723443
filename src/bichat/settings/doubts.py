"""Settings that are allowed and can hardly be meant: names that are none, caps that contradict each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from bichat.domain import Limits
from bichat.settings.settings import Caps, Settings
from bichat.sizes import format_size

_PREFIX: Final = "BICHAT_"
#: Below it two names have little in common.  Others set variables too: an orchestrator `BICHAT_SERVICE_HOST`, say.
_ALIKE: Final = 0.7
#: Read by bichat's own tests.
_TESTS: Final = "TEST_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One thing that is asked about, not refused."""

    name: str
    """Stable, for programs."""
    what: str
    follows: str
    """What comes of it, and what to do."""


def misspelt() -> tuple[Doubt, ...]:
    """Variables that set nothing and are called almost like one that does; limits and caps are refused when they are read."""
    known = {spec.name.upper() for spec in fields(Settings)} - {"LIMITS", "BOUNDS", "CAPS"}
    own = [name.removeprefix(_PREFIX) for name in os.environ if name.startswith(_PREFIX)]
    strange = [name for name in own if name not in known and not name.startswith((_TESTS, "MAX_", "DEFAULT_", "CAP_"))]
    if not strange:
        return ()
    from difflib import get_close_matches  # a usual start has no need of it

    limits = {f"DEFAULT_{spec.name.upper()}" for spec in fields(Limits)}
    caps = {f"CAP_{spec.name.upper()}" for spec in fields(Caps)}
    nearest = {name: get_close_matches(name, sorted(known | limits | caps), n=1, cutoff=_ALIKE) for name in strange}
    return tuple(
        Doubt(
            name="misspelt_variable",
            what=f"{_PREFIX}{name} sets nothing, and is ignored",
            follows=f"If {_PREFIX}{found[0]} is meant, call it so.",
        )
        for name, found in sorted(nearest.items())
        if found
    )


def contradictions(settings: Settings) -> tuple[Doubt, ...]:
    """Caps that keep others from ever being reached, or every session from running."""
    return tuple(
        Doubt(name="contradicting_caps", what=what, follows=follows) for what, follows in _contradictions(settings)
    )


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    caps = settings.caps
    for name in ("sessions", "executions", "memory_bytes", "queue"):
        own, whole = getattr(caps, f"tenant_{name}"), getattr(caps, name)
        if own > whole:
            yield (
                f"BICHAT_CAP_TENANT_{name.upper()} is above BICHAT_CAP_{name.upper()}: {own:,} against {whole:,}",
                "One tenant may take all that there is. Lower the first, or raise the second.",
            )
    one = settings.limits.memory_bytes + settings.limits.disk_bytes
    for name in ("memory_bytes", "tenant_memory_bytes"):
        if (cap := getattr(caps, name)) < one:
            yield (
                f"BICHAT_CAP_{name.upper()} is below what one session may use: {format_size(cap)} against {format_size(one)}",
                "Sessions with the default limits are refused. Raise it, or lower the default limits of memory and disk.",
            )
