"""Files of a session: brought in, listed, opened and captured, whatever the code does to their names."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bichat import LimitError, NotFoundError, UserInputError
from bichat.sizes import GIB, MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces]

WAIT = "import time\nprint('started', flush=True)\ntime.sleep(60)"

#: Of the guest: waits for a file, and reads it.
READ_WHEN_THERE = """
import os, time
def read(name):
    while not os.path.exists(name):
        time.sleep(0.001)
    return open(name).read()
"""
HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "/mnt/data/../../etc/passwd",
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "\ud800",
    "x" * 300,
]


# ---------------------------------------------------------------------------------------------------------------- files


async def test_files_given_at_the_opening_are_there(interpreter, tmp_path, answer):
    (tmp_path / "a.csv").write_text("1,2\n", encoding="utf-8")
    async with interpreter.session(files={"a.csv": tmp_path / "a.csv", "b c.txt": b"bytes"}) as session:
        assert await answer(session, "open('a.csv').read() + open('/mnt/data/b c.txt').read()") == "1,2\nbytes"


@pytest.mark.parametrize("mode", ["0", "0o555", "0o500"])
async def test_a_file_comes_into_a_folder_that_the_code_has_locked(session, mode, answer):
    await session.run(f"import os; open('a', 'w').write('old'); os.chmod('/mnt/data', {mode})")

    await session.put("a", b"new")
    await session.put("b", b"")

    shown = await answer(session, "oct(os.stat('/mnt/data').st_mode & 0o777), os.chmod('/mnt/data', 0o755)")
    assert shown == f"{oct(int(mode, 0))} None"
    assert await answer(session, "open('a').read(), sorted(os.listdir())") == "new ['a', 'b']"


async def test_names_may_be_paths_and_nothing_else(session):
    await session.put(PurePosixPath("a"), b"x")

    assert (await session.open(PurePosixPath("/mnt/data/a"))).read_bytes() == b"x"
    for name in (5, None, b"a"):
        with pytest.raises(UserInputError, match="must be text"):
            await session.open(name)


async def test_a_file_is_replaced_in_one_moment(session, begun):
    await session.put("a", b"o" * MIB)
    reading = """
print('x', flush=True)
seen = {'o'}
while 'n' not in seen:
    content = open('a').read()
    seen |= {content[:1], len(content)}
print(sorted(map(str, seen)))
"""
    async with begun(session, reading) as outcome:
        await session.put("a", b"n" * MIB)

    assert outcome["result"].stdout == f"x\n['{MIB}', 'n', 'o']\n"


async def test_a_file_that_does_not_fit_leaves_the_one_that_it_was_to_replace(interpreter, answer):
    limits = replace(interpreter._settings.limits, disk_bytes=8 * MIB)
    async with interpreter.session(limits=limits, files={"a": b"o" * 5 * MIB}) as session:
        with pytest.raises(LimitError, match="does not fit"):
            await session.put("a", b"n" * 6 * MIB)

        assert await answer(session, "open('a').read() == 'o' * (5 << 20), __import__('os').listdir()") == "True ['a']"


async def test_a_file_comes_in_while_a_cell_runs_and_another_in_the_place_of_the_first(session, begun, answer):
    async with begun(session, READ_WHEN_THERE + "print('x', flush=True)\nprint(read('late.txt'))") as outcome:
        await session.put("late.txt", b"early")
    assert outcome["result"].stdout == "x\nearly\n"

    await session.put("late.txt", io.BytesIO(b"late"))

    assert await answer(session, "open('late.txt').read(), len(os.listdir())") == "late 1"


@pytest.mark.parametrize(
    "make",
    [
        "open('x', 'w').write('old'); os.chmod('x', 0)",
        "os.symlink('/etc/passwd', 'x')",
        "os.symlink('/mnt/data/y', 'x'); open('y', 'w').write('target')",
        "os.symlink('/nowhere', 'x')",
        "os.mkfifo('x')",
        "import socket; socket.socketpair()[0]; open('x', 'w'); os.link('x', 'y')",
    ],
    ids=["read-only", "link out", "link inside", "dangling", "fifo", "hard link"],
)
async def test_whatever_the_code_has_put_in_the_place_of_a_file_is_replaced_and_not_followed(session, make, answer):
    await session.run("import os\n" + make)

    with anyio.fail_after(10):
        await session.put("x", b"new")

    assert await answer(session, "open('x').read(), os.path.islink('x')") == "new False"
    assert await answer(session, "open('y').read() in ('target', '') if os.path.exists('y') else True") == "True"


async def test_a_folder_is_not_replaced(session, answer):
    await session.run("import os; os.mkdir('x')")

    with pytest.raises(UserInputError, match="folder"):
        await session.put("x", b"new")

    assert await answer(session, "os.path.isdir('x')") == "True"


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_name_that_is_none_is_refused(session, name, answer):
    with pytest.raises(UserInputError):
        await session.put(name, b"x")

    assert await session.files() == ()
    assert await answer(session, "1") == "1"


class Unread(io.BytesIO):
    """Says that it has three gigabytes, and does not give them."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return 3 * GIB if whence == os.SEEK_END else super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        assert size == 0, "it was read before it was refused"
        return b""


async def test_three_gigabytes_are_refused_before_a_byte_is_copied(interpreter, session, tmp_path, answer):
    sparse = tmp_path / "big.csv"
    with sparse.open("wb") as file:
        file.truncate(3 * GIB)

    for source in (sparse, Unread()):
        with pytest.raises(LimitError, match=r"3\.0 GiB"):
            await session.put("big.csv", source)
        with pytest.raises(LimitError, match=r"3\.0 GiB"):
            await interpreter.open_session(files={"big.csv": source})

    assert await session.files() == ()
    assert await answer(session, "1") == "1"


async def test_a_file_that_does_not_fit_any_more_is_refused_and_leaves_nothing(session):
    await session.run("open('half', 'wb').write(bytes(40 << 20))")

    with pytest.raises(LimitError, match="full"):
        await session.put("more", bytes(30 * MIB))

    assert [file.name for file in await session.files()] == ["half"]
    await session.run("import os; os.remove('half')")
    await session.put("more", bytes(30 * MIB))


async def test_files_lists_what_lies_there_and_nothing_that_is_no_file(session):
    await session.run(
        "import os\nos.makedirs('plots/deep')\nopen('plots/deep/a.png', 'w').write('1234')\nopen('.hidden', 'w')\n"
        "open('b', 'w').write('12'); os.utime('b', (86400, 86400))\n"
        "os.symlink('/etc/passwd', 'link')\nos.mkfifo('fifo')\nos.symlink('/etc', 'etc')"
    )

    files = await session.files()

    assert [(file.name, file.size_bytes) for file in files] == [(".hidden", 0), ("b", 2), ("plots/deep/a.png", 4)]
    assert files[1].modified_at == datetime(1970, 1, 2, tzinfo=UTC)


async def test_open_gives_a_copy_of_a_file_as_it_is_now(session):
    await session.run("import os; os.mkdir('d')\nopen('d/a.csv', 'w').write('1,2')")

    now = await session.open("d/a.csv")
    await session.run("open('d/a.csv', 'w').write('3')")

    assert (now.name, now.mime_type, now.read_bytes()) == ("d/a.csv", "text/csv", b"1,2")
    assert (await session.open("/mnt/data/d/a.csv")).read_bytes() == b"3"


async def test_files_are_listed_and_opened_while_a_cell_runs(session, begun):
    async with begun(session, "open('a', 'w').write('x')\n" + WAIT):
        assert [file.name for file in await session.files()] == ["a"]
        assert (await session.open("a")).read_bytes() == b"x"
        await session.interrupt()


@pytest.mark.parametrize(
    "name", [*HOSTILE, "link", "fifo", "folder", "folder/", "etc/passwd", "folder/../real", "./real"]
)
async def test_open_leads_nowhere_but_to_the_files_that_there_are(session, name):
    await session.run(
        "import os\nopen('real', 'w')\nos.symlink('/etc/passwd', 'link')\nos.symlink('/etc', 'etc')\n"
        "os.mkfifo('fifo')\nos.mkdir('folder')"
    )

    with anyio.fail_after(10), pytest.raises(NotFoundError) as caught:
        await session.open(name)

    assert "files()" in caught.value.remedy
    str(caught.value).encode()


async def test_open_refuses_a_file_above_the_limit_for_one(interpreter, limits):
    async with interpreter.session(limits=limits(artifact_bytes=1000)) as session:
        await session.run("open('a', 'wb').write(bytes(1001)); open('b', 'wb').write(bytes(1000))")

        with pytest.raises(LimitError, match="artifact_bytes"):
            await session.open("a")

        assert (await session.open("b")).size_bytes == 1000


async def test_what_its_owner_brought_is_no_artifact_and_what_the_code_made_of_it_is(session, begun):
    await session.put("a.csv", b"1")
    assert (await session.run("pass")).artifacts == ()
    async with begun(session, READ_WHEN_THERE + "print('x', flush=True)\nread('b.csv')") as outcome:
        await session.put("b.csv", b"2")
    assert outcome["result"].artifacts == ()
    await session.put("a.csv", b"3")

    changed = await session.run("open('b.csv', 'a').write('2')")

    assert [(artifact.name, artifact.read_bytes()) for artifact in changed.artifacts] == [("b.csv", b"22")]


async def test_a_file_that_comes_in_as_a_cell_is_captured_is_no_artifact(session, until):
    await session.run("open('a', 'w').write('1')")
    turn = session._sandbox._folder._turn
    async with anyio.create_task_group() as tasks, turn:
        tasks.start_soon(session.run, "open('a', 'w').write('22')")
        await until(lambda: turn.statistics().tasks_waiting == 1)
        tasks.start_soon(session.put, "b", b"mine")
        await until(lambda: turn.statistics().tasks_waiting == 2)

    assert (await session.run("pass")).artifacts == ()


async def test_only_what_a_cell_made_or_changed_is_its_artifact(session):
    first = await session.run("open('a', 'w').write('1'); open('b', 'w').write('1')")
    second = await session.run("open('b', 'w').write('2'); open('c', 'w').write('3')")
    third = await session.run("import os; os.remove('c'); os.rename('a', 'd')")

    assert [artifact.name for artifact in first.artifacts] == ["a", "b"]
    assert [(artifact.name, artifact.read_bytes()) for artifact in second.artifacts] == [("b", b"2"), ("c", b"3")]
    assert [artifact.name for artifact in third.artifacts] == ["d"]


async def test_what_threads_and_daemons_did_between_two_cells_comes_with_the_next(session):
    await session.run(
        READ_WHEN_THERE + "import threading\n"
        "def late():\n    read('go'); print('printed late', flush=True); open('late.txt', 'w').write('x'); open('done', 'w')\n"
        "threading.Thread(target=late).start()"
    )
    await session.put("go", b"")
    with anyio.fail_after(20):
        while "done" not in {file.name for file in await session.files()}:
            await checkpoint()

    result = await session.run("print('next')")

    assert result.stdout == "printed late\nnext\n"
    assert [artifact.name for artifact in result.artifacts] == ["done", "late.txt"]
