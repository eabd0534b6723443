"""The storage and the repository that the operator has chosen, opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote

import anyio.to_thread

from bichat.repository import ChatRepository, default_address, open_repository
from bichat.settings.location import make_data_dir
from bichat.settings.secret import load_secret
from bichat.settings.settings import Settings
from bichat.storage import DownloadLinks, FileStorage, open_storage


@asynccontextmanager
async def open_places(settings: Settings) -> AsyncGenerator[tuple[FileStorage, ChatRepository]]:
    """Both, as `BICHAT_STORAGE_URL` and `BICHAT_DATABASE_URL` say; by default a folder and a file in the data directory.

    Raises:
        UserInputError: no such storage can be.
        StorageError: the data directory, its secret or the storage cannot be used.
        DatabaseError: the database cannot be used.
    """
    data_dir = make_data_dir(settings.data_dir)
    links = DownloadLinks(await anyio.to_thread.run_sync(load_secret, data_dir), settings.public_url)
    address = settings.storage_url or f"file://{quote(str(data_dir / 'files'))}"
    storage = await anyio.to_thread.run_sync(open_storage, address, links)
    async with open_repository(settings.database_url or default_address(data_dir)) as repository:
        yield storage, repository
