"""The machine and the programs that were measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from bichat import __version__
from bichat.sandbox.environments import Environment

_PACKAGES: Final = ("numpy", "pandas", "pyarrow", "matplotlib", "ipython")
_PEER: Final = ("ipykernel", "jupyter-client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What figures depend on."""

    measured_at: str
    """UTC."""
    host_processors: int
    processors: int
    """That the benchmark ran on."""
    processor: str
    """As the kernel names it."""
    memory_bytes: int
    kernel: str
    load: tuple[float, float, float]
    """Load average of the last 1, 5 and 15 minutes, at the start: on an idle machine the first is near 0."""
    python: str
    environment_python: str
    bichat: str
    packages: dict[str, str]
    """The environment's, and those that Jupyter's kernel stands on."""

    @classmethod
    def look(cls, environment: Environment) -> Self:
        """At this one, now."""
        return cls(
            measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            host_processors=os.cpu_count() or 0,
            processors=len(os.sched_getaffinity(0)),
            processor=_processor(),
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            kernel=platform.release(),
            load=os.getloadavg(),
            python=platform.python_version(),
            environment_python=environment.python_version,
            bichat=__version__,
            packages={
                **{name: environment.packages[name] for name in _PACKAGES if name in environment.packages},
                **{name: importlib.metadata.version(name) for name in _PEER},
            },
        )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
