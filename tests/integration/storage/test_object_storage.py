"""Object stores: everything that a storage promises, over the real protocol, and what only they can do wrong."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from bichat.errors import NotFoundError, StorageError
from bichat.storage import new_key, open_storage
from bichat.testing.storage import StorageConformance, chunks_of, read, save

from .conftest import BUCKET, LARGE_BYTES, SECRET, large

_MIB = 1 << 20


class TestMoto(StorageConformance):
    @pytest.fixture
    def storage(self, moto, links):
        return open_storage(moto.url, links)


class TestRclone(StorageConformance):
    @pytest.fixture
    def storage(self, rclone, links):
        return open_storage(rclone.url, links)


pytestmark = pytest.mark.anyio


def unfinished(moto):
    return moto.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def objects(moto, key: str):
    found = moto.client.list_objects_v2(Bucket=BUCKET, Prefix=f"files/prod/{key}").get("Contents", [])
    return sorted(entry["Key"].removeprefix(f"files/prod/{key}/") for entry in found)


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_the_address_loads_the_file_as_a_download_until_it_expires(server, request, links):
    storage = open_storage(request.getfixturevalue(server).url, links)
    key = new_key("acme")
    await save(storage, key, b"<script>alert(1)</script>", name="Größe.html", mime_type="text/html")

    address = await storage.url(key, expires_in_s=60)
    with await anyio.to_thread.run_sync(urllib.request.urlopen, address) as answer:
        assert answer.read() == b"<script>alert(1)</script>"
    if server == "moto":  # rclone forgets what it was told of a file
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.html"
    else:  # moto checks no signature
        for forged in (address.replace(key, new_key("acme")), address.replace("X-Amz-Expires=60", "X-Amz-Expires=600")):
            with pytest.raises(urllib.error.HTTPError, match="403") as refused:
                await anyio.to_thread.run_sync(urllib.request.urlopen, forged)
            refused.value.close()


@pytest.mark.parametrize(
    "name", ["", "a/b/c.csv", "x" * 3000, "\r\nX-Evil: 1", '"; filename=evil.exe', "\ud800", "💥.png"]
)
@pytest.mark.parametrize("mime_type", ["text/csv", "", "text/html\r\nX-Evil: 1", "no type", "\ud800"])
async def test_no_name_and_no_type_breaks_a_header(moto, links, name, mime_type):
    storage, key = open_storage(moto.url, links), new_key("acme")

    await save(storage, key, b"x", name=name, mime_type=mime_type)

    assert ((await storage.stat(key)).name, (await storage.stat(key)).mime_type) == (name, mime_type)
    answer = moto.client.get_object(Bucket=BUCKET, Key=f"files/prod/{key}/content")
    answer["Body"].close()
    assert answer["ContentDisposition"].startswith("attachment; filename*=UTF-8''")
    assert answer["ContentType"] == (mime_type if mime_type == "text/csv" else "application/octet-stream")
    assert "x-evil" not in {header.lower() for header in answer["ResponseMetadata"]["HTTPHeaders"]}


async def test_a_large_file_is_never_held_whole(rclone, links, growth_of):
    storage, key = open_storage(rclone.url, links), new_key("acme")
    await save(storage, new_key("acme"), b"x" * 9 * _MIB)  # threads and connections are there
    with growth_of() as bytes_grown:
        saved = await storage.save(key, large(), name="a", mime_type="a/b", max_bytes=LARGE_BYTES)
        size = 0
        async for piece in storage.open(key):
            size += len(piece)

        assert bytes_grown() < 64 * _MIB
    assert saved.size_bytes == size == LARGE_BYTES


@pytest.mark.parametrize("pieces_before", [12, 20], ids=["in the middle of a part", "when all has been sent"])
async def test_a_server_that_dies_while_it_takes_a_file_is_told_and_nothing_of_the_file_is_there(
    mortal_rclone, links, pieces_before
):
    storage, key, kept = open_storage(mortal_rclone.server.url, links), new_key("acme"), new_key("acme")
    await save(storage, kept, b"kept")

    async def dying() -> AsyncGenerator[bytes]:
        for number in range(20):
            if number == pieces_before:
                mortal_rclone.kill()
            yield b"x" * _MIB
        mortal_rclone.kill()

    with anyio.fail_after(60), pytest.raises(StorageError, match=f"s3://{BUCKET}") as told:
        await storage.save(key, dying(), name="a", mime_type="a/b", max_bytes=1 << 30)
    mortal_rclone.start()

    assert told.value.stage == "storage"
    with pytest.raises(NotFoundError):
        await storage.stat(key)
    assert await read(storage, kept) == b"kept"
    await storage.delete(key)
    await save(storage, key, b"again")
    assert await read(storage, key) == b"again"
    left = [path.name for path in mortal_rclone.served.rglob("*") if path.is_file()]
    own = [name for name in left if not name.startswith(".rclone_temp_multipart")]  # the dead server's, see storage.md
    assert sorted(own) == ["card.json", "card.json", "content", "content"]


async def test_a_server_that_dies_while_it_is_read_is_told_and_read_again_once_it_is_back(mortal_rclone, links):
    storage, key = open_storage(mortal_rclone.server.url, links), new_key("acme")
    await save(storage, key, b"x" * 32 * _MIB)

    async with aclosing(storage.open(key)) as pieces:
        await anext(pieces)
        mortal_rclone.kill()
        with anyio.fail_after(60), pytest.raises(StorageError, match=f"s3://{BUCKET}"):
            [_ async for _ in pieces]
    mortal_rclone.start()

    assert await read(storage, key) == b"x" * 32 * _MIB


async def test_an_upload_that_is_given_up_leaves_no_parts_in_the_bucket(moto, links):
    storage, key = open_storage(moto.url, links), new_key("acme")
    stands = anyio.Event()

    async def standing() -> AsyncGenerator[bytes]:
        async for chunk in chunks_of(b"x" * 20 * _MIB):
            yield chunk
        stands.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:

        async def upload() -> None:
            await storage.save(key, standing(), name="a", mime_type="a/b", max_bytes=1 << 30)

        tasks.start_soon(upload)
        await stands.wait()
        assert [entry["Key"] for entry in unfinished(moto)] == [f"files/prod/{key}/content"]
        tasks.cancel_scope.cancel()

    assert unfinished(moto) == []
    assert objects(moto, key) == []


async def test_a_file_without_its_card_is_not_there_and_is_deleted_all_the_same(moto, links):
    storage, key = open_storage(moto.url, links), new_key("acme")
    await save(storage, key, b"x")
    moto.client.delete_object(Bucket=BUCKET, Key=f"files/prod/{key}/card.json")

    with pytest.raises(NotFoundError):
        await read(storage, key)
    await storage.delete(key)

    assert objects(moto, key) == []


async def test_a_spoilt_card_is_told(moto, links):
    storage, key = open_storage(moto.url, links), new_key("acme")
    await save(storage, key, b"x")
    for card in (b"", b"{}", b"[]", b"\xff", b"null", json.dumps({"key": key}).encode(), b"x" * 100_000):
        moto.client.put_object(Bucket=BUCKET, Key=f"files/prod/{key}/card.json", Body=card)
        with pytest.raises(StorageError, match="spoilt"):
            await storage.stat(key)


async def test_content_that_was_cut_is_told(moto, links):
    storage, key = open_storage(moto.url, links), new_key("acme")
    await save(storage, key, b"0123456789")
    moto.client.put_object(Bucket=BUCKET, Key=f"files/prod/{key}/content", Body=b"0123")

    with pytest.raises(StorageError, match="shorter"):
        await read(storage, key)


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_a_missing_bucket_is_named_with_the_remedy(server, request, links):
    found = request.getfixturevalue(server)
    storage = open_storage(f"s3://no-such-bucket/p?endpoint={found.endpoint}", links)

    for size in (10, 9 * _MIB):
        with pytest.raises(StorageError, match="no such bucket") as told:
            await save(storage, new_key("acme"), b"x" * size)
        assert "no-such-bucket" in told.value.message
        assert "BICHAT_STORAGE_URL" in told.value.remedy


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
async def test_bad_credentials_are_told_without_a_word_of_them(rclone, links, monkeypatch, variable):
    monkeypatch.setenv(variable, "wrong-credential")
    storage = open_storage(rclone.url, links)

    for attempt in (
        lambda key: save(storage, key, b"x"),
        lambda key: save(storage, key, b"x" * 9 * _MIB),
        storage.stat,
    ):
        with pytest.raises(StorageError, match="refuses") as told:
            await attempt(new_key("acme"))
        said = repr(told.value.to_dict())
        assert "AWS_ACCESS_KEY_ID" in told.value.remedy
        assert "wrong-credential" not in said
        assert SECRET not in said


async def test_a_store_that_is_down_is_told_and_asked_no_longer(links):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    storage = open_storage(f"s3://{BUCKET}?endpoint=http://127.0.0.1:{port}", links)

    with anyio.fail_after(60), pytest.raises(StorageError, match=f"s3://{BUCKET}") as told:
        await save(storage, new_key("acme"), b"x")

    assert "BICHAT_STORAGE_URL" in told.value.remedy
    assert str(port) not in told.value.message  # no address that might be signed
