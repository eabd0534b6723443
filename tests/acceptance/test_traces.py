"""What bichat leaves on a machine: package caches and the data directory, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.network
def test_a_first_run_leaves_the_data_directory_and_nothing_else_in_the_home_folder(tmp_path: Path):
    scripts = Path(sysconfig.get_path("scripts"))
    cache = subprocess.run([scripts / "uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BICHAT_", "XDG_"))}

    done = subprocess.run(
        [sys.executable, "-m", "bichat", "run", "-c", "import matplotlib.pyplot, pandas; print(pandas.__name__)"],
        cwd=work,
        env={**kept, "HOME": str(home), "UV_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "pandas\n", done.stderr
    assert [str(path.relative_to(home)) for path in home.iterdir()] == [".local"]
    assert [str(path.relative_to(home)) for path in home.glob("*/*/*")] == [".local/share/bichat"]
    assert (home / ".local" / "share" / "bichat").stat().st_mode & 0o777 == 0o700
    assert list(work.iterdir()) == []
