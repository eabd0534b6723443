"""Named, locked sets of packages that guest code sees, built with uv into the data directory."""

from __future__ import annotations

from bichat.sandbox.environments.environment import Environment, Preload
from bichat.sandbox.environments.store import EnvironmentStore

__all__ = ["Environment", "EnvironmentStore", "Preload"]
