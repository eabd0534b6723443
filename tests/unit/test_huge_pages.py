"""Huge pages of a process that is forked often."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import re
from bichat.sandbox import huge_pages

def huge_kib():
    with open("/proc/self/smaps_rollup") as file:
        return int(re.search(r"AnonHugePages: +(\\d+)", file.read())[1])

blocks = [bytes([number % 256]) * 500 for number in range(40_000)]
before = huge_kib()
huge_pages.collapse()
print(huge_kib() - before)
assert all(block == bytes([number % 256]) * 500 for number, block in enumerate(blocks))
"""


def test_what_was_written_is_in_huge_pages_and_is_what_it_was():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)

    if int(done.stdout) == 0:
        pytest.skip("this kernel makes no huge pages on demand")
    assert int(done.stdout) >= 4096
