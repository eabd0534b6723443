"""A package set that has been built, and the manifest that says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

MANIFEST: Final = "environment.json"
"""Name of the manifest inside an environment's folder: the last file that a build writes."""
MANIFEST_VERSION: Final = 1

Progress = Callable[[str, str], None]
"""Told what a build is doing: the stage, and a detail of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preload:
    """One module that the build tried to import, alone, in a fresh interpreter of the environment."""

    module: str
    seconds: float = 0.0
    """Wall clock of the import, with byte code and page cache warm."""
    rss_bytes: int = 0
    """Resident memory of the interpreter after it."""
    threads: tuple[str, ...] = ()
    """Kernel names of the threads that it left behind, the main one not counted."""
    refused: str = ""
    """Why the zygote must not import it; empty when it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A package set on disk, complete: its manifest is written last and its folder appears by one rename."""

    name: str
    path: Path
    """The folder to bind, read-only and at this very path: a virtual environment with fonts and caches in it."""
    base_prefix: Path
    """Prefix of the base Python, which `python` links to: to be bound at its own path too."""
    base_python: Path
    """The base interpreter's real file, below `base_prefix`."""
    python_version: str
    lock_hash: str
    """SHA-256 of the requirements that were installed, as text with hashes."""
    requested: tuple[str, ...] = ()
    """Distributions that the operator's file asked for by name, normalised; empty for a built-in one."""
    base: str = ""
    """The built-in environment whose lock this one was resolved upon; empty for a built-in one, or for none."""
    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    """Installed distributions, by normalised name, with their versions."""
    preload: tuple[str, ...] = ()
    """Modules for the zygote to import, in this order; importing all of them leaves one thread."""
    preload_rss_bytes: int = 0
    """Resident memory of an interpreter that has imported all of them."""
    on_demand: tuple[str, ...] = ()
    """Modules that a zygote may import as well, for code that is known to use them: harmless, but not worth everybody's memory."""
    tried: tuple[Preload, ...] = ()
    """Every candidate with what was measured, refused ones included."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables for the guest and its children, besides what the sandbox sets itself."""
    size_bytes: int = 0
    """Disk that the folder takes (files that are linked from uv's cache count in full)."""
    created_at: datetime
    """When it was built, or chosen again by a later build of the same requirements: of two, the later one is used."""

    @property
    def python(self) -> Path:
        """The environment's interpreter: a link to the base Python, by absolute path."""
        return self.path / "bin" / "python"

    @property
    def refused(self) -> tuple[Preload, ...]:
        """The candidates that the zygote must not import, each with its reason."""
        return tuple(candidate for candidate in self.tried if candidate.refused)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON-ready values; where the folder stands is not part of it."""
        return {
            "manifest_version": MANIFEST_VERSION,
            "name": self.name,
            "base_prefix": str(self.base_prefix),
            "base_python": str(self.base_python),
            "python_version": self.python_version,
            "lock_hash": self.lock_hash,
            "base": self.base,
            "requested": list(self.requested),
            "created_at": self.created_at.isoformat(),
            "size_bytes": self.size_bytes,
            "variables": dict(self.variables),
            "preload": list(self.preload),
            "preload_rss_bytes": self.preload_rss_bytes,
            "on_demand": list(self.on_demand),
            "tried": [
                {
                    "module": candidate.module,
                    "seconds": candidate.seconds,
                    "rss_bytes": candidate.rss_bytes,
                    "threads": list(candidate.threads),
                    "refused": candidate.refused,
                }
                for candidate in self.tried
            ],
            "packages": dict(self.packages),
        }


def read_manifest(folder: Path) -> Environment | None:
    """The environment in `folder`; None when there is no manifest that this version of bichat can read.

    A folder without one was never finished, or is not ours: it is as good as absent.
    """
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        if values["manifest_version"] != MANIFEST_VERSION:
            return None
        return Environment(
            name=values["name"],
            path=folder,
            base_prefix=Path(values["base_prefix"]),
            base_python=Path(values["base_python"]),
            python_version=values["python_version"],
            lock_hash=values["lock_hash"],
            base=values["base"],
            requested=tuple(values.get("requested", ())),
            created_at=datetime.fromisoformat(values["created_at"]).astimezone(UTC),
            size_bytes=values["size_bytes"],
            variables=values["variables"],
            preload=tuple(values["preload"]),
            preload_rss_bytes=values["preload_rss_bytes"],
            # Manifests of earlier builders lack the two that may be missing; such a build is still one to build again.
            on_demand=tuple(values.get("on_demand", ())),
            tried=tuple(
                Preload(**(candidate | {"threads": tuple(candidate["threads"])})) for candidate in values["tried"]
            ),
            packages=values["packages"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
