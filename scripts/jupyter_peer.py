"""A plain Jupyter kernel to compare with: ipykernel under jupyter_client, running the packages of an environment.

ipykernel and what it stands on come from the Python that runs this file and go behind the environment's own packages,
which win wherever both have one.  Both must be the same version of Python.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any, Final, Self

import anyio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

#: As `python -m ipykernel_launcher` does, with one more folder to import from.
_LAUNCH: Final = """\
import sys
sys.path.append(sys.argv.pop(1))
if sys.path[0] == "":
    del sys.path[0]  # ipykernel puts it back once its own modules are imported
from ipykernel import kernelapp
kernelapp.launch_new_instance()
"""
#: For a kernel to answer for the first time, in seconds.
_START_S: Final = 60
#: The first question is asked again after this time: it may have been answered before its answers were listened to.
_ASK_AGAIN_S: Final = 0.05
#: Messages that come to be seen in a cell.
_OUTPUT: Final = frozenset({"stream", "display_data", "execute_result", "error"})
_BINARY: Final = re.compile(r"(image|audio|video)/(?!svg\+xml$)|application/pdf$")


class PeerError(Exception):
    """The kernel did not start, died, or is not done in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """A displayed value: what `bichat.Result` is, as Jupyter has it."""

    data: Mapping[str, Any]
    """By MIME type: text as str, binary types as bytes, JSON types as the value."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    display_id: str = ""
    is_value: bool = False
    """Whether it is the value of the cell's last expression, rather than displayed by a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOutcome:
    """What a front end has in hand when a cell has ended."""

    stdout: str
    stderr: str
    error_name: str
    """Class of the exception; empty when there was none."""
    error_message: str
    results: tuple[PeerResult, ...]
    """In order of display; updates and `clear_output` are followed within the cell."""
    stdout_parts: tuple[str, ...]
    """`stdout`, cut wherever something was displayed or updated."""


class JupyterPeer:
    """One kernel in a folder of its own; `async with` starts it, and on leaving it is gone with all that it wrote."""

    def __init__(self, environment: Path, *, variables: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet.

        Args:
            environment: the environment's folder.
            variables: environment variables for the kernel beside the few that it always gets; it inherits none.
        """
        self._environment = environment
        self._variables = variables or {}
        self._folder = Path()
        self._manager: AsyncKernelManager | None = None
        self._client: AsyncKernelClient | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()

    @property
    def work_folder(self) -> Path:
        """The kernel's working directory, empty at the start."""
        return self._folder / "work"

    @property
    def pid(self) -> int:
        """The kernel's process."""
        return self._running()[0].provisioner.pid

    def memory_bytes(self) -> int:
        """The kernel's share of memory (PSS), its children not counted."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    async def start(self) -> None:
        """Start a kernel and wait until it answers.

        Raises:
            PeerError: it does not; its last words are in the message.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="jupyter-peer-"))
        for name in ("work", "home", "tmp", "specs/peer"):
            (self._folder / name).mkdir(parents=True)
        try:
            await self._open()
        except BaseException:
            await self.shutdown()
            raise

    async def restart(self) -> None:
        """A fresh kernel in the same working directory, with its files.

        Raises:
            PeerError: see `start`.
        """
        await self._close()
        await self._open()

    async def shutdown(self) -> None:
        """Kill the kernel and its process group, wait until it is gone, and remove its folder."""
        await self._close()
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = Path()

    async def execute(self, code: str, *, timeout_s: float = 60, settle_s: float = 0) -> PeerOutcome:
        """Run one cell and return what came of it.

        Args:
            code: the cell's source.
            timeout_s: for the kernel to be done with it.
            settle_s: how long to listen on once it is done.  What its child processes print is passed on by a thread
                that the kernel does not wait for.

        Raises:
            PeerError: the kernel died, or is not done in time.
        """
        client = self._running()[1]
        request = client.execute(code, allow_stdin=False, stop_on_error=False)
        deadline = time.monotonic() + timeout_s
        heard = _Heard()
        while not heard.is_idle:
            message = await self._next(client.get_iopub_msg, deadline)
            if message["parent_header"].get("msg_id") == request:
                heard.take(message["msg_type"], message["content"])
        while (await self._next(client.get_shell_msg, deadline))["parent_header"].get("msg_id") != request:
            pass
        while settle_s:
            try:
                message = await client.get_iopub_msg(timeout=settle_s)
            except Empty:
                break
            if message["parent_header"].get("msg_id") == request:
                heard.take(message["msg_type"], message["content"])
        return heard.outcome()

    async def _open(self) -> None:
        manager = self._manager = self._new_manager()
        with (self._folder / "kernel.log").open("wb") as log:
            await manager.start_kernel(cwd=str(self.work_folder), env=self._kernel_variables(), stdout=log, stderr=log)
        client = self._client = manager.client()
        client.start_channels(stdin=False, hb=False, control=False)
        await self._answering(client)

    async def _close(self) -> None:
        manager, self._manager = self._manager, None
        client, self._client = self._client, None
        if manager is not None and manager.has_kernel:
            with suppress(ProcessLookupError):
                os.killpg(manager.provisioner.pgid, signal.SIGKILL)  # before anything that can be cancelled
        if client is not None:
            client.stop_channels()
        if manager is not None:
            with anyio.CancelScope(shield=True):
                await manager.shutdown_kernel(now=True)

    async def _answering(self, client: AsyncKernelClient) -> None:
        """Wait until the kernel answers, and what it publishes arrives: both channels connect at their own time."""
        deadline = time.monotonic() + _START_S
        asked: set[str] = set()
        is_heard = is_answered = False
        while not (is_heard and is_answered):
            if not is_heard:
                asked.add(client.kernel_info())
            for get in (client.get_iopub_msg, client.get_shell_msg):
                with suppress(Empty):
                    message = await get(timeout=_ASK_AGAIN_S)
                    is_ours = message["parent_header"].get("msg_id") in asked
                    is_answered |= is_ours and message["msg_type"] == "kernel_info_reply"
                    is_heard |= is_ours and message["msg_type"] == "status"
            await self._check(deadline)

    async def _next(self, get: Any, deadline: float) -> dict[str, Any]:
        while True:
            try:
                return await get(timeout=1)
            except Empty:
                await self._check(deadline)

    async def _check(self, deadline: float) -> None:
        if not await self._running()[0].is_alive():
            words = (self._folder / "kernel.log").read_text(encoding="utf-8", errors="replace")
            raise PeerError(f"the kernel died: {words[-2000:]}")
        if time.monotonic() > deadline:
            raise PeerError("the kernel does not answer")

    def _running(self) -> tuple[AsyncKernelManager, AsyncKernelClient]:
        if self._manager is None or self._client is None:
            raise PeerError("the kernel is not running")
        return self._manager, self._client

    def _new_manager(self) -> AsyncKernelManager:
        # A specification of its own: what is installed for this user, or on this machine, plays no part.
        python = str(self._environment / "bin" / "python")
        argv = [python, "-c", _LAUNCH, sysconfig.get_path("purelib"), "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "peer", "language": "python"}
        (self._folder / "specs/peer/kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        specs = KernelSpecManager(kernel_dirs=[str(self._folder / "specs")], ensure_native_kernel=False)
        return AsyncKernelManager(
            kernel_name="peer",
            kernel_spec_manager=specs,
            connection_file=str(self._folder / "connection.json"),
            transport="ipc",
            ip=str(self._folder / "ipc"),
        )

    def _kernel_variables(self) -> dict[str, str]:
        folders = {
            "HOME": "home",
            "TMPDIR": "tmp",
            "IPYTHONDIR": "ipython",
            "MPLCONFIGDIR": "matplotlib",
            "JUPYTER_CONFIG_DIR": "jupyter/config",
            "JUPYTER_DATA_DIR": "jupyter/data",
            "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
        }
        return {
            "PATH": f"{self._environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            **{name: str(self._folder / folder) for name, folder in folders.items()},
            **self._variables,
        }


class _Heard:
    """What a kernel has published about one cell so far."""

    def __init__(self) -> None:
        self.is_idle = False
        self._stdout = [""]
        self._stderr = ""
        self._error = ("", "")
        self._results: list[PeerResult] = []
        self._clear_first = False

    def take(self, kind: str, content: dict[str, Any]) -> None:
        """Take the next message."""
        if self._clear_first and kind in _OUTPUT:
            self._clear()
        match kind:
            case "status":
                self.is_idle |= content["execution_state"] == "idle"
            case "stream" if content["name"] == "stdout":
                self._stdout[-1] += content["text"]
            case "stream":
                self._stderr += content["text"]
            case "error":
                self._error = content["ename"], content["evalue"]
            case "clear_output" if content["wait"]:
                self._clear_first = True
            case "clear_output":
                self._clear()
            case "display_data" | "execute_result" | "update_display_data":
                self._display(content, kind)
            case _:
                pass

    def outcome(self) -> PeerOutcome:
        """All of it, once the kernel is idle again."""
        return PeerOutcome(
            stdout="".join(self._stdout),
            stderr=self._stderr,
            error_name=self._error[0],
            error_message=self._error[1],
            results=tuple(self._results),
            stdout_parts=tuple(self._stdout),
        )

    def _clear(self) -> None:
        self._stdout = [""] * len(self._stdout)  # displays keep their places
        self._stderr, self._results, self._clear_first = "", [], False

    def _display(self, content: dict[str, Any], kind: str) -> None:
        self._stdout.append("")
        result = PeerResult(
            data={kind: _decoded(kind, value) for kind, value in content["data"].items()},
            metadata=content["metadata"],
            display_id=content.get("transient", {}).get("display_id") or "",
            is_value=kind == "execute_result",
        )
        if kind == "update_display_data":
            self._results = [result if one.display_id == result.display_id else one for one in self._results]
        else:
            self._results.append(result)


def _decoded(kind: str, value: Any) -> Any:
    return base64.b64decode(value) if _BINARY.match(kind) else value
