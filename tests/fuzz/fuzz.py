"""`make fuzz`: looks for bytes that break a promise of a target, guided by the lines of bichat that they reach.

Each target has a process of its own, for a bounded time, within `walls.py`.  What breaks a promise lies in
`build/fuzz/TARGET/` afterwards, and the exit code is 1.  New ways through the code join `corpus/TARGET/`, of which few
files stay that reach what all of them reach, and those that somebody gave a name: what once broke a promise.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

_HERE: Final = Path(__file__).parent
_CORPUS: Final = _HERE / "corpus"
_FOUND: Final = _HERE.parents[1] / "build" / "fuzz"
_SOURCES: Final = str(_HERE.parents[1] / "src" / "bichat") + os.sep
#: Twice as fast as a disk, where the host has it.
_MEMORY: Final = Path("/dev/shm")
#: Longest bytes that are tried, and longest time that they may take before that is a finding.
_MAX_BYTES: Final = 1024
_HANG_S: Final = 20
_MAX_MEMORY_MIB: Final = 1024

#: A file that this program chose, and may choose to leave out; one that somebody gave a name stays.
_IS_CHOSEN: Final = re.compile(r"[0-9a-f]{16}").fullmatch
#: Most files that a corpus keeps beside those.
_MAX_KEPT: Final = 32

Arc = tuple[str, int, int, int]
"""File, line, next line, and how often that was taken, as the number of bits of it."""


def main() -> int:
    """Fuzz the targets that are named, one after the other."""
    chosen = _parser().parse_args()
    if chosen.step is not None:
        step, target, folder = chosen.step
        {"look": _look, "minimise": _minimise}[step](target, Path(folder), chosen.seconds)
        return 0
    from fuzz_targets import TARGETS

    unknown = set(chosen.targets) - TARGETS.keys()
    if unknown:
        sys.stderr.write(f"no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}\n")
        return 2
    return max(_fuzz(target, chosen.seconds) for target in chosen.targets or TARGETS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Fuzz what reads bytes from a guest, names of files, and what is typed."
    )
    parser.add_argument("targets", nargs="*", help="names of targets; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long each is looked at")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # of a child process
    return parser


def _fuzz(target: str, seconds: int) -> int:
    """Look at one target, and keep what was found; 1 where a promise was broken."""
    with tempfile.TemporaryDirectory(prefix="bichat-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        folder = Path(name)
        for part in ("corpus", "found", "room"):
            (folder / part).mkdir()
        kept = _CORPUS / target
        for path in kept.iterdir() if kept.is_dir() else ():
            shutil.copy(path, folder / "corpus")
        log, is_sound = _step("look", target, folder, seconds)
        print(f"{target}: {_summary(log)}", flush=True)
        if not is_sound:
            print(log[log.find(" === ") :][-4000:])
            _FOUND.joinpath(target).mkdir(parents=True, exist_ok=True)
            for path in (folder / "found").iterdir():
                print(f"  kept: {shutil.copy(path, _FOUND / target)}")
            return 1
        log, is_sound = _step("minimise", target, folder, seconds)
        if not is_sound:
            print(log[-4000:])
            return 1
        for path in kept.iterdir() if kept.is_dir() else ():
            if _IS_CHOSEN(path.name):
                path.unlink()
        shutil.copytree(folder / "least", kept, dirs_exist_ok=True)
        return 0


def _step(step: str, target: str, folder: Path, seconds: int) -> tuple[str, bool]:
    """What a child process has said, and whether it ended well."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--step", step, target, str(folder)]
    child = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return child.stdout.decode("utf-8", "replace"), child.returncode == 0


def _summary(log: str) -> str:
    """The fuzzer's own last line about what it has done."""
    lines = [line for line in log.splitlines() if line.startswith("#") and "cov:" in line]
    return lines[-1] if lines else "no word from the fuzzer"


def _look(target: str, folder: Path, seconds: int) -> None:
    """Change bytes at random, and keep what reaches something new; does not return."""
    import atheris  # pyright: ignore[reportMissingModuleSource]  # `make fuzz` alone installs it
    from atheris.function_hooks import enabled_hooks  # pyright: ignore[reportMissingModuleSource]
    from atheris.import_hook import instrument_imports  # pyright: ignore[reportMissingModuleSource]

    enabled_hooks.add("str")  # what text starts or ends with, in the code, is tried in it
    with instrument_imports(include=["bichat", "fuzz_targets"]):
        from fuzz_targets import TARGETS, walls
    judged = _settled(TARGETS[target], folder, walls.stand_around)
    options = {
        "max_total_time": seconds,
        "max_len": _MAX_BYTES,
        "len_control": 10,  # long ones soon: what says something is long
        "timeout": _HANG_S,
        "rss_limit_mb": _MAX_MEMORY_MIB,
        "artifact_prefix": f"{folder}/found/",
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(folder / "corpus")], judged
    )
    atheris.Fuzz()


def _minimise(target: str, folder: Path, _seconds: int) -> None:
    """Copy to `least` few files of `corpus` that take every step between lines, as often, that all of them take."""
    from fuzz_targets import TARGETS, walls

    judged = _settled(TARGETS[target], folder, walls.stand_around)
    (folder / "least").mkdir()
    contents = sorted({path.read_bytes() for path in (folder / "corpus").iterdir()}, key=lambda one: (len(one), one))
    for content in contents[:1]:
        judged(content)  # what is imported or made at the first call belongs to nobody
    reached = {content: _arcs(judged, content) for content in contents}
    for content in itertools.islice(_cover(reached), _MAX_KEPT):
        (folder / "least" / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


def _settled(
    target: Callable[[bytes, Path], None], folder: Path, stand_around: Callable[[Path], None]
) -> Callable[[bytes], None]:
    """`target` for this process, which from now on can write below `folder` alone."""
    room = folder / "room"
    tempfile.tempdir = str(room)
    stand_around(folder)
    return lambda data: target(data, room)


def _arcs(judged: Callable[[bytes], None], content: bytes) -> frozenset[Arc]:
    """The steps from line to line of bichat's code that a run with `content` takes."""
    found = Counter[tuple[str, int, int]]()

    def entered(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_SOURCES):
            return None
        last = 0

        def stepped(inner: FrameType, _event: str, _argument: Any) -> Any:
            nonlocal last
            found[name, last, inner.f_lineno] += 1
            last = inner.f_lineno
            return stepped

        return stepped

    sys.settrace(entered)
    try:
        judged(content)
    finally:
        sys.settrace(None)
    return frozenset((*arc, times.bit_length()) for arc, times in found.items())


def _cover(reached: dict[bytes, frozenset[Arc]]) -> Iterable[bytes]:
    """Always the one that adds most, and of these the shortest, until nothing is missing."""
    missing = frozenset[Arc]().union(*reached.values())
    while missing:
        best = max(reached, key=lambda content: (len(reached[content] & missing), -len(content)))
        missing -= reached[best]
        yield best


if __name__ == "__main__":
    sys.exit(main())
