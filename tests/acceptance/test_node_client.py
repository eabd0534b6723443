"""The official Node client against `bichat serve`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.network]

_VERSION = "7.57.0"
_PROGRAM = Path(__file__).with_name("node_client.mjs")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory, require) -> Path:
    """A folder in which programs find the client."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        require("node", "Node.js and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", f"openai@{_VERSION}"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode != 0:
        require("node", f"npm could not fetch the client: {installed.stderr[-500:]}")
    return folder


def test_the_core_of_the_wire_works_with_the_node_client(serve, node_folder):
    program = node_folder / _PROGRAM.name
    shutil.copy(_PROGRAM, program)  # imports are looked up from where it lies
    with serve() as server:
        told = subprocess.run(["node", program, server.url], capture_output=True, text=True, check=False, timeout=120)
        assert server.end() == 0

    assert (told.returncode, told.stdout, told.stderr) == (0, "done\n", "")
