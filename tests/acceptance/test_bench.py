"""The benchmark runs, checks what it measures, and writes its page; no time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bichat.sandbox.environments import Environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.namespaces
def test_a_tiny_run_measures_everything_and_writes_its_page(tmp_path: Path, data_environment: Environment):
    page, document = tmp_path / "benchmarks.md", tmp_path / "bench.json"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--effort", "trial", "--out", page, "--json", document],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    measured = json.loads(document.read_text(encoding="utf-8"))
    assert (
        15 <= len(measured["bars"]) <= 17
    )  # without the level landlock where root's guests cannot reach the environment
    assert all(f"| {bar['name']} | {bar['bar']} | {bar['measured']} |" in text for bar in measured["bars"])
    assert {task: len(variants) for task, variants in measured["latencies"].items()} == {
        "print(1)": 8,
        "groupby to CSV": 8,
        "bar chart to PNG": 8,
    }
    assert all(
        latency["samples"]["seconds"] for variants in measured["latencies"].values() for latency in variants.values()
    )
    assert [flood["status"] for flood in measured["floods"]] == ["completed", "output_limit"]
    assert {cell: list(both) for cell, both in measured["keeping"].items()} == {
        "no file": ["not kept", "kept"],
        "a file of 10 KB": ["not kept", "kept"],
        "a file of 10 MiB": ["not kept", "kept"],
    }
    assert [opened["sessions"] for opened in measured["opened"]] == [1, 2]


def test_a_task_that_produced_something_else_has_no_time():
    from bench.tasks import CHART, GROUP, PRINT, OutputError

    for task, wrong in ((PRINT, b"2\n"), (GROUP, b"region,units,sales\n"), (CHART, b"\x89PNG\r\n\x1a\n")):
        with pytest.raises(OutputError, match="floor"):
            task.verify(wrong, "floor")


def test_the_page_is_written_by_a_run_of_what_is_here():
    from bench.report import HEAD

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")

    assert page.startswith(HEAD)
