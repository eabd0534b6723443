"""The repository in memory, for tests: it keeps the port's promises, and is gone with its process."""

from __future__ import annotations

from bichat.testing.memory.repository import MemoryRepository

__all__ = ["MemoryRepository"]
