"""Every repository keeps the promises of the port."""

from __future__ import annotations

from bichat.testing.repository import RepositoryConformance


class TestSqlRepository(RepositoryConformance):
    """On SQLite and PostgreSQL: see `repository` in conftest.py."""
