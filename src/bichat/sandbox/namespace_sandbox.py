"""The sandbox, at either level: in namespaces of its own, or behind Landlock and a filter alone.

This is the supervisor's half, and the same for both but for its tree and its room.  It believes the kernel, init and its own folder handle; from the guest's channel it
takes only what concerns the guest's own result.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from bichat.domain import Artifact, IsolationReport, Limits, SessionFile, Status
from bichat.errors import BichatError, SandboxLostError, SandboxUnavailableError
from bichat.names import display_name
from bichat.sandbox import verdict, wire
from bichat.sandbox.artifacts import Capture
from bichat.sandbox.connection import Connection, Output
from bichat.sandbox.control_groups import ControlGroup
from bichat.sandbox.descriptors import no_descriptor_in_words
from bichat.sandbox.folder import Folder
from bichat.sandbox.inputs import InputFile
from bichat.sandbox.opening import GuestPipes, Handles, Pids, introduction, ready, unless_ended
from bichat.sandbox.results import name_images
from bichat.sandbox.rooms import Room, Usage
from bichat.sandbox.sandbox import Ended, Outcome
from bichat.sandbox.transcript import Transcript
from bichat.sandbox.tree import Tree, is_exiting, tasks
from bichat.sandbox.watchdog import Rest, Watch, Watchdog

#: Longest wait for the kernel to finish off a killed tree; ends of a few gigabytes take some hundred milliseconds.
_DEATH_S: Final = 30.0
_RESTART_S: Final = 30.0


class NamespaceSandbox:
    """See the port, `sandbox.Sandbox`.  Made by `supervisor.Supervisor`."""

    def __init__(
        self,
        handles: Handles,
        *,
        limits: Limits,
        isolation: IsolationReport,
        owner: tuple[int, int] | None,
        spool_folder: Path,
        watchdog: Watchdog | None,
        zygote_lives: Callable[[], bool],
        base_bytes: int = 0,
        tree: Tree,
        group: ControlGroup | None = None,
        room: Room | None = None,
        on_gone: Callable[[], None] = lambda: None,
    ) -> None:
        """`base_bytes`: anonymous memory that the guest shares with the zygote at first.

        `room`: its folder on the host, where it has no file systems of its own; removed with it.
        """
        self._handles = handles
        self._limits = limits
        self._isolation = isolation
        self._owner = owner
        self._tree = tree
        self._room = room
        self._folder = Folder(handles.folder, owner=owner, spool_folder=spool_folder, room=room)
        self._spool_folder = spool_folder
        self._watchdog = watchdog
        self._zygote_lives = zygote_lives
        self._on_gone = on_gone
        self._guest_number = self._introduced = 1
        self._connection = Connection(handles.guest, handles.box, handles.process, self._guest_number)
        self._killed: Status | None = None
        #: Why the code was interrupted, and when it is killed if it goes on.
        self._stopping: Status | None = None
        self._kill_at = float("inf")
        #: Asked for before the guest could hear it: it would pass unheeded.
        self._interrupts_at_begin = False
        #: The deadline has passed, and what had come by then has been read.
        self._looked_again = False
        self._tree_was_ended = False
        self._init_was_killed = False
        self._restarting: GuestPipes | None = None
        #: The execution that its caller walked away from.
        self._abandoned: Transcript | None = None
        self._let_go = False
        self._closed = False
        self._closing = anyio.Lock()
        self._variables: dict[str, str] = {}
        self._cell = 0
        self._next_figure = 1
        self._transcript: Transcript | None = None
        self._base_bytes = base_bytes
        self._group = group
        self._guest_pids = handles.guest_pids
        #: From the first execution on: until then only our own code has run in it.
        self._watch: Watch | None = None

    @property
    def isolation(self) -> IsolationReport:
        """What stands between the code and the host."""
        return self._isolation

    @property
    def pid(self) -> int:
        """Pid of the sandbox's init on the host; -1 once it is gone."""
        return Pids.of(self._handles.process).host

    @property
    def guest_pid(self) -> int:
        """Pid of the process that runs the code, on the host."""
        return self._guest_pids.host

    def within(self, limits: Limits) -> None:
        """Let `limits` hold from now on; those that its walls were made with must be the same."""
        self._limits = limits

    def used_bytes(self) -> int:
        """What it holds now, at most: memory that its processes have added, and what lies on its disk."""
        return self._folder.used_bytes + (self._watch.used_bytes() if self._watch else 0)

    def rest(self, allowed_bytes: int, grown: Callable[[int], None]) -> None:
        """See `Sandbox.rest`."""
        loop = asyncio.get_running_loop()

        def tell(used: int) -> None:
            loop.call_soon_threadsafe(grown, used)

        if self._watch is not None:
            self._watch.rest = Rest(allowed_bytes, lambda: self._folder.used_bytes, tell)

    def _start_watch(self) -> None:
        if self._watch is not None:
            self._watch.rest = None
        elif self._watchdog is not None:
            if self._room is not None:
                self._room.inhabit(self._tree, Usage(self._limits.disk_bytes, self._limits.inodes))
            watch = Watch(
                self._tree,
                self._limits.memory_bytes,
                self._base_bytes,
                self.kill,
                self._exceeded,
                self._owner if self._room else None,
            )
            self._watchdog.add(watch)
            self._watch = watch

    async def configure(self, variables: Mapping[str, str]) -> None:
        """See `Sandbox.configure`."""
        self._variables = dict(variables)
        if variables:
            await self._connection.send({"variables": self._variables})

    async def put(self, files: Sequence[InputFile]) -> None:
        """See `Sandbox.put`."""
        await self._folder.put(files, self._limits)

    async def execute(
        self, code: str, *, name: str, timeout_s: float, final: bool = False
    ) -> AsyncGenerator[Output | Ended]:
        """See `Sandbox.execute`."""
        await self.settle()
        await self.finish_restart()
        await self._connection.interrupted()
        self._start_watch()
        self._connection.begin()
        self._cell += 1
        transcript = self._transcript = Transcript(self._limits, self._cell, self._spool_folder)
        self._stopping, self._kill_at = None, float("inf")
        self._interrupts_at_begin = self._looked_again = False
        deadline = anyio.current_time() + timeout_s
        self._connection.hold(is_held=False)
        finished = False
        try:
            await self._hand_over({"code": code, "name": name, "cell": self._cell, "final": final}, deadline)
            async for event in self._listen(transcript, deadline):
                yield event
            for event in transcript.last_words():
                yield event
            yield self._ended(transcript, timeout_s)
            finished = True
        finally:
            if not finished:
                self._abandoned = transcript
                self.stop(Status.CANCELLED)

    @property
    def is_unsettled(self) -> bool:
        """Whether code runs on that its caller walked away from."""
        return self._abandoned is not None

    async def settle(self) -> None:
        """See `Sandbox.settle`."""
        if self._abandoned is not None:
            async for _ in self._listen(self._abandoned, float("inf")):
                pass
            self._abandoned = None

    async def capture(self) -> Capture:
        """See `Sandbox.capture`."""
        return await self._folder.capture(self._limits)

    async def outcome(self, ended: Ended) -> Outcome:
        """See `Sandbox.outcome`."""
        captured = await self.capture()
        transcript, self._transcript = self._transcript, None
        artifacts, refused = list(captured.artifacts), list(captured.refused)
        taken = {display_name(path) for path in captured.after.files}
        for whole in transcript.whole_streams(taken) if transcript else ():
            if isinstance(whole, Artifact):
                artifacts.append(whole)
            else:
                refused.append(whole)
        results, images, self._next_figure = name_images(
            ended.shown, captured.artifacts, frozenset(taken), self._next_figure
        )
        return Outcome(
            artifacts=tuple(sorted((*artifacts, *images), key=lambda artifact: artifact.name)),
            refused=tuple(refused),
            results=results,
        )

    async def files(self) -> tuple[SessionFile, ...]:
        """See `Sandbox.files`."""
        return await self._folder.files(self._limits)

    async def open(self, name: str) -> Artifact:
        """See `Sandbox.open`."""
        return await self._folder.open(name, self._limits)

    async def remove(self, name: str) -> None:
        """See `Sandbox.remove`."""
        await self._folder.remove(name, self._limits)

    def hold_output(self, is_held: bool) -> None:  # noqa: FBT001  # what it sets
        """See `Sandbox.hold_output`."""
        self._connection.hold(is_held=is_held)

    def interrupt(self) -> None:
        """See `Sandbox.interrupt`."""
        if self._stopping is None:
            self._stopping = Status.CANCELLED
        self._interrupt()

    def stop(self, reason: Status) -> None:
        """Interrupt the code, and kill the tree if that has not ended it after `grace_s`."""
        self._stopping, self._kill_at = reason, anyio.current_time() + self._limits.grace_s
        self._interrupt()

    def _interrupt(self) -> None:
        self._connection.hold(is_held=False)  # what it still has to say must not keep it from heeding
        if self._transcript is not None and self._transcript.begun:
            self._connection.interrupt()
        else:
            self._interrupts_at_begin = True

    def begin_restart(self) -> None:
        """See `Sandbox.restart`: end the guest and have init start another; the execution under way ends.

        Raises:
            SandboxLostError: the sandbox is dead.
            SandboxUnavailableError: this process is out of descriptors; nothing has changed.
        """
        if self._restarting is not None:
            return
        with no_descriptor_in_words("session"):
            pipes = GuestPipes()
        try:
            wire.send_control(self._handles.box, {"restart": True}, pipes.theirs)
        except OSError as error:
            pipes.abandon()
            raise SandboxLostError("the sandbox is dead", stage="session") from error
        pipes.let_go()
        self._restarting = pipes

    async def finish_restart(self) -> None:
        """Wait for the new guest.  Nothing may be executing.

        Raises:
            SandboxLostError: the sandbox died, or there was no process to be had.
        """
        if self._restarting is None:
            return
        pipes = self._restarting
        self._abandoned = None
        self._connection.close()
        try:
            number = self._guest_number + 1
            with anyio.fail_after(_RESTART_S), unless_ended(self._handles.process, self._handles.box, number):
                if self._introduced != number:
                    self._guest_pids = await introduction(self._handles.box, number)
                    self._introduced = number
                await ready(self._handles.box, pipes.ours, number)
        except (
            BichatError,
            OSError,
            anyio.ClosedResourceError,
        ) as error:  # a cancelled caller leaves it to the next one
            self._restarting = None
            pipes.abandon()
            self.kill(Status.SESSION_LOST)
            raise SandboxLostError(f"the sandbox could not be restarted: {error}", stage="session") from error
        self._restarting = None
        self._guest_number += 1
        self._tree.entered(self.guest_pid)
        self._connection = Connection(pipes.ours, self._handles.box, self._handles.process, self._guest_number)
        await self.configure(self._variables)

    def kill(self, reason: Status) -> None:
        """Have the kernel kill the whole tree now; the first reason given is the one that counts."""
        if self._closed:
            return  # its descriptor may be another sandbox's by now
        if self._killed is None and not self._connection.dead and self._connection.exit_code is None:
            self._killed = reason
        self._end_tree()

    def _exceeded(self, processes: tuple[int, ...]) -> Status | None:
        """A limit that the watchdog does not know itself and that `processes`, all of them, have passed."""
        if self._was_exceeded():
            return Status.OUT_OF_MEMORY
        if self._room is None:
            return None
        if self._init_has_ended():
            self._tree.kill()
        usage = self._room.usage
        if usage.bytes > self._limits.disk_bytes or usage.inodes > self._limits.inodes:
            return Status.DISK_FULL
        # Where they have a user of their own the kernel counts them.
        return Status.KILLED if self._owner is None and tasks(processes) > self._limits.pids else None

    def _init_has_ended(self) -> bool:
        """Whether it was killed, or has nothing left to do: where no namespace ends with it, the rest of the tree goes on."""
        poll = select.poll()
        poll.register(self._handles.process, select.POLLIN)
        return bool(poll.poll(0))

    def _was_exceeded(self) -> bool:
        """Whether the kernel has killed something in it for memory."""
        return self._group is not None and self._group.was_exceeded

    def _end_tree(self) -> None:
        self._tree_was_ended = True
        self._tree.kill()

    def end(self) -> None:
        """Kill the tree and let go of all that leads into it but the handle that tells when it is gone."""
        if self._let_go:
            return
        self._let_go = True
        if self._watch is not None and self._watchdog is not None:
            self._watchdog.remove(self._watch)
        self.kill(Status.CANCELLED)
        self._connection.close()
        if self._restarting is not None:
            anyio.notify_closing(self._restarting.ours.channel)
            self._restarting.abandon()
        anyio.notify_closing(self._handles.box)
        self._handles.box.close()

    @property
    def gone(self) -> bool:
        """Whether the kernel has ended the last process of the tree."""
        if self._closed:
            return True
        poll = select.poll()
        poll.register(self._handles.process, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def has_died(self) -> bool:
        """Whether the guest has ended, or the whole tree has."""
        if self._let_go:
            return True
        if self._restarting is not None:
            return self.gone  # the guest has ended because it was asked to
        self._connection.look()
        if self._connection.exit_code is not None:
            self._end_tree()
            return True
        return self.gone

    @property
    def kill_reason(self) -> Status | None:
        """Why we killed it; None while it lives, and when somebody else did."""
        return self._killed

    async def close(self) -> None:
        """See `Sandbox.close`."""
        self.end()
        with anyio.CancelScope(shield=True):
            async with self._closing:
                if self._closed:
                    return
                await self._folder.close()
                with anyio.move_on_after(_DEATH_S):
                    await anyio.wait_readable(self._handles.process)
                self._closed = True
                self._tree.close()
                os.close(self._handles.process)
                if self._room is not None:
                    await anyio.to_thread.run_sync(self._room.remove)
                self._on_gone()

    async def _hand_over(self, message: dict[str, object], deadline: float) -> None:
        """A guest that does not take it until `deadline` is killed."""
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._connection.send(message)
        if scope.cancelled_caught:
            self.kill(Status.TIMEOUT)

    async def _listen(self, transcript: Transcript, deadline: float) -> AsyncGenerator[Output]:
        """What comes until the code has ended or the tree is dead; past `deadline` the code is stopped."""
        connection = self._connection
        while transcript.outcome is None and not connection.dead and self._restarting is None:
            await self._wait(deadline)
            for event in self._bounded(transcript, connection.advance(transcript)):
                yield event
            if transcript.begun and self._interrupts_at_begin:
                self._interrupts_at_begin = False
                connection.interrupt()
            if connection.garbled:
                self.kill(Status.KILLED)
            if connection.exit_code is not None and not self._tree_was_ended and self._restarting is None:
                # A guest that dies because its init was killed looks like one that was killed itself.
                if connection.exit_code == -signal.SIGKILL and self._was_exceeded():
                    self._killed = Status.OUT_OF_MEMORY
                else:
                    self._init_was_killed = connection.exit_code == -signal.SIGKILL and is_exiting(self.pid)
                self._end_tree()
        if connection.dead and connection.exit_code is None and not self._tree_was_ended:
            self._init_was_killed = True  # it went first: what the zygote may still say of the guest is the consequence
        if self._restarting is None:
            for event in self._bounded(transcript, connection.drain(transcript, self._limits.output_kill_bytes)):
                yield event

    def _bounded(self, transcript: Transcript, events: Iterator[Output]) -> Iterator[Output]:
        for event in events:
            yield event
            if transcript.printed_bytes > self._limits.output_kill_bytes:
                self.kill(Status.OUTPUT_LIMIT)

    async def _wait(self, deadline: float) -> None:
        """Wait for something to read: output, a frame, or the tree's death."""
        now = anyio.current_time()
        if self._killed is None and now >= self._kill_at:
            self.kill(self._stopping or Status.CANCELLED)
        elif self._stopping is not Status.TIMEOUT and now >= deadline:
            if not self._looked_again:
                self._looked_again = True
                return  # the loop may have been busy with something else, and the code have ended in time
            self.stop(Status.TIMEOUT)
        if self._killed is not None:
            until = now + _DEATH_S
        else:
            until = min(self._kill_at, deadline if self._stopping is not Status.TIMEOUT else float("inf"))
        with anyio.CancelScope(deadline=until) as scope:
            await self._connection.wait()
        if scope.cancelled_caught and self._killed is not None:
            raise SandboxUnavailableError(
                f"the kernel did not end a killed sandbox within {_DEATH_S:.0f} s",
                stage="run",
                remedy="Look for processes in uninterruptible sleep on this host.",
            )

    def _ended(self, transcript: Transcript, timeout_s: float) -> Ended:
        status, error = self._verdict(transcript, timeout_s)
        return Ended(
            status=status,
            stdout=transcript.stdout.captured(),
            stderr=transcript.stderr.captured(),
            error=error,
            shown=transcript.results.listed(),
            results_omitted=transcript.results.omitted,
            alive=not self._connection.dead and self._killed is None,
        )

    def _verdict(self, transcript: Transcript, timeout_s: float) -> verdict.Verdict:
        if self._connection.garbled:
            return verdict.GARBLED
        if self._killed is not None:
            return verdict.killed(self._killed, self._limits, timeout_s)
        if self._restarting is not None:
            return verdict.RESTARTED
        if transcript.outcome is not None:
            reported = verdict.reported(transcript.outcome, disk_is_full=self._folder.is_full)
            return verdict.stopped(self._stopping, reported, timeout_s) if self._stopping else reported
        if self._connection.exit_code is not None and not self._init_was_killed:
            return verdict.exited(self._connection.exit_code)
        return verdict.KILLED_FROM_OUTSIDE if self._zygote_lives() else verdict.ZYGOTE_DIED
