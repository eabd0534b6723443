"""The sandbox at its full level: own pid, mount, ipc, uts, net and user namespaces, Landlock, seccomp, rlimits.

This is the supervisor's half.  It believes the kernel, init and its own folder handle; from the guest's channel it
takes only what concerns the guest's own result.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from bichat.domain import IsolationReport, Limits, Status
from bichat.errors import SandboxLostError, SandboxUnavailableError
from bichat.events import Stderr, Stdout
from bichat.sandbox import verdict, wire
from bichat.sandbox.artifacts import Capture, Snapshot, capture, snapshot
from bichat.sandbox.inputs import InputFile, write_input
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.transcript import READ_BYTES, Transcript
from bichat.sandbox.watchdog import Watch, Watchdog, anonymous_bytes, host_pid

#: Longest wait for the kernel to finish off a killed tree; ends of a few gigabytes take some hundred milliseconds.
_DEATH_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handles:
    """The supervisor's ends of everything that leads into one sandbox.  Descriptors are owned by the sandbox."""

    box: socket.socket
    """Control messages with init."""
    channel: socket.socket
    """Frames with the guest."""
    output: int
    errors: int
    process: int
    """pidfd of init; readable once the whole tree is dead."""
    folder: int
    """The guest's `/mnt/data`."""


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
    ) -> None:
        self._handles = handles
        self._limits = limits
        self._isolation = isolation
        self._owner = owner
        self._spool_folder = spool_folder
        self._watchdog = watchdog
        self._zygote_lives = zygote_lives
        self._killed: Status | None = None
        self._garbled = False
        self._dead = False
        self._let_go = False
        self._closed = False
        self._exit_code: int | None = None
        self._before = Snapshot({})
        self._epoll = select.epoll()
        for descriptor in (handles.box.fileno(), handles.channel.fileno(), handles.output, handles.errors):
            os.set_blocking(descriptor, False)  # positional in the standard library
            self._epoll.register(descriptor, select.EPOLLIN)
        self._epoll.register(handles.process, select.EPOLLIN)
        self._watch = self._start_watch()

    @property
    def isolation(self) -> IsolationReport:
        """What stands between the code and the host."""
        return self._isolation

    @property
    def pid(self) -> int:
        """Pid of the sandbox's init on the host; -1 once it is gone."""
        return host_pid(self._handles.process)

    def _start_watch(self) -> Watch | None:
        if self._watchdog is None:
            return None
        pid = self.pid
        watch = Watch(pid, self._limits.memory_bytes, anonymous_bytes(pid), lambda: self.kill(Status.OUT_OF_MEMORY))
        self._watchdog.add(watch)
        return watch

    async def put(self, files: Sequence[InputFile]) -> None:
        """See `Sandbox.put`."""

        def write() -> None:
            for file in files:
                write_input(self._handles.folder, file, self._owner)

        if files:
            await anyio.to_thread.run_sync(write)

    async def execute(
        self, code: str, *, name: str, timeout_s: float, final: bool = False
    ) -> AsyncGenerator[Stdout | Stderr | Ended]:
        """See `Sandbox.execute`."""
        self._before = await anyio.to_thread.run_sync(snapshot, self._handles.folder, self._limits)
        transcript = Transcript(self._limits)
        deadline = anyio.current_time() + timeout_s
        finished = False
        try:
            await self._send({"code": code, "name": name, "final": final}, deadline)
            while transcript.outcome is None and not self._dead:
                for event in self._read(transcript, await self._wait(deadline)):
                    yield event
            for event in self._drain(transcript):
                yield event
            for event in transcript.last_words():
                yield event
            yield self._ended(transcript, timeout_s)
            finished = True
        finally:
            if not finished:
                self.kill(Status.CANCELLED)

    async def capture(self) -> Capture:
        """See `Sandbox.capture`."""
        return await anyio.to_thread.run_sync(
            capture, self._handles.folder, self._before, self._limits, self._spool_folder
        )

    def kill(self, reason: Status) -> None:
        """Have the kernel kill the whole tree now; the first reason given is the one that counts."""
        if self._closed:
            return  # its descriptor may be another sandbox's by now
        if self._killed is None and not self._dead:
            self._killed = reason
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handles.process, signal.SIGKILL)

    def end(self) -> None:
        """Kill the tree and let go of all that leads into it but the handle that tells when it is gone."""
        if self._let_go:
            return
        self._let_go = True
        if self._watch is not None and self._watchdog is not None:
            self._watchdog.remove(self._watch)
        self.kill(Status.CANCELLED)
        self._epoll.close()
        self._handles.box.close()
        self._handles.channel.close()
        for descriptor in (self._handles.output, self._handles.errors, self._handles.folder):
            os.close(descriptor)

    @property
    def gone(self) -> bool:
        """Whether the kernel has ended the last process of the tree."""
        if self._closed:
            return True
        poll = select.poll()
        poll.register(self._handles.process, select.POLLIN)
        return bool(poll.poll(0))

    async def close(self) -> None:
        """See `Sandbox.close`."""
        self.end()
        if self._closed:
            return
        self._closed = True
        with anyio.move_on_after(_DEATH_S, shield=True):
            await anyio.wait_readable(self._handles.process)
        os.close(self._handles.process)

    async def _send(self, message: dict[str, Any], deadline: float) -> None:
        """Hand `message` over; a guest that does not take it until `deadline` is killed."""
        rest = memoryview(wire.encode_frame(message))
        while rest:
            try:
                rest = rest[self._handles.channel.send(rest) :]
            except BlockingIOError:
                with anyio.CancelScope(deadline=deadline) as scope:
                    await anyio.wait_writable(self._handles.channel)
                if scope.cancelled_caught:
                    self.kill(Status.TIMEOUT)
                    return
            except OSError as error:
                raise SandboxLostError("the sandbox died before the code was handed over", stage="run") from error

    async def _wait(self, deadline: float) -> list[int]:
        """Descriptors that have something; past `deadline` the tree is killed, and its death is one such thing."""
        if anyio.current_time() >= deadline and self._killed is None:
            self.kill(Status.TIMEOUT)
        until = deadline if self._killed is None else anyio.current_time() + _DEATH_S
        with anyio.CancelScope(deadline=until) as scope:
            await anyio.wait_readable(self._epoll.fileno())
        if scope.cancelled_caught:
            if self._killed is not None:
                raise SandboxUnavailableError(
                    f"the kernel did not end a killed sandbox within {_DEATH_S:.0f} s",
                    stage="run",
                    remedy="Look for processes in uninterruptible sleep on this host.",
                )
            return []
        return [descriptor for descriptor, _ in self._epoll.poll(0)]

    def _read(self, transcript: Transcript, ready: list[int]) -> Iterator[Stdout | Stderr]:
        handles = self._handles
        for descriptor in ready:
            if descriptor in (handles.output, handles.errors):
                yield from self._read_output(transcript, descriptor, once=True)
            elif descriptor == handles.channel.fileno():
                self._read_channel(transcript)
            elif descriptor == handles.box.fileno():
                self._read_box()
            elif descriptor == handles.process:
                self._dead = True

    def _read_output(self, transcript: Transcript, descriptor: int, *, once: bool) -> Iterator[Stdout | Stderr]:
        while transcript.printed_bytes <= self._limits.output_kill_bytes:
            try:
                chunk = os.read(descriptor, READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._unregister(descriptor)
                return
            event = transcript.printed(chunk, is_error=descriptor == self._handles.errors)
            if event is not None:
                yield event
            if once and transcript.printed_bytes <= self._limits.output_kill_bytes:
                return
        self.kill(Status.OUTPUT_LIMIT)
        self._unregister(descriptor)

    def _read_channel(self, transcript: Transcript) -> None:
        channel = self._handles.channel
        try:
            chunk = channel.recv(READ_BYTES)
            transcript.hear(chunk)
        except BlockingIOError:
            return
        except wire.FrameError:
            self._garbled = True
            self.kill(Status.KILLED)
            chunk = b""
        except OSError:
            chunk = b""
        if not chunk:
            self._unregister(channel.fileno())

    def _read_box(self) -> None:
        try:
            received = wire.receive_control(self._handles.box)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._unregister(self._handles.box.fileno())
        elif "ended" in received[0]:
            self._exit_code = received[0]["ended"]

    def _unregister(self, descriptor: int) -> None:
        with suppress(FileNotFoundError):
            self._epoll.unregister(descriptor)

    def _drain(self, transcript: Transcript) -> Iterator[Stdout | Stderr]:
        """What was printed before the end and has not been read: it is all in the pipes by now."""
        if self._dead:
            self._read_box()
        for descriptor in (self._handles.output, self._handles.errors):
            yield from self._read_output(transcript, descriptor, once=False)

    def _ended(self, transcript: Transcript, timeout_s: float) -> Ended:
        status, error = self._verdict(transcript, timeout_s)
        return Ended(
            status=status,
            stdout=transcript.stdout.captured(),
            stderr=transcript.stderr.captured(),
            error=error,
            alive=not self._dead and self._killed is None,
        )

    def _verdict(self, transcript: Transcript, timeout_s: float) -> verdict.Verdict:
        if self._garbled:
            return verdict.GARBLED
        if self._killed is not None:
            return verdict.killed(self._killed, self._limits, timeout_s)
        if transcript.outcome is not None:
            return verdict.reported(transcript.outcome, disk_is_full=self._disk_is_full())
        if self._exit_code is not None:
            return verdict.exited(self._exit_code)
        return verdict.KILLED_FROM_OUTSIDE if self._zygote_lives() else verdict.ZYGOTE_DIED

    def _disk_is_full(self) -> bool:
        state = os.fstatvfs(self._handles.folder)
        return state.f_bavail == 0 or state.f_ffree == 0
