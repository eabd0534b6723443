"""Keeps the processes alive that sandboxes are forked from: one that answers at once, one with the libraries imported.

The preloaded zygote is replaced when it is an hour old, for its hash secret and its address layout are those of all
its sandboxes, and after a fault.  Its successor is warmed up beside it, so nobody waits; it goes once the last of its
sandboxes has gone.  While there is none yet, or after it has died, a plain one serves, which has the shell imported
and nothing else.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.to_thread

from bichat.errors import BichatError, NamespacesForbiddenError, SandboxLostError, SandboxUnavailableError
from bichat.sandbox import wire
from bichat.sandbox.background import Background
from bichat.sandbox.descriptors import OUT_OF_DESCRIPTORS
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation.explain import LESS_WOULD_DO, WITHOUT_PROC, explain, forbids_namespaces
from bichat.sandbox.isolation.layers import Layer, Level
from bichat.sandbox.launch import Launched, launch
from bichat.sandbox.plan import SandboxPlan

#: Longest wait for a zygote to import its libraries, on a cold disk.
_ZYGOTE_READY_S: Final = 180.0
#: A killed zygote's sockets close one after the other; this is ample for the last.
_DYING_S: Final = 0.5
#: Wait before a preload that failed is tried again, doubled each time up to the second figure.
_FIRST_PAUSE_S: Final = 1.0
_LAST_PAUSE_S: Final = 60.0

logger = logging.getLogger(__name__)


class Zygote:
    """A launcher and the zygote that it became, seen from outside."""

    def __init__(self, launched: Launched) -> None:
        self._launched = launched
        self._faulty = anyio.Event()
        self.host_id = -1
        """User and group number on the host of everything in its sandboxes; known once it is ready."""
        self.base_bytes = 0
        """Its anonymous memory, which every guest shares with it at first."""
        self.inner_pid = 0
        """Pid of the zygote as it calls itself: on the host, where it has no pid namespace of its own."""
        self.sandboxes = 0
        """Those of it that have not gone."""
        self.retired = False
        """Whether it has been replaced: nothing new is opened from it."""

    @property
    def pid(self) -> int:
        """Pid of the launcher."""
        return self._launched.process.pid

    @property
    def layers(self) -> frozenset[Layer]:
        """What stands between its sandboxes and the host."""
        return self._launched.layers

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
            await self._dead()

    def fault(self) -> None:
        """Something went wrong in it: it is to be replaced."""
        self._faulty.set()

    @property
    def is_faulty(self) -> bool:
        """Whether something went wrong in it."""
        return self._faulty.is_set()

    async def spoilt(self) -> None:
        """Wait until it is faulty or dead."""
        async with anyio.create_task_group() as group:

            async def die() -> None:
                await self._dead()
                group.cancel_scope.cancel()

            group.start_soon(die)
            await self._faulty.wait()
            group.cancel_scope.cancel()

    async def _dead(self) -> None:
        """Wait until the zygote's end of the control socket is closed."""
        try:
            # Of our own: several may wait, and `end` closes the other one meanwhile.
            own = os.dup(self._launched.control.fileno())
        except OSError:
            return
        try:
            await anyio.wait_readable(own)
        finally:
            os.close(own)

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
            raise refusal(received[0], "zygote")
        self.host_id, self.base_bytes = int(received[0]["host_id"]), int(received[0]["base_bytes"])
        self.inner_pid = int(received[0]["pid"])
        for module, reason in received[0]["skipped"].items():
            logger.warning("%s could not be imported ahead: %s", module, reason)

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


class Nursery:
    """The zygotes of one environment."""

    def __init__(
        self,
        environment: Environment,
        *,
        preload: tuple[str, ...],
        layers: frozenset[Layer],
        fallback: frozenset[Layer] | None,
        scratch: Callable[[], str],
        launched: Launched | None,
        life_s: float,
    ) -> None:
        """Nothing is started yet.

        Args:
            environment: whose Python they run.
            preload: modules that the preloaded one imports.
            layers: what is to stand between sandboxes and the host.
            fallback: what may stand there instead where the host forbids namespaces; None where nothing may.
            scratch: makes a folder on the host for a zygote that has no file system of its own.
            launched: a launcher on its way.
            life_s: age at which a preloaded zygote is replaced.
        """
        self._environment = environment
        self._preload = preload
        #: Every guest needs this before its first cell; it takes a fifth of a second.
        self._shell = ("IPython.core.interactiveshell",) if "ipython" in environment.packages else ()
        self._layers = layers
        self._fallback = fallback
        self._scratch = scratch
        self._life_s = life_s
        self._background = Background()
        #: Ready in a fraction of a second, with nothing imported but the shell.
        self._plain = Zygote(launched) if launched else None
        self._plain_is_ready = False
        self._starting = anyio.Lock()
        self._is_closed = False
        #: Has `preload` imported.
        self._preloaded: Zygote | None = None
        self._failure: BichatError | None = None
        self._changed = anyio.Event()
        #: Replaced, and waiting for their last sandboxes to go.
        self._retired: set[Zygote] = set()

    def open(self) -> None:
        """Begin to preload, in the background."""
        if self._preload:
            self._background.start(self._keep_preloaded)

    async def close(self) -> None:
        """End every zygote, and with them every sandbox; one that is just being started too."""
        self._is_closed = True
        await self._background.close()
        async with self._starting:
            for zygote in (self._plain, self._preloaded, *self._retired):
                if zygote is not None:
                    await zygote.end()

    @property
    def preloaded(self) -> Zygote | None:
        """The one with the libraries imported, if there is one now that is sound."""
        found = self._preloaded
        return found if found is not None and found.lives and not self._is_spent(found) else None

    def hold_level(self) -> None:
        """The host gives what was asked for: from now on what fails is a failure, and nothing weaker is made of it."""
        self._fallback = None

    def fall_back(self, layers: frozenset[Layer]) -> bool:
        """Zygotes with `layers` cannot give sandboxes here; whether others can be had, or are made already."""
        if layers != self._layers:
            return True
        if self._fallback is None:
            return False
        logger.info("this host forbids namespaces: sandboxes are built at the level %s", Level.LANDLOCK)
        self._layers, self._fallback = self._fallback, None
        if self._preloaded is not None:
            self._preloaded.fault()
        return True

    async def zygote(self) -> Zygote:
        """One that is ready: the preloaded one, or a plain one while there is none.

        Raises:
            SandboxUnavailableError: this host cannot give one; says what is missing.
        """
        return self.preloaded or await self._ready_plain()

    async def warmed(self) -> None:
        """Wait until the libraries are imported.

        Raises:
            SandboxUnavailableError: this host cannot give a zygote; says what is missing.
        """
        while self._preload and self.preloaded is None:
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    async def changed(self) -> None:
        """Wait until another preloaded zygote is there, or could not be had."""
        await self._changed.wait()

    def gone(self, zygote: Zygote) -> None:
        """A sandbox of `zygote` has gone."""
        zygote.sandboxes -= 1
        if zygote in self._retired and not zygote.sandboxes:
            self._retired.discard(zygote)
            self._background.start(zygote.end)

    async def _keep_preloaded(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                fresh = await self._readied(self._preload)
            except BichatError as error:
                logger.warning("libraries could not be imported ahead, trying again in %.0f s: %s", pause_s, error)
                self._tell(error)
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            old, self._preloaded = (self._preloaded, self._plain), fresh
            self._plain = None
            self._tell(None)
            for zygote in old:
                self._retire(zygote)
            with anyio.move_on_after(self._life_s):
                await fresh.spoilt()
            if not fresh.lives:
                self._preloaded = None
                self._tell(None)
                await fresh.end()

    def _tell(self, failure: BichatError | None) -> None:
        self._failure = failure
        self._changed.set()
        self._changed = anyio.Event()

    def _retire(self, zygote: Zygote | None) -> None:
        if zygote is None:
            return
        zygote.retired = True
        if zygote.sandboxes:
            self._retired.add(zygote)
        else:
            self._background.start(zygote.end)

    async def _ready_plain(self) -> Zygote:
        async with self._starting:
            if self._is_closed:
                raise SandboxUnavailableError(
                    "there are no sandboxes any more: their owner has ended them", stage="zygote"
                )
            if self._plain is not None and self._is_spent(self._plain):
                spent, self._plain = self._plain, None
                self._retire(spent)  # sessions that it has begun go on
            if self._plain is not None and self._plain_is_ready and not self._plain.lives:
                dead, self._plain = self._plain, None
                await dead.end()
            if self._plain is None or not self._plain_is_ready:
                plain, self._plain, self._plain_is_ready = self._plain, None, False
                self._plain = await self._readied(self._shell, plain)
                self._plain_is_ready = True
            return self._plain

    def _is_spent(self, zygote: Zygote) -> bool:
        """Whether nothing new is to come from it: it is faulty, or cannot give sandboxes on this host."""
        return zygote.is_faulty or zygote.layers != self._layers

    async def _readied(self, preload: tuple[str, ...], launched: Zygote | None = None) -> Zygote:
        """One that is ready, at the level that the host gives.

        Raises:
            SandboxUnavailableError: as `Zygote.ready`.
        """
        zygote = launched or Zygote(self._launch(preload))
        try:
            return await _ready(zygote)
        except NamespacesForbiddenError as forbidden:
            if not self.fall_back(zygote.layers):
                forbidden.remedy = f"{forbidden.remedy} {LESS_WOULD_DO}"
                raise
            try:
                return await _ready(Zygote(self._launch(preload)))
            except SandboxUnavailableError as error:
                raise SandboxUnavailableError(
                    f"{forbidden.message}; and at the level landlock, {error.message}",
                    stage=error.stage,
                    remedy=f"{error.remedy} Or: {forbidden.remedy}",
                ) from error

    def _launch(self, preload: tuple[str, ...]) -> Launched:
        apart = Level.of(self._layers) is Level.NAMESPACES
        try:
            return launch(
                self._environment, preload=preload, layers=self._layers, scratch="" if apart else self._scratch()
            )
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM, *OUT_OF_DESCRIPTORS):
                raise refusal({"failed": "fork", "errno": error.errno, "message": str(error)}, "launch") from error
            raise SandboxUnavailableError(
                f"the environment's Python could not be started: {error}",
                stage="launch",
                remedy="`bichat env build --force` makes the environment anew.",
            ) from error


async def _ready(zygote: Zygote) -> Zygote:
    try:
        await zygote.ready()
    except BaseException:
        await zygote.end()
        raise
    return zygote


def refusal(message: dict[str, Any], stage: str) -> SandboxUnavailableError:
    """The error for a message in which a launcher, a zygote or an init says what failed."""
    step, number = str(message["failed"]), message.get("errno")
    has_proc = os.path.exists("/proc/self/stat")
    explanation = explain(step, number, str(message.get("message", ""))) if has_proc else WITHOUT_PROC
    kind = NamespacesForbiddenError if forbids_namespaces(step, number) else SandboxUnavailableError
    return kind(explanation.reason, stage=f"{stage}: {step}", remedy=explanation.remedy)
