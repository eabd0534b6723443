"""Attacks by files that come out: links, devices, names, races.  What comes out is a plain file with a harmless name."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bichat.attacks.attack import SMALL, Attack, Family, Statement, expect
from bichat.attacks.ground import Ground, Ran
from bichat.errors import BichatError
from bichat.files import save_files
from bichat.sizes import MIB


async def _collected(ground: Ground, attack: Attack) -> list[Statement]:
    """Run it and look at what was collected: nothing that is no regular file of its own."""
    ran = await ground.run(attack.code, limits=attack.limits)
    return _plain(ran) + [said for said in ran.statements if said.sign]


def _plain(ran: Ran) -> list[Statement]:
    foreign = [
        artifact.name for artifact in ran.captured.artifacts if b"root:" in next(artifact.content.chunks(), b"")[:4096]
    ]
    return [
        expect(not foreign, "collector", f"files of the host among those collected: {foreign or 'none'}"),
        expect(ran.ended.status.value != "session_lost", "collector", f"the code ended as {ran.ended.status.value}"),
    ]


async def _rest_comes_out(ground: Ground, attack: Attack) -> list[Statement]:
    """What the collector cannot read keeps nothing else back: the file called `open` is there."""
    ran = await ground.run(attack.code, limits=attack.limits)
    return [*_plain(ran), expect("open" in ran.files, "collector", f"collected: {sorted(ran.files)[:5]}")]


async def _refused(ground: Ground, attack: Attack) -> list[Statement]:
    """Nothing called `x` may come out at all."""
    ran = await ground.run(attack.code, limits=attack.limits)
    taken = [name for name in ran.files if name.startswith("x")]
    return [*_plain(ran), expect(not taken, "collector", f"collected of what is no file: {taken or 'nothing'}")]


async def _bounded(ground: Ground, attack: Attack) -> list[Statement]:
    """No more comes out than the limits say: bytes of one, files, bytes of all."""
    ran = await ground.run(attack.code, limits=attack.limits)
    sizes = [artifact.size_bytes for artifact in ran.captured.artifacts]
    limits = attack.limits
    return [
        *_plain(ran),
        expect(len(sizes) <= limits.artifacts, "collector", f"{len(sizes)} files of at most {limits.artifacts}"),
        expect(
            max(sizes, default=0) <= limits.artifact_bytes,
            "collector",
            f"the largest has {max(sizes, default=0)} bytes",
        ),
        expect(sum(sizes) <= limits.disk_bytes + limits.artifact_bytes, "collector", f"{sum(sizes)} bytes in all"),
    ]


async def _saved_inside(ground: Ground, attack: Attack) -> list[Statement]:
    """Save what came out as the product does: every file lies below the folder, under a name that shows."""
    ran = await ground.run(attack.code, limits=attack.limits)
    with TemporaryDirectory(dir=ground.folder) as name:
        outer = Path(name)
        folder = outer / "saved"
        try:
            paths = save_files(
                ((artifact.name, artifact.content.chunks()) for artifact in ran.captured.artifacts), folder
            )
        except BichatError as error:
            return [expect(False, "names", f"saving failed: {error}")]
        inside = [path for path in paths if path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink()]
        around = sorted(os.listdir(outer))
        named = [
            path.name for path in paths if any(ord(letter) < 32 or letter in '\\<>:"|?*\x7f' for letter in path.name)
        ]
    return [
        *_plain(ran),
        expect(len(inside) == len(paths) > 0, "names", f"{len(inside)} of {len(paths)} files saved inside the folder"),
        expect(around == ["saved"], "names", f"beside the folder there is {around}"),
        expect(not named, "names", f"names that steer or mean something elsewhere: {named or 'none'}"),
    ]


_artifacts = partial(Attack, family=Family.ARTIFACTS, driver=_collected, limits=replace(SMALL, timeout_s=2.0))
_no_file = partial(_artifacts, driver=_refused, expected="it is refused, never opened")
_named = partial(_artifacts, driver=_saved_inside, expected="it is saved inside the folder, under a harmless name")
#: While the files are collected, for two seconds at most; the sandbox's end ends it too.
_MEANWHILE: Final = """
import time
until = time.monotonic() + 2
if os.fork() == 0:
    while time.monotonic() < until:
"""

ATTACKS: Final = (
    _no_file(
        name="link-to-a-secret",
        tries="to have the server read its own file for it, by a symbolic link among the results (judge0, Compiler Explorer)",
        code="os.symlink(given['secret'], 'x')",
    ),
    _no_file(
        name="link-to-passwords-and-processes",
        tries="the same with files that only the server may read",
        code="""
        for number, path in enumerate(("/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/environ", "/dev/zero",
                                       "../../../../../etc/passwd", "x0", "/")):
            os.symlink(path, f"x{number}")
        """,
    ),
    _no_file(
        name="link-to-a-folder",
        tries="to have the server collect a folder of its own, by a link",
        code="""
        os.symlink(given["folder"], "x")
        os.mkdir("y")
        os.symlink("/etc", "y/x")
        os.rename("y", "xy")
        """,
    ),
    _no_file(
        name="pipe-among-the-files",
        tries="to have the server wait for ever at a FIFO",
        code="os.mkfifo('x'); os.mkfifo('x2')",
    ),
    _no_file(
        name="socket-and-device-among-the-files",
        tries="to have the server open a socket or a device",
        code="""
        works(os.mknod, "x", 0o140600)
        works(os.mknod, "x2", 0o20666, os.makedev(1, 5))
        works(os.mknod, "x3", 0o60666, os.makedev(8, 0))
        """,
    ),
    _artifacts(
        name="hard-link-to-the-hosts-files",
        tries="to have a file of the host collected by a second name",
        expected="no such name can be made",
        code="""
        for number, path in enumerate((given["secret"], "/etc/passwd", "/usr/bin/env", os.__file__, "/dev/null")):
            attempt(path, os.link, path, f"x{number}")
        """,
        signs={
            "EXDEV": ("another file system",),
            "ENOENT": ("not there",),
            "EACCES": ("landlock or file modes",),
            "EPERM": ("landlock or file modes",),
            "EROFS": ("read-only",),
        },
    ),
    _artifacts(
        name="file-swapped-for-a-link",
        tries="to swap a file for a link, a FIFO and a folder while it is collected",
        expected="no byte of the host's comes out",
        code=_MEANWHILE
        + """
        for name in ("a", "b", "c"):
            works(os.unlink, name)
            works(os.symlink, given["secret"], name)
            works(os.unlink, name)
            works(os.mkfifo, name)
            works(os.rename, name, "d")
            works(lambda: open(name, "wb").truncate(1 << 20))
""",
    ),
    _artifacts(
        name="folder-swapped-for-a-link",
        tries="to swap a folder for a link while the collector is about to enter it",
        expected="no byte of the host's comes out",
        code="""
os.mkdir("folder")
open("folder/secret", "w").close()
os.mkdir("folder/deeper")
"""
        + _MEANWHILE
        + """
        works(os.rename, "folder", "other")
        works(os.symlink, given["folder"], "folder")
        works(os.unlink, "folder")
        works(os.rename, "other", "folder")
""",
    ),
    _artifacts(
        name="file-that-grows-while-it-is-read",
        tries="to have the server read a file that grows as fast as it is read",
        driver=_bounded,
        expected="no more comes out than the limit",
        limits=replace(SMALL, artifact_bytes=4 * MIB, timeout_s=2.0),
        code=_MEANWHILE
        + """
        with open("growing", "ab") as file:
            works(file.write, b"x" * (1 << 20))
        if os.stat("growing").st_size > 8 << 20:
            os.truncate("growing", 0)
""",
    ),
    _artifacts(
        name="files-without-end",
        tries="to have the server collect more files than it should",
        driver=_bounded,
        expected="no more come out than the limit",
        limits=replace(SMALL, artifacts=50),
        code="for number in range(400): open(f'{number:03}', 'w').write('x')",
    ),
    _artifacts(
        name="sparse-files",
        tries="to have the server copy many large files that hold nothing",
        driver=_bounded,
        expected="what comes out is bounded in all",
        limits=replace(SMALL, artifact_bytes=16 * MIB),
        code="""
        for number in range(40):
            works(os.truncate, os.open(f"s{number}", os.O_RDWR | os.O_CREAT), 12 << 20)
        works(os.truncate, os.open("large", os.O_RDWR | os.O_CREAT), 40 << 20)
        open("real", "w").write("x")
        for number in range(100):
            os.link("s1", f"again{number}")
        """,
    ),
    _artifacts(
        name="folders-nested-without-end",
        tries="to exhaust the collector's stack, its descriptors and the length of paths",
        driver=_rest_comes_out,
        expected="the rest comes out",
        code="""
        open("open", "w").write("x")
        for _ in range(200):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        open("deep", "w").write("y")
        """,
    ),
    _artifacts(
        name="closed-folders-and-files",
        tries="to stop the collector with folders and files that nobody may read",
        driver=_rest_comes_out,
        expected="the rest comes out",
        code="""
        os.mkdir("closed")
        open("closed/inside", "w").write("x")
        os.chmod("closed", 0)
        open("shut", "w").write("y")
        os.chmod("shut", 0)
        open("open", "w").write("z")
        """,
    ),
    _named(
        name="names-that-climb",
        tries="to have a file saved elsewhere, by a name with .. and backslashes",
        code=r"""
        os.mkdir("a")
        for name in (b"..\\..\\x", b"...", b"..%2f..%2fx", b"~", b"~root", b"C:\\x", b"\\\\host\\share", b"a/..\\x", b". .", b" "):
            open(name, "wb").write(b"x")
        """,
    ),
    _named(
        name="names-that-steer",
        tries="to steer a terminal, a web page or a shell by a file's name",
        code=r"""
        for name in (b"\x1b[2J\x1b]0;x\x07", b"a\nb", b"a\rb", b"<img src=x onerror=alert(1)>.html", b"$(id)", b"`id`;rm -rf x",
                     b"-rf", b"--help", "\u202egnp.exe".encode(), "a\u200bb".encode(), b"a\tb", b"'\"", b"|x", b"{{7*7}}"):
            open(name, "wb").write(b"x")
        """,
    ),
    _named(
        name="names-that-are-no-text",
        tries="to break the server by names that are no UTF-8, very long, or all the same after cleaning",
        code=r"""
        for name in (b"\xff.bin", b"\xc0\x80", b"n" * 255, "\u00e9".encode() * 127, b"\xed\xa0\x80", b"A", b"a", "\u00c5".encode(),
                     "A\u030a".encode(), b"\xfe", b"x" * 250 + b".html", b"\\xff.bin"):
            open(name, "wb").write(b"x")
        """,
    ),
    _named(
        name="names-that-mean-devices",
        tries="to have a file saved under a name that means a device or a setting where it is opened",
        code=r"""
        for name in (b"CON", b"NUL.txt", b"aux", b"desktop.ini", b"x.", b"x ", b".bashrc", b".ssh", b"x:stream", b"LPT1.csv"):
            open(name, "wb").write(b"x")
        """,
    ),
    _named(
        name="names-of-folders",
        tries="to have folders made outside, or a folder and a file fall together",
        code=r"""
        for folder in (b"..\\up", b"CON", b"a\nb", b"\xff", b"-x", b"d/..."):
            os.makedirs(folder, exist_ok=True)
            open(folder + b"/file", "wb").write(b"x")
        open("D", "w").write("x")
        """,
    ),
)
