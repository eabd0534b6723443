"""The database: chats, sessions, executions and files as rows, on SQLite or PostgreSQL."""

from __future__ import annotations

from bichat.repository.address import default_address
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.ids import new_id
from bichat.repository.opening import open_repository
from bichat.repository.pages import Page

__all__ = ["ChatRepository", "Page", "default_address", "new_id", "open_repository"]
