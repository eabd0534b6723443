"""What the routes stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bichat.archive import Archive
from bichat.conversation.core import Core
from bichat.interpreter import CodeInterpreter
from bichat.live_sessions import LiveSessions
from bichat.repository.chat_repository import ChatRepository
from bichat.server.readiness import Readiness
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks, FileStorage

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Of one process; made by `bichat.server.opening.open_services`."""

    settings: Settings
    interpreter: CodeInterpreter
    archive: Archive
    sessions: LiveSessions
    core: Core
    readiness: Readiness
    links: DownloadLinks
    """Signs and checks addresses of downloads."""

    @property
    def repository(self) -> ChatRepository:
        """Where everything is recorded."""
        return self.archive.repository

    @property
    def storage(self) -> FileStorage:
        """Where the bytes of files are."""
        return self.archive.storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose request it is."""

    tenant: str
    user: str = ""
    key_id: str | None = None
    """Of the API key that it came with; None on a server without keys."""

    @property
    def name(self) -> str:
        """By which it is told from others in what counts."""
        return self.key_id or self.tenant
