"""An interpreter that keeps what comes out: a real sandbox, SQLite and a folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bichat import CodeInterpreter
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.opening import open_repository
from bichat.storage import DownloadLinks, FileStorage
from bichat.storage.local import LocalStorage


@dataclass(frozen=True)
class Place:
    """Where a test keeps things."""

    folder: Path

    @property
    def database(self) -> str:
        return f"sqlite+aiosqlite:///{self.folder}/bichat.db"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def storage(self) -> LocalStorage:
        return LocalStorage(self.files, DownloadLinks(b"s" * 32, "https://bi.example.com"))

    def keys(self) -> set[str]:
        """Of every file whose bytes are in the folder, wherever in it."""
        found = {path.parent for path in self.files.rglob("content")}
        return {f"{path.parent.parent.name}/{path.name}" for path in found}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
async def repository(place) -> AsyncGenerator[ChatRepository]:
    async with open_repository(place.database) as opened:
        yield opened


Keeping = Callable[..., object]


@pytest.fixture
def keeping(place, bare_settings):
    """An interpreter that keeps: in the place's own storage and repository, where it is given none."""

    @asynccontextmanager
    async def opened(
        *, storage: FileStorage | None = None, repository: ChatRepository | None = None
    ) -> AsyncGenerator[CodeInterpreter]:
        async with AsyncExitStack() as exits:
            if repository is None:
                repository = await exits.enter_async_context(open_repository(place.database))
            yield await exits.enter_async_context(
                CodeInterpreter(
                    settings=bare_settings(),
                    preload=False,
                    storage=storage or place.storage(),
                    repository=repository,
                )
            )

    return opened
