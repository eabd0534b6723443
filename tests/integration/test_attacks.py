"""The attack suite against this host's own sandboxes, at each level."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from bichat.attacks.attack import Attack, Outcome
from bichat.attacks.catalogue import ATTACKS
from bichat.attacks.host import HOST_LEFT_AS_IT_WAS, Host
from bichat.attacks.report import Report
from bichat.attacks.suite import run_suite
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.layers import Layer, Level

_FIRST_VERSION = (3, 11)

#: Bombs that are held or not within their time by how busy the machine is, once a layer is off that helps to count.
_UNSTEADY = {
    "memory-of-many-children",
    "memory-of-orphans",
    "memory-of-sockets",
    "memory-passed-from-hand-to-hand",
}

#: Where nobody has a process group of his own, which stragglers get away from the end of a sandbox is a matter of chance.
_STRAGGLERS = {
    "deaths-at-the-same-moment",
    "process-without-its-first-thread",
    "processes-that-breed-while-they-are-killed",
}

RunSuite = Callable[..., Report]
MATRIX = Path(__file__).parents[2] / "docs" / "security-matrix.md"


class Matrix:
    """The page's table for one level and kind of user: a row for each layer, what gets through, what holds instead."""

    def __init__(self, path: Path, level: Level, user: str) -> None:
        self._path = path
        self._heading = f"## Level `{level}`, as {user}\n"

    def through(self, layer: Layer) -> list[str]:
        """The attacks that get through without this layer, by the page."""
        _, second, _ = self._row(layer).strip("| ").split(" | ")
        return [] if second == "nothing" else second.replace("`", "").split(", ")

    def changed(self, layer: Layer) -> set[str]:
        """All attacks that the row names: those, and what something else holds then."""
        _, second, third = self._row(layer).strip("| ").split(" | ")
        return set(re.findall(r"`([a-z0-9-]+)`", f"{second} {third}"))

    def write(self, layer: Layer, through: list[str], instead: dict[str, str]) -> None:
        """Put this into the row of the layer."""
        holders: dict[str, list[str]] = {}
        for name, holder in instead.items():
            holders.setdefault(holder, []).append(f"`{name}`")
        kept = "; ".join(f"{holder}: {', '.join(names)}" for holder, names in sorted(holders.items()))
        row = f"| `{layer}` | {', '.join(f'`{name}`' for name in through) or 'nothing'} | {kept or 'nothing changes'} |"
        text = self._path.read_text(encoding="utf-8")
        start = text.index(self._heading)
        self._path.write_text(text[:start] + text[start:].replace(self._row(layer), row, 1), encoding="utf-8")

    def _row(self, layer: Layer) -> str:
        text = self._path.read_text(encoding="utf-8")
        section = text[text.index(self._heading) :]
        return next(line for line in section.splitlines() if line.startswith(f"| `{layer}` |"))


@pytest.fixture(scope="module")
def open_environment(make_bare_environment) -> Iterator[Environment]:
    """A bare environment that every user may reach: without file systems of its own nobody binds one that they may not."""
    command = f"import sys; assert sys.version_info >= {_FIRST_VERSION}; print(sys.base_prefix)"
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bichat-test-") as name:
        Path(name).chmod(0o755)
        for python in (Path(sys.base_prefix) / "bin" / "python3", Path("/usr/bin/python3")):
            user = 65534 if os.geteuid() == 0 else None
            with suppress(OSError, subprocess.CalledProcessError):
                prefix = subprocess.run(
                    [python, "-Ic", command], check=True, capture_output=True, text=True, user=user, cwd="/"
                ).stdout
                yield make_bare_environment(Path(name) / "environment", python.resolve(), Path(prefix.strip()))
                return
        pytest.skip("no Python 3.11 or later on this host that every user may run")


@pytest.fixture(scope="module", name="suite")
def _suite(open_environment: Environment, tmp_path_factory: pytest.TempPathFactory, require) -> RunSuite:
    """`suite(Level.NAMESPACES, without=Layer.SECCOMP)`: its report; a level that this host lacks is skipped."""

    def suite(level: Level, without: Layer | None = None, attacks: Sequence[Attack] = ATTACKS) -> Report:
        layers = level.layers - {without}
        folder = tmp_path_factory.mktemp("suite")
        before = Host.seen()
        report = anyio.run(lambda: run_suite(open_environment, folder, level=level, layers=layers, attacks=attacks))
        left = Host.seen()
        assert (left.files - before.files, left.segments - before.segments) == (set(), set()), "left on the host"
        if not report.available:
            require(level.value, report.reason)
        return report

    return suite


@pytest.fixture(scope="module")
def whole(suite: RunSuite) -> Callable[[Level], Report]:
    """`whole(level)`: the report of every attack with every layer on, made once."""
    return functools.cache(suite)


def test_there_are_many_attacks_and_each_says_what_it_tries_and_expects():
    names = [attack.name for attack in ATTACKS]

    assert len(names) == len(set(names)) >= 120
    assert all(attack.tries and attack.expected for attack in ATTACKS)
    assert all(attack.code or attack.driver for attack in ATTACKS)


@pytest.mark.parametrize("level", list(Level))
def test_every_attack_is_held_at_the_full_level(whole: Callable[[Level], Report], level: Level):
    report = whole(level)

    assert {result.attack.name: result.observed for result in report.got_through} == {}
    assert {result.attack.name: result.observed for result in report.broken} == {}
    assert len(report.results) == len(ATTACKS) + 1


def test_what_others_on_the_host_make_and_use_meanwhile_is_not_held_against_it():
    """A database's shared memory, say, or another server's rooms.  The other is nobody's child."""
    code = (
        "import ctypes, os, sys, tempfile\n"
        "if os.fork(): os._exit(0)\n"
        "libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p\n"
        "number = libc.shmget(0, 4096, 0o600)\n"
        "room = tempfile.mkdtemp(prefix='bichat-rooms-')\n"
        "print('made', flush=True); sys.stdin.readline()\n"
        "libc.shmat(number, None, 0); print('used', flush=True); sys.stdin.readline()\n"
        "libc.shmctl(number, 0, None); os.rmdir(room)"
    )
    command = [sys.executable, "-c", code]
    before = Host.seen()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for said in ("made\n", "used\n"):
            assert other.stdout.readline() == said
            now = Host.seen()
            assert (now.segments - before.segments, now.files - before.files) == (set(), set())
            other.stdin.write("go on\n")
            other.stdin.flush()
        assert other.stdout.read() == ""


def test_a_level_that_the_host_lacks_is_said(bare_environment: Environment, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("bichat.sandbox.launch._BOOT", tmp_path / "missing.py")

    report = anyio.run(lambda: run_suite(bare_environment, tmp_path, level=Level.NAMESPACES, attacks=ATTACKS[:1]))

    assert (report.available, report.results) == (False, ())
    assert report.reason


# ------------------------------------------------------------------------------------------------- layers switched off


#: Layers that are cheap to switch off: few attacks are about them, and none of those is a bomb.  The rest is slow.
_CHEAP = {Layer.EMPTY_ENVIRONMENT, Layer.CLOSED_DESCRIPTORS, Layer.NO_CAPABILITIES}
#: Of the attacks that are not about a layer, one in so many is tried without it.
_SAMPLE = 12


def _rows() -> Iterator[object]:
    """Each level with each of its layers, but the one without which there are no namespaces at all: the other level."""
    for level in Level:
        for layer in Layer.__members__.values():
            if layer in level.layers and layer is not Layer.MOUNT_NAMESPACE:
                yield pytest.param(
                    level, layer, id=f"{level}-{layer}", marks=() if layer in _CHEAP else pytest.mark.slow
                )


def _about(layer: Layer, named: set[str], stopped_by: dict[str, str]) -> list[Attack]:
    """Those that the page names at the layer or that it stops, and some of the others, always the same."""
    about = named | {name for name, by in stopped_by.items() if layer in by.replace(",", " ").split()}
    others = [attack.name for attack in ATTACKS if attack.name not in about]
    return [attack for attack in ATTACKS if attack.name in about or attack.name in others[::_SAMPLE]]


@pytest.mark.parametrize("level, layer", list(_rows()))
def test_with_a_layer_off_the_matrix_says_what_gets_through_and_what_holds_instead(
    suite: RunSuite, whole: Callable[[Level], Report], level: Level, layer: Layer
):
    """`REWRITE_SECURITY_MATRIX=1` has every attack tried, and the rows of whoever runs this written anew."""
    rewrite = bool(os.environ.get("REWRITE_SECURITY_MATRIX"))
    matrix = Matrix(MATRIX, level, "root" if os.geteuid() == 0 else "an ordinary user")
    stopped_by_all = {result.attack.name: result.stopped_by for result in whole(level).results}

    attacks = ATTACKS if rewrite else _about(layer, matrix.changed(layer), stopped_by_all)
    report = suite(level, without=layer, attacks=attacks)

    unsteady = set() if layer is Layer.WATCHDOG else _UNSTEADY
    if layer is Layer.OWN_PROCESS_GROUP and level is Level.LANDLOCK:
        unsteady = unsteady | _STRAGGLERS
    observed = {result.attack.name: result.observed for result in report.got_through}
    through = sorted(observed.keys() - unsteady)
    instead = {
        result.attack.name: result.stopped_by
        for result in report.of(Outcome.HELD)
        if layer in stopped_by_all[result.attack.name].replace(",", " ").split()
        and result.stopped_by != stopped_by_all[result.attack.name]
    }
    if rewrite:
        matrix.write(layer, through, instead)
    expected = [name for name in matrix.through(layer) if rewrite or name != HOST_LEFT_AS_IT_WAS.name]
    assert {name: what for name, what in observed.items() if name not in {*expected, *unsteady}} == {}
    assert expected == through
