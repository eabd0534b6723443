"""The supervisor of one environment: keeps a zygote alive and opens sandboxes from it."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

import anyio
import anyio.to_thread

from bichat.domain import IsolationReport, Limits
from bichat.errors import SandboxLostError, SandboxUnavailableError
from bichat.sandbox import wire
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.explain import explain
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer
from bichat.sandbox.launch import Launched, launch
from bichat.sandbox.namespace_sandbox import Handles, NamespaceSandbox
from bichat.sandbox.plan import SandboxPlan
from bichat.sandbox.watchdog import Watchdog

#: Longest wait for a zygote to import its libraries, on a cold disk.
_ZYGOTE_READY_S: Final = 180.0
_SANDBOX_READY_S: Final = 30.0
#: A killed zygote's sockets close one after the other; this is ample for the last.
_DYING_S: Final = 0.5
#: What this level does not have, reported with every result.
_LACKS: Final = (
    "an exact memory limit: a watchdog looks every 20 ms, so a fast allocation may pass it by some megabytes",
    "a limit on the kernel's own memory (descriptions of file locks, mappings and pipes)",
)
#: How far guests stand back behind a server (nice): busy ones leave the processors to it whenever it wants them.
_SERVER_NICENESS: Final = 10


class Zygote:
    """A launcher and the zygote that it became, seen from outside."""

    def __init__(self, launched: Launched) -> None:
        self._launched = launched
        self.facts: dict[str, Any] = {}

    @property
    def host_id(self) -> int:
        """User and group number on the host of everything in its sandboxes."""
        return int(self.facts["host_id"])

    @property
    def pid(self) -> int:
        """Pid of the launcher."""
        return self._launched.process.pid

    @property
    def lives(self) -> bool:
        """Whether the zygote still holds its end of the control socket."""
        try:
            return self._launched.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def settled(self) -> None:
        """Wait a moment for the end of one that seems to be dying, so that `lives` tells the truth."""
        with anyio.move_on_after(_DYING_S):
            await anyio.wait_readable(self._launched.control)

    @property
    def has_answered(self) -> bool:
        """Whether `ready` would return, or fail, at once."""
        poll = select.poll()
        poll.register(self._launched.control, select.POLLIN)
        return bool(poll.poll(0))

    async def ready(self) -> None:
        """Wait until its libraries are imported.

        Raises:
            SandboxUnavailableError: it failed at some step, or took too long.
        """
        control = self._launched.control
        with anyio.move_on_after(_ZYGOTE_READY_S):
            await anyio.wait_readable(control)
            self._fail_or(wire.receive_control(control))
            return
        raise SandboxUnavailableError(
            f"the environment's libraries were not imported within {_ZYGOTE_READY_S:.0f} s", stage="zygote"
        )

    def _fail_or(self, received: tuple[dict[str, Any], list[int]] | None) -> None:
        if received is None:
            raise SandboxUnavailableError(
                "the launcher process ended before it was ready",
                stage="zygote",
                remedy="Run `bichat doctor`; `bichat env build --force` makes the environment anew.",
            )
        if "failed" in received[0]:
            raise _refusal(received[0], "zygote")
        self.facts = received[0]

    async def spawn(self, plan: SandboxPlan, descriptors: list[int]) -> None:
        """Ask for one sandbox; it answers on its own sockets.

        Raises:
            SandboxLostError: the zygote is dead.
        """
        while True:
            try:
                wire.send_control(self._launched.control, plan.to_message(), descriptors)
            except BlockingIOError:
                await anyio.wait_writable(self._launched.control)
            except OSError as error:
                raise SandboxLostError("the zygote is dead", stage="zygote") from error
            else:
                return

    async def end(self) -> None:
        """Kill it with all its sandboxes and wait for that."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._launched.end)


class Supervisor:
    """Opens sandboxes of one environment; `async with` bounds everything that it starts."""

    def __init__(
        self,
        environment: Environment,
        *,
        spool_folder: Path,
        preload: tuple[str, ...] | None = None,
        layers: frozenset[Layer] = ALL_LAYERS,
        launched: Launched | None = None,
        niceness: int = _SERVER_NICENESS,
    ) -> None:
        """Nothing is started yet.

        Args:
            environment: whose Python and packages its sandboxes see.
            spool_folder: where captured bytes are kept, in anonymous files.
            preload: modules imported once and shared by all sandboxes, by default the environment's list.
            layers: all of them; only tests leave one out.
            launched: a launcher on its way, to open the first sandboxes from.
            niceness: by how much guests stand back; 0 where somebody waits for the one that there is.
        """
        self._environment = environment
        self._spool_folder = spool_folder
        self._preload = environment.preload if preload is None else preload
        self._layers = layers
        self._niceness = niceness
        #: Answers within milliseconds and has nothing imported.
        self._plain = Zygote(launched) if launched else None
        self._plain_is_ready = False
        #: Has `preload` imported; until then it is `_warming`.
        self._preloaded: Zygote | None = None
        self._warming: Zygote | None = None
        self._starting = anyio.Lock()
        self._watchdog = Watchdog() if Layer.WATCHDOG in layers else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for zygote in (self._plain, self._preloaded, self._warming):
            if zygote is not None:
                await zygote.end()
        if self._watchdog is not None:
            self._watchdog.close()

    async def zygote(self) -> Zygote:
        """A zygote that is ready: the preloaded one, or a plain one while that is still importing, or again is.

        Raises:
            SandboxUnavailableError: this host cannot give one; says what is missing.
        """
        async with self._starting:
            if self._preload:
                await self._warm()
            return self._preloaded or await self._ready_plain()

    async def warmed(self) -> None:
        """Wait until the libraries are imported: the sandboxes opened from then on have them.

        Raises:
            SandboxUnavailableError: this host cannot give one; says what is missing.
        """
        async with self._starting:
            if self._preload:
                await self._warm(wait=True)

    async def _warm(self, *, wait: bool = False) -> None:
        """Have a preloaded zygote on its way, and in its place as soon as it is ready."""
        if self._preloaded is not None and not self._preloaded.lives:
            dead, self._preloaded = self._preloaded, None
            await dead.end()
        if self._preloaded is None and self._warming is None:
            self._warming = Zygote(self._launch(self._preload))
        if self._warming is not None and (wait or self._warming.has_answered):
            warming, self._warming = self._warming, None
            self._preloaded = await _ready(warming)

    async def _ready_plain(self) -> Zygote:
        if self._plain is not None and self._plain_is_ready and not self._plain.lives:
            dead, self._plain = self._plain, None
            await dead.end()
        if self._plain is None:
            self._plain, self._plain_is_ready = Zygote(self._launch(())), False
        if not self._plain_is_ready:
            plain, self._plain = self._plain, None
            self._plain = await _ready(plain)
            self._plain_is_ready = True
        return self._plain

    def _launch(self, preload: tuple[str, ...]) -> Launched:
        try:
            return launch(self._environment, preload=preload, layers=self._layers)
        except OSError as error:
            raise SandboxUnavailableError(
                f"the environment's Python could not be started: {error}",
                stage="launch",
                remedy="`bichat env build --force` makes the environment anew.",
            ) from error

    async def open(self, limits: Limits, *, variables: Mapping[str, str] | None = None) -> NamespaceSandbox:
        """A fresh sandbox, ready for code.  A zygote that dies under our hands is replaced, once.

        Raises:
            SandboxUnavailableError: this host, or this moment, cannot give one.
        """
        zygote = await self.zygote()
        try:
            return await self._open(zygote, limits, variables or {})
        except SandboxLostError:
            await zygote.settled()
            return await self._open(await self.zygote(), limits, variables or {})

    async def _open(self, zygote: Zygote, limits: Limits, variables: Mapping[str, str]) -> NamespaceSandbox:
        try:
            return await self._open_from(zygote, limits, variables)
        except TimeoutError as error:
            raise SandboxUnavailableError(
                f"no sandbox was ready within {_SANDBOX_READY_S:.0f} s", stage="sandbox"
            ) from error
        except OSError as error:
            message = {"failed": "descriptors", "errno": error.errno, "message": str(error)}
            raise _refusal(message, "sandbox") from error

    async def _open_from(self, zygote: Zygote, limits: Limits, variables: Mapping[str, str]) -> NamespaceSandbox:
        opening = _Opening()
        try:
            await zygote.spawn(_plan(limits, variables, self._niceness), opening.theirs)
            opening.let_go()
            with anyio.fail_after(_SANDBOX_READY_S):
                handles = await opening.handles()
            return NamespaceSandbox(
                handles,
                limits=limits,
                isolation=IsolationReport(level="namespaces", lacks=_LACKS),
                owner=(zygote.host_id, zygote.host_id) if os.geteuid() == 0 else None,
                spool_folder=self._spool_folder,
                watchdog=self._watchdog,
                zygote_lives=lambda: zygote.lives,
            )
        except BaseException:
            opening.abandon()
            raise


async def _ready(zygote: Zygote) -> Zygote:
    try:
        await zygote.ready()
    except BaseException:
        await zygote.end()
        raise
    return zygote


class _Opening:
    """The descriptors of a sandbox that is coming to life: ours, and the other ends until they are sent."""

    def __init__(self) -> None:
        with ExitStack() as undo:
            self._box, their_box = map(undo.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            self._channel, their_channel = map(undo.enter_context, socket.socketpair(socket.AF_UNIX))
            self._output, their_output = _pipe(undo)
            self._errors, their_errors = _pipe(undo)
            undo.pop_all()
        self._received: list[int] = []
        self.theirs = [their_box.detach(), their_channel.detach(), their_output, their_errors]

    def let_go(self) -> None:
        """Close the other ends here, so that their real owner's end is the end."""
        while self.theirs:
            os.close(self.theirs.pop())

    def abandon(self) -> None:
        """Close everything; a sandbox that came to life ends when its init finds the box closed."""
        self.let_go()
        self._box.close()
        self._channel.close()
        for descriptor in (self._output, self._errors, *self._received):
            with suppress(OSError):
                os.close(descriptor)

    async def handles(self) -> Handles:
        """Wait until the guest says that it is ready for code.

        Raises:
            SandboxLostError: it, or the zygote, died on the way.
            SandboxUnavailableError: a wall could not be put up.
        """
        process, folder = self._received = await self._two_handles()
        await anyio.wait_readable(self._channel)
        if not self._channel.recv(4096):
            await self._fail()
        return Handles(
            box=self._box,
            channel=self._channel,
            output=self._output,
            errors=self._errors,
            process=process,
            folder=folder,
        )

    async def _two_handles(self) -> list[int]:
        await anyio.wait_readable(self._box)
        received = wire.receive_control(self._box)
        if received is None:
            raise SandboxLostError("the zygote died while it made a sandbox", stage="sandbox")
        if "failed" in received[0]:
            raise _refusal(received[0], "sandbox")
        return received[1]

    async def _fail(self) -> None:
        """The guest's channel closed before it was ready: init knows why."""
        await anyio.wait_readable(self._box)
        received = wire.receive_control(self._box)
        if received is not None and "failed" in received[0]:
            raise _refusal(received[0], "sandbox")
        raise SandboxLostError("the sandbox died before it was ready", stage="sandbox")


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _refusal(message: dict[str, Any], stage: str) -> SandboxUnavailableError:
    explanation = explain(str(message["failed"]), message.get("errno"), str(message.get("message", "")))
    return SandboxUnavailableError(explanation.reason, stage=f"{stage}: {message['failed']}", remedy=explanation.remedy)


def _plan(limits: Limits, variables: Mapping[str, str], niceness: int) -> SandboxPlan:
    allowed = sorted(os.sched_getaffinity(0))
    return SandboxPlan(
        memory_bytes=limits.memory_bytes,
        disk_bytes=limits.disk_bytes,
        inodes=limits.inodes,
        pids=limits.pids,
        cpus=tuple(random.sample(allowed, min(limits.cpus, len(allowed)))),
        niceness=niceness,
        variables=dict(variables),
    )
