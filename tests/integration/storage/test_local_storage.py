"""Files in a folder: what a storage promises, and what a disk and other processes can do to it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bichat.errors import NotFoundError, StorageError, UserInputError
from bichat.storage import DownloadLinks, new_key, open_storage
from bichat.storage.keys import split_key
from bichat.storage.local import LocalStorage
from bichat.testing.storage import NO_KEYS, StorageConformance, read, save

from .conftest import LARGE_BYTES, large

_MIB = 1 << 20


class TestLocal(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path, links):
        return open_storage(f"file://{tmp_path}/files", links)


class TestMemory(StorageConformance):
    @pytest.fixture
    def storage(self, links):
        return open_storage("memory://", links)


pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path):
    return tmp_path / "files"


@pytest.fixture
def storage(root, links):
    return LocalStorage(root, links)


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def in_its_place(root: Path, key: str) -> Path:
    tenant, rest = key.split("/")
    return root / tenant / rest[:2] / rest


# ----------------------------------------------------------------------------------------------------- how it is kept


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
async def test_nobody_else_on_the_host_may_look_into_it_whatever_the_umask(storage, root, mask):
    before = os.umask(mask)
    try:
        await save(storage, new_key("acme"), b"x")
    finally:
        os.umask(before)

    found = [root, *root.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in found} == {0}


async def test_the_content_is_a_plain_file_that_any_backup_understands(storage, root):
    key = new_key("acme")
    saved = await save(storage, key, b"a,b\n1,2\n", name="sales.csv")

    place = in_its_place(root, key)
    assert (place / "content").read_bytes() == b"a,b\n1,2\n"
    assert json.loads((place / "card.json").read_text())["sha256"] == saved.sha256
    assert everything(root / ".partial") == []


async def test_failures_and_deletions_leave_no_file(storage, root):
    key = new_key("acme")
    with pytest.raises(ZeroDivisionError):
        await storage.save(key, _failing(), name="a", mime_type="a/b", max_bytes=1 << 30)
    await save(storage, key, b"x")
    await storage.delete(key)

    assert [path for path in root.rglob("*") if not path.is_dir()] == []
    assert everything(root / ".partial") == []


async def _failing():
    yield b"x" * 3 * _MIB
    raise ZeroDivisionError


async def test_descriptors_are_given_back(storage, open_descriptors):
    before = len(open_descriptors())
    for number in range(5):
        key = new_key("acme")
        await save(storage, key, b"x" * 3 * _MIB)
        with pytest.raises(ZeroDivisionError):
            await storage.save(new_key("acme"), _failing(), name="a", mime_type="a/b", max_bytes=1 << 30)
        async with aclosing(storage.open(key)) as pieces:
            await anext(pieces)
        if number % 2:
            await storage.delete(key)

    assert len(open_descriptors()) == before


async def test_a_large_file_is_never_held_whole(storage, growth_of):
    key = new_key("acme")
    with growth_of() as bytes_grown:
        saved = await storage.save(key, large(), name="a", mime_type="a/b", max_bytes=LARGE_BYTES)
        size = sum([len(piece) async for piece in storage.open(key)])

        assert bytes_grown() < 24 * _MIB
    assert saved.size_bytes == size == LARGE_BYTES


async def test_a_reader_goes_on_with_a_file_that_is_deleted_meanwhile(storage):
    key = new_key("acme")
    await save(storage, key, b"x" * 5 * _MIB)

    async with aclosing(storage.open(key)) as pieces:
        size = len(await anext(pieces))
        await storage.delete(key)
        async for piece in pieces:
            size += len(piece)

    assert size == 5 * _MIB
    with pytest.raises(NotFoundError):
        await storage.stat(key)


# --------------------------------------------------------------------------------------------------- links and strangers


@pytest.mark.parametrize("replaced", ["tenant", "shard", "own"])
async def test_a_symbolic_link_in_place_of_a_folder_is_not_followed(storage, root, tmp_path, replaced):
    key = new_key("acme")
    await save(storage, key, b"x")
    place = in_its_place(root, key)
    victim = {"tenant": place.parent.parent, "shard": place.parent, "own": place}[replaced]
    victim.rename(tmp_path / "elsewhere")
    victim.symlink_to(tmp_path / "elsewhere")

    for attempt in (storage.stat(key), read(storage, key)):
        with pytest.raises(StorageError):
            await attempt
    if replaced != "own":
        same_shard = key[:-6] + "abcdef"
        with pytest.raises(StorageError):
            await save(storage, same_shard, b"y")
        with pytest.raises(StorageError):
            await storage.delete(key)
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("part", ["content", "card.json"])
async def test_a_symbolic_link_or_a_pipe_in_place_of_a_file_is_not_read(storage, root, tmp_path, part):
    key = new_key("acme")
    await save(storage, key, b"x")
    (tmp_path / "secret").write_text("secret")
    path = in_its_place(root, key) / part
    path.unlink()
    path.symlink_to(tmp_path / "secret")

    with pytest.raises(StorageError):
        await (read if part == "content" else _stat)(storage, key)
    await storage.delete(key)

    assert (tmp_path / "secret").read_text() == "secret"


async def _stat(storage, key):
    return await storage.stat(key)


async def test_the_card_of_another_file_is_told(storage, root):
    one, other = new_key("acme"), new_key("acme")
    await save(storage, one, b"x")
    await save(storage, other, b"y")
    (in_its_place(root, one) / "card.json").write_bytes((in_its_place(root, other) / "card.json").read_bytes())

    with pytest.raises(StorageError, match="spoilt"):
        await storage.stat(one)


# --------------------------------------------------------------------------------------------------- crashes, full disks


_WRITER = """
import sys, anyio
from pathlib import Path
from bichat.storage import DownloadLinks
from bichat.storage.local import LocalStorage

async def chunks():
    yield b"x" * (3 << 20)
    print("writing", flush=True)
    await anyio.sleep_forever()

storage = LocalStorage(Path(sys.argv[1]), DownloadLinks(b"", ""))
anyio.run(lambda: storage.save(sys.argv[2], chunks(), name="a", mime_type="a/b", max_bytes=1 << 30))
"""


async def test_a_sweep_takes_what_a_dead_process_left_and_nothing_that_is_being_written(storage, root, links):
    dead, alive = new_key("acme"), new_key("acme")
    with _Writing(root, dead) as first, _Writing(root, alive):
        first.kill()
        first.wait()
        assert len(list((root / ".partial").iterdir())) == 2

        open_storage(f"file://{root}", links)

        assert len(list((root / ".partial").iterdir())) == 1
    assert storage.sweep() == 1
    assert storage.sweep() == 0
    for key in (dead, alive):
        with pytest.raises(NotFoundError):
            await storage.stat(key)


class _Writing:
    """A process that saves a file, and stands in the middle of it."""

    def __init__(self, root: Path, key: str) -> None:
        command = [sys.executable, "-c", _WRITER, str(root), key]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)

    def __enter__(self):
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"writing\n"
        return self._process

    def __exit__(self, *exc_info: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_may_not_be_written_is_told_with_the_remedy(storage, root):
    await save(storage, new_key("acme"), b"x")
    (root / ".partial").chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied") as told:
            await save(storage, new_key("acme"), b"y")
    finally:
        (root / ".partial").chmod(0o700)
    assert str(root) in told.value.message
    assert told.value.remedy


async def test_a_file_where_the_folder_should_be_is_told(tmp_path, links):
    (tmp_path / "files").write_text("")
    storage = LocalStorage(tmp_path / "files", links)

    with pytest.raises(StorageError) as told:
        await save(storage, new_key("acme"), b"x")
    assert "remove it" in told.value.remedy


_FULL = """
import errno, os, subprocess, sys, anyio
from pathlib import Path
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(root)], check=True)
from bichat.errors import StorageError
from bichat.storage import DownloadLinks, new_key
from bichat.storage.local import LocalStorage
from bichat.testing.storage import read, save

async def main():
    storage = LocalStorage(root / "files", DownloadLinks(b"", ""))
    kept = new_key("acme")
    await save(storage, kept, b"kept")
    try:
        await save(storage, new_key("acme"), b"x" * (6 << 20))
    except StorageError as error:
        print(error.message, "|", error.remedy)
    left = [path.name for path in root.rglob("*") if path.is_file()]
    print(sorted(left))
    await save(storage, new_key("acme"), b"x" * (2 << 20))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
    for attempt in (lambda: save(storage, new_key("acme"), b"x"), lambda: storage.delete(kept)):
        try:
            await attempt()
        except StorageError as error:
            print(error.message, "|", error.remedy)
    print(await read(storage, kept))

anyio.run(main)
"""


def test_a_full_and_a_read_only_disk_are_told_and_leave_nothing_half_written(tmp_path, require):
    """On a disk of its own, in a mount namespace that nobody else sees."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _FULL, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:"):
        require("namespaces", done.stderr.strip())

    assert done.stderr == ""
    full, left, first, second, content = done.stdout.splitlines()
    assert "No space left on device | Make room" in full
    assert left == "['card.json', 'content']"
    assert "Read-only file system | Make the disk writable" in first
    assert "Read-only file system | Make the disk writable" in second
    assert content == "b'kept'"


# ------------------------------------------------------------------------------------------------- download addresses


async def test_the_address_opens_its_own_file_until_it_expires(storage, links, monkeypatch):
    key = new_key("acme")
    await save(storage, key, b"x")
    address = await storage.url(key, expires_in_s=60)

    base, _, query = address.partition("?")
    expires, signature = (part.split("=")[1] for part in query.split("&"))
    assert base == f"https://bi.example.com/files/{key}"
    links.check(key, expires, signature)

    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 62)
    with pytest.raises(NotFoundError):
        links.check(key, expires, signature)


def test_a_forged_address_opens_nothing_and_is_not_told_why(links):
    key, other = new_key("acme"), new_key("acme")
    _, _, query = links.url(key, 60).partition("?")
    expires, signature = (part.split("=")[1] for part in query.split("&"))
    theirs = DownloadLinks(b"t" * 32, "https://bi.example.com/").url(key, 60).rpartition("=")[2]

    messages = set()
    for forged in (
        (other, expires, signature),
        (key, str(int(expires) + 1), signature),
        (key, "9" * 12, signature),
        (key, expires + " ", signature),
        (key, "٣", signature),
        (key, "", signature),
        (key, "-1", signature),
        (key, "9" * 5000, signature),
        (key, expires, ""),
        (key, expires, signature[:-1]),
        (key, expires, signature + "="),
        (key, expires, "ä" + signature[1:]),
        (key, expires, "\ud800"),
        (key, expires, theirs),
        *((no_key, expires, signature) for no_key in NO_KEYS),
    ):
        with pytest.raises(NotFoundError) as told:
            links.check(*forged)
        messages.add(str(told.value.to_dict()))
    assert len(messages) == 1


@given(st.text(), st.text(), st.text())
def test_no_text_is_an_address_that_we_did_not_make(links, key, expires, signature):
    with pytest.raises(NotFoundError):
        links.check(key, expires, signature)


# ------------------------------------------------------------------------------------------------------ keys, addresses


@given(st.text())
def test_whatever_is_taken_for_a_key_has_two_parts_that_lead_nowhere_else(text):
    try:
        tenant, rest = split_key(text)
    except UserInputError:
        return
    assert f"{tenant}/{rest}" == text
    assert not {"/", "\\", "\0"} & set(tenant + rest)
    assert not tenant.startswith(".")


@given(st.text(max_size=70))
@settings(max_examples=300)
def test_a_key_for_any_text_as_tenant_is_one_or_is_refused(text):
    try:
        key = new_key(text)
    except UserInputError:
        return
    assert split_key(key)[0] == text


@pytest.mark.parametrize(
    "url, word",
    [
        ("", "no such kind"),
        ("ftp://host/x", "no such kind"),
        ("/srv/files", "no such kind"),
        ("file:relative", "no folder of this host"),
        ("file://host/srv", "no folder of this host"),
        ("file:///srv?x=1", "no folder of this host"),
        ("memory://x", "no such kind"),
        ("s3://", "names no bucket"),
        ("s3://bucket?edpoint=http://x", "edpoint"),
        ("s3://key:secret@bucket/x", "credentials do not belong"),
        ("az://container", "Account"),
    ],
)
def test_an_address_that_is_none_is_refused_with_the_forms_that_there_are(url, word, links):
    with pytest.raises(UserInputError, match=word) as told:
        open_storage(url, links)
    assert told.value.remedy
    assert "secret" not in str(told.value.to_dict())


@pytest.mark.parametrize(
    "url", ["s3://bucket/p", "s3://b?endpoint=http://h:1&region=eu", "gs://bucket/p", "az://c/p?account=a"]
)
def test_object_stores_are_opened_without_asking_them_anything(url, links):
    assert open_storage(url, links).keeps


# ----------------------------------------------------------------------------------------- the storage that keeps nothing


async def test_the_storage_that_keeps_nothing_counts_and_hashes_and_says_so_when_asked(links):
    storage = open_storage("none://", links)
    key = new_key("acme")

    saved = await save(storage, key, b"abc")

    assert (saved.size_bytes, saved.sha256[:8]) == (3, "ba7816bf")
    assert not storage.keeps
    await storage.delete(key)
    for attempt in (storage.stat(key), read(storage, key), storage.url(key, expires_in_s=1)):
        with pytest.raises(NotFoundError, match="keeps no files") as told:
            await attempt
        assert "BICHAT_STORAGE_URL" in told.value.remedy
