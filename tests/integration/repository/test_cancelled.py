"""Who is cancelled in the middle of a statement holds nobody up."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from datetime import UTC, datetime
import anyio
from bichat.repository import open_repository

async def main():
    for steps in range(28):
        async with open_repository(sys.argv[1]) as repository, anyio.create_task_group() as others:
            for _ in range(3):
                others.start_soon(repository.keys.exist)
            for _ in range(steps % 14):
                await asyncio.sleep(0)
            others.cancel_scope.cancel()

asyncio.run(main())
print("ended")
"""


def test_a_program_whose_reads_are_cancelled_ends(tmp_path):
    address = f"sqlite+aiosqlite:///{tmp_path}/bichat.db"

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, address], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.stdout, ended.stderr, ended.returncode) == ("ended\n", "", 0)
