"""`JupyterPeer`, the ipykernel that sessions are compared with: plain, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_peer import JupyterPeer, PeerError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_cell_gives_its_output_its_results_and_its_error(data_environment):
    async with JupyterPeer(data_environment.path) as peer:
        outcome = await peer.execute("print('one'); display('two'); print('three')\n1 / 0")

    assert outcome.stdout_parts == ("one\n", "three\n")
    assert [result.data for result in outcome.results] == [{"text/plain": "'two'"}]
    assert (outcome.error_name, outcome.error_message) == ("ZeroDivisionError", "division by zero")


async def test_the_kernel_runs_the_environments_packages_and_is_the_only_one_from_elsewhere(data_environment):
    code = "import IPython, ipykernel, pandas\nprint(IPython.__file__, pandas.__file__, ipykernel.__file__)"
    async with JupyterPeer(data_environment.path) as peer:
        ipython, pandas, ipykernel = (await peer.execute(code)).stdout.split()

    assert Path(ipython).is_relative_to(data_environment.path)
    assert Path(pandas).is_relative_to(data_environment.path)
    assert not Path(ipykernel).is_relative_to(data_environment.path)


async def test_a_restart_forgets_variables_and_keeps_files(data_environment):
    async with JupyterPeer(data_environment.path) as peer:
        await peer.execute("x = 1; open('kept.txt', 'w').close()")
        await peer.restart()
        outcome = await peer.execute("import os; print('x' in globals(), os.listdir())")

    assert outcome.stdout == "False ['kept.txt']\n"


async def test_nothing_is_left_of_a_kernel_that_is_busy_with_a_child(data_environment):
    async with JupyterPeer(data_environment.path) as peer:
        code = "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid)"
        child, kernel, folder = int((await peer.execute(code)).stdout), peer.pid, peer.work_folder
        assert peer.memory_bytes() > 0

    assert not folder.parent.exists()
    assert not _is_running(kernel)
    assert not _is_running(child)


async def test_a_kernel_that_dies_or_never_starts_says_so(data_environment, tmp_path):
    async with JupyterPeer(data_environment.path) as peer:
        with pytest.raises(PeerError, match="died"):
            await peer.execute("import os; os._exit(1)")
    with pytest.raises((PeerError, OSError)):
        await JupyterPeer(tmp_path).start()


def _is_running(pid: int) -> bool:
    """Whether a process is there and more than its exit status."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
