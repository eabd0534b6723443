"""Every repository keeps the promises of the port."""

from __future__ import annotations

import pytest

from bichat.testing.memory import MemoryRepository
from bichat.testing.repository import RepositoryConformance


class TestSqlRepository(RepositoryConformance):
    """On SQLite and PostgreSQL: see `repository` in conftest.py."""


class TestMemoryRepository(RepositoryConformance):
    @pytest.fixture
    def repository(self):
        return MemoryRepository()
