"""Each example runs as its first lines say, and does what they promise."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
Run = Callable[..., str]


@pytest.fixture(name="run")
def _run(tmp_path: Path, data_environment) -> Run:
    """Runs a command in an empty folder and returns what it printed; it must succeed."""

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(name="report")
def _report(run: Run, tmp_path: Path) -> dict:
    """What `bichat run --json` says of the demo."""
    bichat = Path(sys.executable).with_name("bichat")
    sales = EXAMPLES / "data" / "sales.csv"
    return json.loads(
        run(bichat, "run", EXAMPLES / "sales_report.py", "--file", sales, "--output-dir", tmp_path / "out", "--json")
    )


def test_the_demo_makes_a_chart_a_table_a_workbook_and_a_report(report, tmp_path: Path):
    out = tmp_path / "out"

    assert {artifact["name"]: artifact["mime_type"] for artifact in report["artifacts"]} == {
        "sales.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "sales_by_region.csv": "text/csv",
        "sales_by_region.png": "image/png",
        "sales_report.pdf": "application/pdf",
    }
    assert (out / "sales_by_region.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (out / "sales_report.pdf").read_bytes().startswith(b"%PDF-")
    with zipfile.ZipFile(io.BytesIO((out / "sales.xlsx").read_bytes())) as workbook:
        assert sum(name.startswith("xl/worksheets/sheet") for name in workbook.namelist()) == 2


def test_the_demo_cleans_the_data_and_answers(report, tmp_path: Path):
    header, *rows = (tmp_path / "out" / "sales_by_region.csv").read_text(encoding="utf-8").splitlines()

    assert report["stderr"] == ""
    assert "64 duplicate rows dropped" in report["stdout"]
    assert "DACH sells most" in report["stdout"]
    assert header.startswith("region,orders,units,net_sales")
    assert [row.split(",")[0] for row in rows] == ["DACH", "France", "Nordics", "Benelux", "Iberia", "Poland & Baltics"]
    assert sum(int(row.split(",")[1]) for row in rows) == 6400


def test_run_once_saves_a_chart(run: Run, tmp_path: Path):
    said = run(sys.executable, "-W", "error", EXAMPLES / "run_once.py")

    assert "Cooking is ordered most" in said
    assert (tmp_path / "bichat-output" / "categories.png").stat().st_size > 1000


def test_several_at_once_shows_each_way_to_end(run: Run):
    said = run(sys.executable, "-W", "error", EXAMPLES / "several_at_once.py")

    statuses = {words[0]: words[1] for words in map(str.split, said.splitlines())}
    assert statuses["refused"] == "memory_bytes"
    assert statuses["orders"] == "completed"
    assert statuses["mistake"] == "error"
    assert statuses["endless"] == "timeout"
    assert statuses["greedy"] == "out_of_memory"
    assert statuses["curious"] == "error"


def test_watch_output_prints_every_step(run: Run):
    said = run(sys.executable, "-W", "error", EXAMPLES / "watch_output.py")

    assert "step 1 of 3" in said
    assert "step 3 of 3" in said
    assert "completed" in said


def test_the_sample_data_is_what_its_generator_writes(run: Run, tmp_path: Path):
    run(sys.executable, EXAMPLES / "data" / "make_sales.py", tmp_path)

    assert (tmp_path / "sales.csv").read_bytes() == (EXAMPLES / "data" / "sales.csv").read_bytes()


def test_every_example_is_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in EXAMPLES.glob("**/*.py") if path.name not in listed] == []
