"""What every `FileStorage` promises, as tests.

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        async def storage(self):
            yield MyStorage(...)

The fixture gives an empty storage, or one that others use under other tenants' keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import anyio
import pytest

from bichat.domain import StoredFile
from bichat.errors import LimitError, NotFoundError, StorageError, UserInputError
from bichat.storage import FileStorage, new_key

_MIB = 1 << 20
#: What is no key: empty, a path, an address, another's spelling.
NO_KEYS = (
    "",
    "/",
    "..",
    "../",
    "a",
    "a/",
    "a/b",
    "/a/" + "0" * 32,
    "a/../" + "0" * 32,
    "../" + "0" * 32,
    "a/" + "0" * 32 + "/",
    "a/" + "0" * 32 + "\n",
    "a/" + "A" * 32,
    "a/" + "0" * 31,
    "a/" + "0" * 33,
    "a/0/" + "0" * 30,
    "a\0b/" + "0" * 32,
    "ä/" + "0" * 32,
    ".a/" + "0" * 32,
    "a%2f/" + "0" * 32,
    "http://host/files/a/" + "0" * 32,
    "a/" + "0" * 32 + "?expires=1",
    "a" * 65 + "/" + "0" * 32,
)


async def chunks_of(content: bytes, size: int = 100_000) -> AsyncGenerator[bytes]:
    """`content` in chunks of `size` bytes."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


class StorageConformance:
    """Subclass it; see the module."""

    pytestmark = pytest.mark.anyio

    async def test_what_was_saved_comes_back_byte_for_byte_with_all_that_was_said_of_it(
        self, storage: FileStorage
    ) -> None:
        key, content = new_key("acme"), bytes(range(256)) * 9_000
        before = datetime.now(UTC) - timedelta(seconds=1)

        saved = await save(storage, key, content, name="Bericht 2026/größe.csv", mime_type="text/csv; charset=utf-8")

        assert saved == StoredFile(
            key=key,
            name="Bericht 2026/größe.csv",
            mime_type="text/csv; charset=utf-8",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=saved.created_at,
        )
        assert before < saved.created_at < datetime.now(UTC) + timedelta(seconds=1)
        assert saved.created_at.utcoffset() == timedelta(0)
        assert await storage.stat(key) == saved
        assert await read(storage, key) == content

    @pytest.mark.parametrize("size", [0, 1, _MIB - 1, _MIB, _MIB + 1, 8 * _MIB - 1, 8 * _MIB, 8 * _MIB + 1, 20 * _MIB])
    async def test_files_of_every_size_come_back_as_they_were(self, storage: FileStorage, size: int) -> None:
        key, content = new_key("acme"), (b"0123456789abcdef" * (size // 16 + 1))[:size]

        saved = await save(storage, key, content, chunk=777_777)

        assert (saved.size_bytes, saved.sha256) == (size, hashlib.sha256(content).hexdigest())
        assert await read(storage, key) == content

    @pytest.mark.parametrize("size", [100, 9 * _MIB])
    async def test_a_part_of_a_file_is_read_by_the_positions_of_its_bytes(
        self, storage: FileStorage, size: int
    ) -> None:
        key, content = new_key("acme"), bytes(number % 251 for number in range(size))
        await save(storage, key, content)

        for start, end in (
            (0, 0),
            (0, 1),
            (3, 10),
            (size - 1, size),
            (50, None),
            (0, size),
            (0, size * 2),
            (size, None),
        ):
            assert await read(storage, key, start=start, end=end) == content[start:end]
        assert await read(storage, key, start=size + 5) == b""
        for start, end in ((-1, 5), (5, 4), (-2, None)):
            with pytest.raises(UserInputError):
                await read(storage, key, start=start, end=end)

    async def test_pieces_are_small_and_a_reader_may_stop_in_the_middle(self, storage: FileStorage) -> None:
        key = new_key("acme")
        await save(storage, key, b"x" * 17 * _MIB)

        async with aclosing(storage.open(key)) as pieces:
            first = await anext(pieces)

        assert 0 < len(first) <= 8 * _MIB
        assert len(await read(storage, key)) == 17 * _MIB

    async def test_names_are_data_and_lead_nowhere(self, storage: FileStorage) -> None:
        for name in (
            "../../etc/passwd",
            "/etc/passwd",
            "",
            ".",
            "..",
            "a\0b",
            "a\nb\r\nSet-Cookie: x",
            "C:\\x",
            "…" * 300,
        ):
            key = new_key("acme")
            assert (await save(storage, key, b"x", name=name)).name == name
            assert (await storage.stat(key)).name == name
            assert await read(storage, key) == b"x"

    async def test_files_of_the_same_name_stand_side_by_side(self, storage: FileStorage) -> None:
        one, other = new_key("acme"), new_key("beta")
        await save(storage, one, b"one", name="chart.png")
        await save(storage, other, b"other", name="chart.png")

        assert (await read(storage, one), await read(storage, other)) == (b"one", b"other")

    async def test_a_key_is_written_once(self, storage: FileStorage) -> None:
        key = new_key("acme")
        await save(storage, key, b"first")

        with pytest.raises(StorageError):
            await save(storage, key, b"second")

        assert await read(storage, key) == b"first"

    async def test_the_same_file_under_another_tenant_is_not_there(self, storage: FileStorage) -> None:
        key = new_key("acme")
        await save(storage, key, b"secret")

        with pytest.raises(NotFoundError):
            await storage.stat(key.replace("acme/", "beta/"))

    async def test_what_was_never_kept_is_not_found(self, storage: FileStorage) -> None:
        key = new_key("acme")

        with pytest.raises(NotFoundError):
            await storage.stat(key)
        with pytest.raises(NotFoundError):
            await read(storage, key)
        with pytest.raises(NotFoundError):
            await storage.url(key, expires_in_s=60)

    async def test_what_was_deleted_is_gone_and_deleting_it_again_is_no_error(self, storage: FileStorage) -> None:
        key, other = new_key("acme"), new_key("acme")
        await save(storage, key, b"x")
        await save(storage, other, b"y")

        await storage.delete(key)
        await storage.delete(key)
        await storage.delete(new_key("nobody"))

        with pytest.raises(NotFoundError):
            await storage.stat(key)
        with pytest.raises(NotFoundError):
            await read(storage, key)
        assert await read(storage, other) == b"y"

    @pytest.mark.parametrize("key", NO_KEYS)
    async def test_what_is_no_key_is_refused_everywhere(self, storage: FileStorage, key: str) -> None:
        with pytest.raises(UserInputError):
            await save(storage, key, b"x")
        with pytest.raises(UserInputError):
            await storage.stat(key)
        with pytest.raises(UserInputError):
            await read(storage, key)
        with pytest.raises(UserInputError):
            await storage.delete(key)
        with pytest.raises(UserInputError):
            await storage.url(key, expires_in_s=60)

    @pytest.mark.parametrize("size", [1_001, 9 * _MIB])
    async def test_a_file_above_its_limit_is_refused_and_nothing_of_it_kept(
        self, storage: FileStorage, size: int
    ) -> None:
        key = new_key("acme")

        with pytest.raises(LimitError):
            await save(storage, key, b"x" * size, max_bytes=size - 1)
        with pytest.raises(NotFoundError):
            await storage.stat(key)

        assert (await save(storage, key, b"x" * size, max_bytes=size)).size_bytes == size

    @pytest.mark.parametrize("size", [1_000, 20 * _MIB])
    async def test_a_source_that_fails_leaves_nothing_and_its_error_is_told(
        self, storage: FileStorage, size: int
    ) -> None:
        key = new_key("acme")

        async def failing() -> AsyncGenerator[bytes]:
            async for chunk in chunks_of(b"x" * size):
                yield chunk
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await storage.save(key, failing(), name="a", mime_type="text/plain", max_bytes=1 << 30)

        with pytest.raises(NotFoundError):
            await storage.stat(key)
        await save(storage, key, b"second try")
        assert await read(storage, key) == b"second try"

    @pytest.mark.parametrize("size", [1_000, 20 * _MIB])
    async def test_saving_that_is_cancelled_leaves_nothing(self, storage: FileStorage, size: int) -> None:
        key = new_key("acme")
        stands = anyio.Event()

        async def standing() -> AsyncGenerator[bytes]:
            async for chunk in chunks_of(b"x" * size):
                yield chunk
            stands.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_saved, storage, key, standing())
            await stands.wait()
            tasks.cancel_scope.cancel()

        with pytest.raises(NotFoundError):
            await storage.stat(key)

    async def test_many_are_saved_and_read_at_the_same_time(self, storage: FileStorage) -> None:
        keys = {new_key("acme"): bytes([number]) * 200_000 for number in range(12)}

        async def there_and_back(key: str, content: bytes) -> None:
            await save(storage, key, content)
            assert await read(storage, key) == content

        async with anyio.create_task_group() as tasks:
            for key, content in keys.items():
                tasks.start_soon(there_and_back, key, content)

        for key, content in keys.items():
            assert await read(storage, key) == content

    async def test_an_address_is_made_for_a_time_that_can_be(self, storage: FileStorage) -> None:
        key = new_key("acme")
        await save(storage, key, b"x", name="secret name.csv")

        address = await storage.url(key, expires_in_s=60)

        assert urlsplit(address).scheme in ("http", "https")
        assert "secret" not in address
        for seconds in (0, -1, 7 * 24 * 3600 + 1, float("nan"), float("inf")):
            with pytest.raises(UserInputError):
                await storage.url(key, expires_in_s=seconds)


async def save(
    storage: FileStorage,
    key: str,
    content: bytes,
    *,
    name: str = "a.txt",
    mime_type: str = "text/plain",
    max_bytes: int = 1 << 30,
    chunk: int = 100_000,
) -> StoredFile:
    """`content` under `key`, with the rest as most tests have it."""
    chunks = chunks_of(content, chunk)
    return await storage.save(key, chunks, name=name, mime_type=mime_type, max_bytes=max_bytes)


async def _saved(storage: FileStorage, key: str, chunks: AsyncIterable[bytes]) -> None:
    await storage.save(key, chunks, name="a", mime_type="text/plain", max_bytes=1 << 30)


async def read(storage: FileStorage, key: str, *, start: int = 0, end: int | None = None) -> bytes:
    """The bytes from `start` to `end`."""
    return b"".join([piece async for piece in storage.open(key, start=start, end=end)])
