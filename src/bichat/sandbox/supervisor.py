"""The supervisor of one environment: opens sandboxes, out of a pool of ready ones or made to measure."""

from __future__ import annotations

import functools
import logging
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.to_thread

from bichat.domain import IsolationReport, Limits
from bichat.errors import NamespacesForbiddenError, SandboxLostError, SandboxUnavailableError
from bichat.sandbox.control_groups import ControlGroup, ControlGroups
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.isolation import landlock, namespaces
from bichat.sandbox.isolation.explain import LESS_WOULD_DO
from bichat.sandbox.isolation.layers import ALL_LAYERS, Layer, Level
from bichat.sandbox.launch import Launched
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.nursery import Nursery, Zygote, refusal
from bichat.sandbox.opening import Handles, Opening, Pids
from bichat.sandbox.plan import SandboxPlan
from bichat.sandbox.pool import READY_BYTES, Activity, Pool
from bichat.sandbox.rooms import Rooms
from bichat.sandbox.tree import GroupTree, NamespaceTree, Tree
from bichat.sandbox.watchdog import Watchdog

if TYPE_CHECKING:  # only who asks for denials pays for it
    from bichat.sandbox.denials import Denials

logger = logging.getLogger(__name__)

_SANDBOX_READY_S: Final = 30.0
_HOUR_S: Final = 3600.0
#: Processes of a sandbox that are none of the user's: its guest counts, its init does not.
_OWN_PIDS: Final = 1
#: What a level does not have, reported with every result.
_LACKS: Final = (
    "an exact memory limit: a watchdog looks every 20 ms, so a fast allocation may pass it by some megabytes",
    "a limit on the kernel's own memory (descriptions of file locks, mappings and pipes)",
)
_LACKS_WITH_GROUPS: Final = (
    "an exact limit of memory apart from the disk: the kernel holds the sum of both, a watchdog memory alone",
)
_LACKS_OUTSIDE: Final = (
    "namespaces: the code is a process among the host's, and can tell which files there are, though not what is in them",
    "an exact limit of the disk: what lies there is measured some ten times a second",
    "own modes and times of files: changing them is answered as if it had been done",
)
_LACKS_USER: Final = (
    "a user of its own: the code runs as the server's, and is kept from its files and processes by Landlock and the filter",
    "an exact limit of processes: they are counted every 20 ms",
)
_LACKS_SIGNALS: Final = (
    "signals to the programs that the code has started, for this kernel could not keep them from others"
)
#: How far guests stand back behind a server (nice): busy ones leave the processors to it whenever it wants them.
_SERVER_NICENESS: Final = 10


class Supervisor:
    """Opens sandboxes of one environment; `async with` bounds everything that it starts."""

    def __init__(
        self,
        environment: Environment,
        *,
        spool_folder: Path,
        preload: tuple[str, ...] | None = None,
        layers: frozenset[Layer] = ALL_LAYERS,
        minimum: Level = Level.NAMESPACES,
        launched: Launched | None = None,
        niceness: int = _SERVER_NICENESS,
        zygote_life_s: float = _HOUR_S,
        ready: int = 0,
        ready_limits: Limits | None = None,
        has_room: Callable[[], bool] = lambda: True,
        activity: Callable[[], Activity] = Activity,
        denials: Denials | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            environment: whose Python and packages its sandboxes see.
            spool_folder: where captured bytes are kept, in anonymous files.
            preload: modules imported once and shared by all sandboxes, by default the environment's list.
            layers: all of them; only tests leave one out.
            minimum: the level that sandboxes have at least where the host forbids namespaces.
            launched: a launcher on its way, to open the first sandboxes from.
            niceness: by how much guests stand back; 0 where somebody waits for the one that there is.
            zygote_life_s: age at which the process that sandboxes are forked from is replaced.
            ready: how many sandboxes are kept ready.
            ready_limits: what those are made with.
            has_room: whether one more may be made ready now.
            activity: what goes on meanwhile; none is made ready in the way of it.
            denials: told of every call that is refused to guests, which takes them some time.
        """
        self.environment = environment
        """Whose Python and packages its sandboxes see."""
        self.isolation: IsolationReport | None = None
        """What stands between code and host in its sandboxes; None until there was one."""
        self._spool_folder = spool_folder
        layers = layers & Level.of(layers).layers
        self._layers = layers
        self._niceness = niceness
        self._denials = denials
        self._nursery = Nursery(
            environment,
            preload=environment.preload if preload is None else preload,
            layers=layers,
            fallback=layers & minimum.layers if minimum is not Level.of(layers) else None,
            scratch=lambda: self._rooms_made().scratch(),
            launched=launched,
            life_s=zygote_life_s,
        )
        limits = ready_limits or Limits()
        self._pool = Pool(
            self._nursery,
            lambda zygote: self._open(zygote, limits, warm_up=True),
            limits=limits,
            size=ready,
            has_room=has_room,
            activity=activity,
        )
        self._watchdog = Watchdog() if Layer.WATCHDOG in layers else None
        self._groups: ControlGroups | None = None
        self._rooms: Rooms | None = None
        self._users: set[int] = set()

    async def __aenter__(self) -> Self:
        if Layer.CONTROL_GROUP in self._layers:
            self._groups = ControlGroups.find()
        self._nursery.open()
        self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._pool.close()
            await self._nursery.close()
            if self._rooms is not None:
                await anyio.to_thread.run_sync(self._rooms.close)
        if self._groups is not None:
            self._groups.close()
        if self._watchdog is not None:
            self._watchdog.close()

    @property
    def ready_bytes(self) -> int:
        """Memory that the ready sandboxes hold, roughly."""
        return len(self._pool) * READY_BYTES

    @property
    def control_groups(self) -> str | None:
        """The version of control groups that hold the sandboxes' memory, `v1` or `v2`; None where none could be made."""
        return self._groups.kind if self._groups else None

    def shrink(self) -> bool:
        """End one ready sandbox to make room; whether there was any."""
        return self._pool.shrink()

    async def zygote(self) -> Zygote:
        """A zygote that is ready: the preloaded one, or a plain one while there is none.

        Raises:
            SandboxUnavailableError: this host cannot give one; says what is missing.
        """
        return await self._nursery.zygote()

    async def warmed(self) -> None:
        """Wait until the libraries are imported, and the ready sandboxes are ready.

        Raises:
            SandboxUnavailableError: this host cannot give one; says what is missing.
        """
        await self._nursery.warmed()
        await self._pool.filled()

    async def open(self, limits: Limits, *, variables: Mapping[str, str] | None = None) -> NamespaceSandbox:
        """A fresh sandbox, ready for code.  One that dies under our hands is replaced, once.

        Raises:
            SandboxUnavailableError: this host, or this moment, cannot give one.
        """
        sandbox = self._pool.take(limits)
        if sandbox is not None:
            sandbox.within(limits)
            try:
                await sandbox.configure(variables or {})
            except SandboxLostError:
                await sandbox.close()
            else:
                return sandbox
        zygote = await self.zygote()
        try:
            return await self._configured(zygote, limits, variables)
        except SandboxLostError:
            await zygote.settled()
            return await self._configured(await self.zygote(), limits, variables)

    async def _configured(
        self, zygote: Zygote, limits: Limits, variables: Mapping[str, str] | None
    ) -> NamespaceSandbox:
        try:
            sandbox = await self._open(zygote, limits)
        except NamespacesForbiddenError as forbidden:
            if not self._nursery.fall_back(zygote.layers):
                forbidden.remedy = f"{forbidden.remedy} {LESS_WOULD_DO}"
                raise
            sandbox = await self._open(await self.zygote(), limits)
        try:
            await sandbox.configure(variables or {})
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def _open(self, zygote: Zygote, limits: Limits, *, warm_up: bool = False) -> NamespaceSandbox:
        zygote.sandboxes += 1
        try:
            try:
                sandbox = await self._open_from(zygote, limits, warm_up=warm_up)
            except SandboxUnavailableError as error:
                if self._groups is None or "control group" not in error.stage:
                    raise
                logger.warning("sandboxes go on without control groups: %s", error)
                self._groups, unusable = None, self._groups
                unusable.close()
                sandbox = await self._open_from(zygote, limits, warm_up=warm_up)
        except TimeoutError as error:
            self._nursery.gone(zygote)
            zygote.fault()
            raise SandboxUnavailableError(
                f"no sandbox was ready within {_SANDBOX_READY_S:.0f} s", stage="sandbox"
            ) from error
        except OSError as error:
            self._nursery.gone(zygote)
            message = {"failed": "descriptors", "errno": error.errno, "message": str(error)}
            raise refusal(message, "sandbox") from error
        except BaseException:
            self._nursery.gone(zygote)
            raise
        self._nursery.hold_level()
        return sandbox

    async def _open_from(self, zygote: Zygote, limits: Limits, *, warm_up: bool) -> NamespaceSandbox:
        denials = self._denials
        group = self._group(limits)
        is_apart = Level.of(zygote.layers) is Level.NAMESPACES
        opening: Opening | None = None
        room, user = None, zygote.host_id if os.geteuid() == 0 else None
        try:
            if not is_apart:
                user = self._take_user()
                room = self._rooms_made().make(user)
            hear = functools.partial(denials.listen, level=Level.of(zygote.layers)) if denials else None
            opening = Opening(group.entrances() if group else (), hear)
            plan = SandboxPlan(
                memory_bytes=limits.memory_bytes,
                disk_bytes=limits.disk_bytes,
                inodes=limits.inodes,
                pids=limits.pids,
                cpus=_processors(limits),
                niceness=self._niceness,
                warm_up=warm_up,
                explain_denials=denials is not None,
                room=room.path if room else "",
                user=None if is_apart else user,
            )
            await zygote.spawn(plan, opening.theirs)
            opening.let_go()
            with anyio.fail_after(_SANDBOX_READY_S):
                handles = await opening.handles()
            lacks = _lacks(zygote.layers, user, group)
            self.isolation = IsolationReport(level=Level.of(zygote.layers), lacks=lacks)
            return NamespaceSandbox(
                handles,
                limits=limits,
                isolation=self.isolation,
                owner=None if user is None else (user, user),
                spool_folder=self._spool_folder,
                watchdog=self._watchdog,
                zygote_lives=lambda: zygote.lives,
                tree=_tree(handles, zygote),
                base_bytes=zygote.base_bytes,
                group=group,
                room=room,
                on_gone=lambda: self._gone(zygote, group, user),
            )
        except BaseException:
            if opening is not None:
                opening.abandon()
            self._forget(group, user)
            if room is not None:
                room.remove()
            raise

    def _rooms_made(self) -> Rooms:
        """The folders on the host; made with the first sandbox that needs one."""
        if self._rooms is None:
            self._rooms = Rooms()
        return self._rooms

    def _take_user(self) -> int | None:
        """Number of a user that nobody is; None where the server may not become another one."""
        if os.geteuid() != 0:
            return None
        user = namespaces.unused_host_id(self._users)
        self._users.add(user)
        return user

    def _group(self, limits: Limits) -> ControlGroup | None:
        """A control group for one sandbox, where this host has any to give."""
        if self._groups is None:
            return None
        return self._groups.take(limits.memory_bytes + limits.disk_bytes, limits.pids + _OWN_PIDS)

    def _gone(self, zygote: Zygote, group: ControlGroup | None, user: int | None) -> None:
        self._nursery.gone(zygote)
        self._forget(group, user)

    def _forget(self, group: ControlGroup | None, user: int | None) -> None:
        self._users.discard(user or 0)
        if group and self._groups:
            self._groups.give_back(group)


def _processors(limits: Limits) -> tuple[int, ...]:
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(random.sample(allowed, min(limits.cpus, len(allowed))))


def _tree(handles: Handles, zygote: Zygote) -> Tree:
    guest = handles.guest_pids.host
    if Layer.PID_NAMESPACE in zygote.layers:
        return NamespaceTree(Pids.of(handles.process).host, handles.process, guest, handles.box)
    return GroupTree(handles.process, guest, zygote.inner_pid)


def _lacks(layers: frozenset[Layer], user: int | None, group: ControlGroup | None) -> tuple[str, ...]:
    lacks = _LACKS_WITH_GROUPS if group else _LACKS
    if Level.of(layers) is Level.NAMESPACES:
        return lacks
    lacks = (*_LACKS_OUTSIDE, *lacks)
    if user is None:
        lacks = (*_LACKS_USER, *lacks)
        if landlock.abi_version() < landlock.SCOPES_ABI:
            lacks = (_LACKS_SIGNALS, *lacks)
    return lacks
