"""Names that a shell, a URL or a pattern would take for something else: no path of ours is ever part of a string that is read again.

The data directory is called so, and so are the folder of the caller, files that go in, and files that come out.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bichat.sandbox.environments.environment import MANIFEST
from bichat.sandbox.environments.recipe import folder_key

#: `made` is what a shell would make.
NAMES = [
    'it\'s  "quoted" $(touch made)`touch made`${HOME}; touch made & touch made | x > made',
    "a?b=c#d%20e%%f%3F+g:h,i@j",
    "-rf --output-dir=made *[a-z]{1,2}~!^ back\\slash \\040 new\nline\ttab été 数 \u202e",
]
CODE = """
import os, subprocess, sys
name = [name for name in os.listdir() if name != "made"][0]
given = open(name).read()
with open(name + ".out", "w") as file:
    file.write(given + subprocess.run([sys.executable, "-c", "print(1 + 1)"], capture_output=True, text=True).stdout)
print(given)
"""


@pytest.fixture(params=NAMES, ids=["shell", "address", "pattern"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def odd_data_dir(tmp_path: Path, name: str, make_own_bare_environment) -> Path:
    """A data directory of that name, with the environment `bare` in it."""
    data_dir = tmp_path / "data" / name
    path = data_dir / "environments" / "bare" / folder_key("")
    made = replace(make_own_bare_environment(path), name="bare")
    (path / MANIFEST).write_text(json.dumps(made.to_dict()), encoding="utf-8")
    return data_dir


def test_everything_works_where_paths_are_called_so_and_nothing_of_them_is_run(
    tmp_path: Path, odd_data_dir: Path, name: str, needs_namespaces_here
):
    work = tmp_path / "work" / name
    work.mkdir(parents=True)
    (work / name).write_text("sales", encoding="utf-8")

    def bichat(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bichat", *arguments],
            cwd=work,
            env={**os.environ, "BICHAT_DATA_DIR": str(odd_data_dir), "BICHAT_ENVIRONMENT": "bare"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    plain = bichat("run", "-c", CODE, f"--file={name}", f"--output-dir=out {name}")
    kept = bichat("run", "--save", "-c", CODE, f"--file={name}", "--json")

    assert (plain.returncode, plain.stdout) == (0, "sales\n"), plain.stderr
    (file,) = (work / f"out {name}").iterdir()
    assert file.read_text(encoding="utf-8") == "sales2\n"
    assert kept.returncode == 0, kept.stdout + kept.stderr
    names = {artifact["name"] for artifact in json.loads(kept.stdout)["artifacts"]}
    with sqlite3.connect(odd_data_dir / "bichat.db") as database:
        rows = database.execute("select name from bichat_code_interpreter_outputs").fetchall()
    database.close()
    assert {name for (name,) in rows} == names
    assert names
    contents = {path.read_text(encoding="utf-8") for path in odd_data_dir.rglob("content")}
    assert contents == {"sales", "sales2\n"}
    assert not list(tmp_path.rglob("made"))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "work"}
    assert os.listdir(tmp_path / "data") == os.listdir(tmp_path / "work") == [name]
