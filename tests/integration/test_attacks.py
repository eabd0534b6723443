"""The attack suite against this host's own sandboxes, at each level."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from bichat.attacks.attack import Outcome
from bichat.attacks.catalogue import ATTACKS
from bichat.attacks.report import Report
from bichat.attacks.suite import run_suite
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.layers import Layer, Level

_FIRST_VERSION = (3, 11)
#: Reasons that a machine, not the suite, gives for not trying.
_LACKING = ("this machine has no call", "this host")

RunSuite = Callable[..., Report]


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


@pytest.fixture(name="suite")
def _suite(open_environment: Environment, tmp_path: Path, require) -> RunSuite:
    """`suite(Level.NAMESPACES, without=Layer.SECCOMP)`: its report; a level that this host lacks is skipped."""

    def suite(level: Level, without: Layer | None = None) -> Report:
        layers = level.layers - {without}
        report = anyio.run(lambda: run_suite(open_environment, tmp_path, level=level, layers=layers, attacks=ATTACKS))
        if not report.available:
            require(level.value, report.reason)
        return report

    return suite


def test_there_are_many_attacks_and_each_says_what_it_tries_and_expects():
    names = [attack.name for attack in ATTACKS]

    assert len(names) == len(set(names)) >= 120
    assert all(attack.tries and attack.expected for attack in ATTACKS)
    assert all(attack.code or attack.driver for attack in ATTACKS)


@pytest.mark.parametrize("level", list(Level))
def test_every_attack_is_held_at_the_full_level(suite: RunSuite, level: Level):
    report = suite(level)

    assert {result.attack.name: result.observed for result in report.got_through} == {}
    untried = {result.attack.name: result.observed for result in report.of(Outcome.NOT_TRIED)}
    assert {name: why for name, why in untried.items() if not why.startswith(_LACKING)} == {}
    assert len(report.results) == len(ATTACKS) + 1
