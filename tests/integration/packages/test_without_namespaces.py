"""The packages of `data` at the level `landlock`: no `/dev/shm`, no `/proc` but one's own, no `/mnt/data`."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from bichat.domain import Limits
from bichat.errors import SandboxUnavailableError
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor
from bichat.sizes import MIB

LIMITS = Limits(timeout_s=60)
HALF = Limits(timeout_s=60, memory_bytes=512 * MIB)


@pytest.fixture
def run(data_environment: Environment, tmp_path: Path):
    """Run code at the level `landlock`; what it printed and the names of its files."""

    async def running(code: str, limits: Limits) -> tuple[str, set[str]]:
        own = Supervisor(data_environment, spool_folder=tmp_path, preload=(), layers=Level.LANDLOCK.layers)
        with anyio.fail_after(100):
            async with own as supervisor:
                sandbox = await supervisor.open(limits)
                try:
                    *_, ended = [event async for event in sandbox.execute(code, name="main.py", timeout_s=60)]
                    captured = await sandbox.capture()
                finally:
                    await sandbox.close()
        assert isinstance(ended, Ended)
        assert ended.error is None, ended.error
        assert ended.stderr.text == ""
        return ended.stdout.text, {artifact.name for artifact in captured.artifacts}

    def run(code: str, limits: Limits = LIMITS) -> tuple[str, set[str]]:
        try:
            return anyio.run(running, code, limits)
        except SandboxUnavailableError as error:
            if os.geteuid() == 0 and "every user may pass" in error.remedy:
                pytest.skip("guests of root cannot reach the environment, which lies in its home")
            raise

    return run


def test_processes_share_work_memory_and_locks(run):
    printed, _ = run(
        """
import multiprocessing as mp, concurrent.futures as cf
from multiprocessing import shared_memory
import numpy as np

def total(n): return float(np.arange(n).sum())
def put(queue): queue.put("from a child")
def add(name):
    block = shared_memory.SharedMemory(name); block.buf[0] += 1; block.close()

with mp.Pool(8) as pool: print(pool.map(total, range(8)))
with cf.ProcessPoolExecutor(2) as executor: print(list(executor.map(abs, range(-3, 0))))
queue = mp.Queue()
child = mp.Process(target=put, args=(queue,)); child.start(); print(queue.get()); child.join()
block = shared_memory.SharedMemory(create=True, size=100); block.buf[0] = 7
child = mp.Process(target=add, args=(block.name,)); child.start(); child.join()
print(block.buf[0]); block.close(); block.unlink()
print(mp.Value("i", 3).value, mp.Array("d", [1, 2])[:])
lock = mp.Lock()
with lock: print(lock.acquire(False), lock.acquire(timeout=0.01))
bounded = mp.BoundedSemaphore(2)
try: bounded.release()
except ValueError as error: print(error)
again = mp.RLock()
with again, again: print(again.acquire(False)); again.release()
event = mp.Event(); print(event.wait(0.01)); event.set(); print(event.wait())
with mp.get_context("spawn").Pool(2) as pool: print(pool.map(abs, [-1, -2]))
""",
        HALF,
    )

    assert printed.splitlines() == [
        "[0.0, 0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0]",
        "[3, 2, 1]",
        "from a child",
        "8",
        "3 [1.0, 2.0]",
        "False False",
        "semaphore or lock released too many times",
        "True",
        "False",
        "True",
        "[1, 2]",
    ]


def test_joblib_and_scikit_learn_work_side_by_side(run):
    printed, _ = run(
        """
import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
print(Parallel(n_jobs=2)(delayed(abs)(-n) for n in range(4)))
x = np.random.default_rng(1).random((50, 3))
print(RandomForestClassifier(10, n_jobs=2, random_state=1).fit(x, x[:, 0] > 0.5).score(x, x[:, 0] > 0.5))
"""
    )

    assert printed == "[0, 1, 2, 3]\n1.0\n"


def test_tables_charts_and_databases_are_made_where_code_says(run):
    printed, files = run(
        """
import sqlite3
import altair, duckdb, matplotlib.pyplot as plt, pandas as pd, polars
frame = pd.DataFrame({"a": ["x", "y"], "b": [1, 2]})
frame.plot.bar(x="a", y="b"); plt.savefig("/mnt/data/chart.png"); plt.close("all")
frame.to_csv("/mnt/data/a.csv"); frame.to_excel("/mnt/data/a.xlsx"); frame.to_parquet("/mnt/data/a.parquet")
print(duckdb.sql("select sum(b) from frame").fetchall(), polars.read_csv("/mnt/data/a.csv").shape)
with sqlite3.connect("/mnt/data/a.db") as connection: connection.execute("create table t (a)")
altair.Chart(frame).mark_bar().encode(x="a", y="b").save("/mnt/data/altair.png")
"""
    )

    assert printed == "[(3,)] (2, 3)\n"
    assert files == {"chart.png", "a.csv", "a.xlsx", "a.parquet", "a.db", "altair.png"}
