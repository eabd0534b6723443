"""Charts that code makes in the environment `data`, and their descriptions: one process for all cases of a module."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bichat.sandbox.environments import Environment

RUNNER = Path(__file__).with_name("runner.py")
SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture(scope="module")
def reports(
    request: pytest.FixtureRequest, data_environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """What the runner says of each of the module's `CASES`: names with code, or with code and what is expected.

    The module's `PREAMBLE`, if it has one, runs before each.
    """
    preamble = getattr(request.module, "PREAMBLE", "")
    cases = {
        name: preamble + (case if isinstance(case, str) else case[0]) for name, case in request.module.CASES.items()
    }
    done = subprocess.run(
        [data_environment.python, RUNNER, SOURCE],
        input=json.dumps(cases),
        env={"PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(tmp_path_factory.getbasetemp())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def cut() -> Callable[[Any, Any], Any]:
    """`cut(actual, expected)`: of `actual` what `expected` speaks of: the same keys, in lists of any length."""

    def cut_to(actual: Any, expected: Any) -> Any:
        if isinstance(expected, dict) and isinstance(actual, dict):
            return {key: cut_to(actual.get(key, "missing"), value) for key, value in expected.items()}
        if isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
            return [cut_to(one, other) for one, other in zip(actual, expected, strict=True)]
        return actual

    return cut_to
