"""The installed command, run as a person runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import openai
import pytest

COMMAND = Path(sys.executable).parent / "bichat"


class Bichat(Protocol):
    """Runs `bichat ARGUMENTS` in an empty folder and waits for it."""

    folder: Path
    command: list[str]
    variables: dict[str, str]

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


class _Command:
    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.folder = folder
        self.command = [str(COMMAND)]
        self.variables = {**os.environ, "BICHAT_DATA_DIR": str(data_dir)}

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            input=stdin,
            env={**self.variables, **(variables or {})},
            capture_output=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(name="bichat")
def _bichat(tmp_path: Path, data_environment: object, data_dir: Path) -> Bichat:
    """The command with the `data` environment at hand."""
    return _Command(tmp_path, data_dir)


@pytest.fixture(name="fresh_bichat")
def _fresh_bichat(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command with an empty data directory."""
    work = tmp_path / "work"
    work.mkdir()
    return _Command(work, tmp_path / "data")


@dataclass
class Server:
    """One that runs."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self, key: str = "anything") -> openai.OpenAI:
        return openai.OpenAI(
            base_url=self.url, api_key=key, max_retries=0, timeout=60, _strict_response_validation=True
        )

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def serve(
    own_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AbstractContextManager[Server]]:
    """Starts one with more words; on leaving it is killed if it still runs."""
    monkeypatch.setenv("BICHAT_DATA_DIR", str(own_data_dir))

    @contextmanager
    def running(*words: str) -> Generator[Server]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path / f"log-{port}"
        command = [sys.executable, "-m", "bichat", "serve", "--port", str(port), *words]
        with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr, text=True) as process:
            server = Server(process, f"http://127.0.0.1:{port}/v1", log)
            try:
                _wait_until_up(server)
                yield server
            finally:
                with suppress(ProcessLookupError):
                    process.kill()

    return running


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + 60
    with server.client() as client:
        while True:
            try:
                client.models.list()
            except openai.APIConnectionError:
                assert server.process.poll() is None, server.log.read_text()
                assert time.monotonic() < deadline, server.log.read_text()
            except openai.AuthenticationError:
                return
            else:
                return
