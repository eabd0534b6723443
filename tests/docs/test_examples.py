"""Each example runs as its first lines say, and does what they promise."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
Run = Callable[..., str]


def _ran(folder: Path, *command: str | Path) -> str:
    """What the command printed, run in `folder`; it must succeed."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="run")
def _run(tmp_path: Path, data_environment) -> Run:
    """Runs a command in an empty folder."""
    return partial(_ran, tmp_path)


class Demo(NamedTuple):
    """What `bichat run --json` said of the demo, and what it saved."""

    result: dict[str, Any]
    folder: Path


@pytest.fixture(name="demo", scope="module")
def _demo(tmp_path_factory: pytest.TempPathFactory, data_environment) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    bichat = Path(sys.executable).with_name("bichat")
    sales = EXAMPLES / "data" / "sales.csv"
    said = _ran(folder, bichat, "run", EXAMPLES / "sales_report.py", "--file", sales, "--output-dir", ".", "--json")
    return Demo(json.loads(said), folder)


def test_the_demo_makes_a_chart_a_table_a_workbook_and_a_report(demo: Demo):
    out = demo.folder

    assert {artifact["name"]: artifact["mime_type"] for artifact in demo.result["artifacts"]} == {
        "sales.xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "sales_by_region.csv": "text/csv",
        "sales_by_region.png": "image/png",
        "sales_report.pdf": "application/pdf",
    }
    assert (out / "sales_by_region.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (out / "sales_report.pdf").read_bytes().startswith(b"%PDF-")
    with zipfile.ZipFile(io.BytesIO((out / "sales.xlsx").read_bytes())) as workbook:
        assert sum(name.startswith("xl/worksheets/sheet") for name in workbook.namelist()) == 2


def test_the_demo_cleans_the_data_and_answers(demo: Demo):
    header, *rows = (demo.folder / "sales_by_region.csv").read_text(encoding="utf-8").splitlines()

    assert demo.result["stderr"] == ""
    assert "64 duplicate rows dropped" in demo.result["stdout"]
    assert "DACH sells most" in demo.result["stdout"]
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


def test_explore_answers_with_a_value_a_table_and_a_chart(run: Run):
    said = run(sys.executable, "-W", "error", EXAMPLES / "explore.py")

    assert "6400\n" in said
    assert "table of 6 rows" in said
    assert "bar chart 'Units by region' of 6 values" in said
    assert "figure-1.png" in said


def test_the_sample_data_is_what_its_generator_writes(run: Run, tmp_path: Path):
    run(sys.executable, EXAMPLES / "data" / "make_sales.py", tmp_path)

    assert (tmp_path / "sales.csv").read_bytes() == (EXAMPLES / "data" / "sales.csv").read_bytes()


def test_every_example_is_listed():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in EXAMPLES.glob("**/*.py") if path.name not in listed] == []


@pytest.fixture(name="served")
def _served(tmp_path: Path, own_data_dir: Path) -> Generator[str]:
    """The address of a server that runs as its command does."""
    own = {**os.environ, "BICHAT_DATA_DIR": str(own_data_dir)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bichat = Path(sys.executable).with_name("bichat")
    command = [bichat, "serve", "--port", str(port), "--patience", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=own, stderr=subprocess.DEVNULL) as server:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=9), timeout=60) as looking:
                while looking.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
                    assert server.poll() is None
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def test_the_demo_over_http_brings_the_report_down(run: Run, served: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", served)

    said = run(sys.executable, EXAMPLES / "openai_client.py")

    names = {"sales.xlsx", "sales_by_region.csv", "sales_by_region.png", "sales_report.pdf"}
    assert names <= {path.name for path in (tmp_path / "report").iterdir()}
    assert said.endswith("rows: 6464\n")


def test_a_program_for_assistants_brings_its_chart_and_its_csv_down(run: Run, served: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", served)

    said = run(sys.executable, EXAMPLES / "assistants_client.py")

    assert {path.suffix for path in (tmp_path / "thread").iterdir()} == {".png", ".csv"}
    assert (tmp_path / "thread" / "orders.csv").read_text().startswith("region,count\n")
    assert "code_interpreter ..." in said
    assert "[orders.csv](thread/orders.csv)" in said
