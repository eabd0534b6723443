"""A session: a live interpreter with variables and a `/mnt/data` folder, from its opening to its end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from bichat.admission import Admission, Claim
from bichat.domain import Artifact, ExecutionResult, Limits, Origin, SessionFile, Status, Timings
from bichat.errors import LimitError, SandboxLostError, SessionEndedError, SessionLostError, UserInputError
from bichat.events import Completed, Displayed, Event, FileChanged, Stderr, Stdout
from bichat.relay import Relay
from bichat.sandbox.background import Background
from bichat.sandbox.inputs import InputFile, InputSource, check_inputs
from bichat.sandbox.namespace_sandbox import NamespaceSandbox
from bichat.sandbox.sandbox import Ended
from bichat.sizes import MIB, format_size

if TYPE_CHECKING:  # only who keeps a record pays for it
    from bichat.archive import Ledger
    from bichat.repository.records import ExecutionRecord

#: Longest source text of one execution.
MAX_CODE_BYTES: Final = 4 * MIB
#: What a session is counted with before it has run anything.
IDLE_BYTES: Final = 32 * MIB
_FOLDER: Final = "/mnt/data/"

_WORDS: Final[Mapping[str, str]] = {
    "closed": "it was closed",
    "idle": "nobody used it for {idle_s:g} s",
    "life": "sessions live {life_s:g} s",
    "evicted": "it was idle, and its tenant needed the room for another",
    "grown": "threads or programs that its code left behind took more memory than there was room for",
    "lost": "its processes were killed from outside",
    "exited": "its code ended the process",
    "timeout": "its code did not heed the interrupt at its timeout, and was killed",
    "cancelled": "its code did not heed the caller's interrupt, and was killed",
    "out_of_memory": "its processes passed the memory limit, and were killed",
    "output_limit": "its code printed more than is allowed, and was killed",
    "killed": "its process was killed by a signal",
}


@dataclass(frozen=True, slots=True)
class _End:
    reason: str
    at: datetime
    why: str = ""
    """In words, where more is known than the reason."""


class Session:
    """Opened by `CodeInterpreter.session`; executions of one session run one at a time, in the order of the calls.

    It ends by `close`, after `idle_s` without use, after `life_s` in any case, when its own code kills it, or when
    its tenant is at a cap and it is the longest idle.  From then on every method raises `SessionEndedError`.
    """

    def __init__(
        self,
        sandbox: NamespaceSandbox,
        *,
        tenant: str,
        limits: Limits,
        admission: Admission,
        held: Claim,
        background: Background,
        timings: Timings,
        ledger: Ledger | None = None,
        notice: str = "",
    ) -> None:
        """`held` is what `admission` has counted for it; `timings` what its opening took.

        `ledger`: puts it on record; `notice`: what its first result says of it.
        """
        self.tenant = tenant
        self.limits = limits
        self.execution_count = 0
        """Executions that were begun."""
        self._sandbox = sandbox
        self._admission = admission
        self._held = held
        self._background = background
        self._opening = timings
        self._ledger = ledger
        self._notice = notice
        self._turn = anyio.Semaphore(1, fast_acquire=True)
        self._users = 0
        self._is_running = False
        #: Code has ended, and its result is on its way: that says how the session ended, if it did.
        self._is_concluding = False
        self._used_at = anyio.current_time()
        self._opened_at = self._used_at
        self._touched = anyio.Event()
        self._end: _End | None = None
        self._end_recorded = anyio.Event()
        admission.enter(self)
        background.start(self._expire)

    @property
    def idle_since(self) -> float | None:
        """Moment of the loop's clock since which nothing runs and nothing waits in it; None while something does."""
        return None if self._users else self._used_at

    @property
    def id(self) -> str:
        """Of its row, by which it can be opened again; empty where sessions are not recorded."""
        return self._ledger.session_id if self._ledger else ""

    @property
    def held(self) -> Claim:
        """What admission counts for it, and has back at its end."""
        return self._held

    @property
    def alive(self) -> bool:
        """Whether it can run code."""
        self._notice_death()
        return self._end is None

    def __repr__(self) -> str:
        state = self._end.reason if self._end else "alive"
        return f"<Session of {self.tenant!r}, {self.execution_count} executions, {state}>"

    async def run(
        self,
        code: str,
        *,
        timeout_s: float | None = None,
        name: str | None = None,
        final: bool = False,
        origin: Origin | None = None,
    ) -> ExecutionResult:
        """Run `code` in the session and return all that came out of it; its variables stay.

        Args:
            code: Python, as IPython takes it: magics, `!command`, top-level `await`; up to 4 MiB.
            timeout_s: wall-clock seconds, by default the session's `limits.timeout_s`.
            name: what tracebacks call the code; `<cell 1>`, `<cell 2>`, ... by default.
            final: end as a program does: threads waited for, `atexit` functions called.
            origin: what asked for it, where a record is kept.

        Raises:
            UserInputError: unusable code.
            LimitError: code too long, or `timeout_s` above the session's limit.
            SessionEndedError: the session has ended; says when and why.  The code has not run.
            CapacityError: no room within the time that a request waits.  The code has not run.
            StorageError: the files that came out could not be kept.
        """
        result: ExecutionResult | None = None
        async with aclosing(self._perform(code, timeout_s, name, final=final, origin=origin)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    result = event.result
        if result is None:
            raise AssertionError("an execution ends with Completed")
        return result

    async def stream(
        self,
        code: str,
        *,
        timeout_s: float | None = None,
        name: str | None = None,
        final: bool = False,
        origin: Origin | None = None,
    ) -> AsyncGenerator[Event]:
        """As `run`, with everything as it happens; the last event is `Completed`, and then the session is free again.

        A caller that is cancelled, or closes the stream (`contextlib.aclosing`), interrupts the code at once; the
        session lives on if the code heeds that within `limits.grace_s`.  One that takes its time holds up nothing but
        the code's own output, of which a mebibyte waits for it: then the code waits too, until its timeout.
        """
        events = self._perform(code, timeout_s, name, final=final, origin=origin)
        relay = Relay(events, hold=self._sandbox.hold_output)
        is_complete = False
        async with aclosing(relay.read(self._background)) as relayed:
            async for event in relayed:
                is_complete = isinstance(event, Completed)
                yield event
        if not is_complete:
            raise self._ended_error()  # the interpreter was left meanwhile

    async def _perform(
        self, code: str, timeout_s: float | None, name: str | None, *, final: bool, origin: Origin | None
    ) -> AsyncGenerator[Event]:
        """The events of one execution, in its turn.  Whoever takes them does so promptly: nothing else keeps time."""
        check_code(code)
        timeout_s = self._timeout(timeout_s)
        started = time.perf_counter()
        with self._use():
            await self._turn.acquire()
            try:
                self._check_open()
                await self._admit_execution()
            except BaseException:
                self._turn.release()
                raise
            try:
                run = self._events(code, timeout_s, name, final=final, origin=origin or Origin(), started=started)
                async with aclosing(run) as events:
                    async for event in events:
                        yield event
            finally:
                self._is_concluding = False
                self._finish()

    async def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code that runs; whether any did.  Variables and files stay."""
        self._check_open()
        if self._is_running:
            self._sandbox.interrupt()
        return self._is_running

    async def put(self, name: str | PurePosixPath, source: InputSource) -> None:
        """Copy a file into `/mnt/data` as `name`, in the place of one that has it; also while code runs.

        Raises:
            UserInputError: the name or the source is unusable.
            LimitError: it is larger than the session's disk, or does not fit any more.
            StorageError: the host's own disk is full.
            SessionEndedError: the session has ended.
        """
        with self._use():
            checked = await anyio.to_thread.run_sync(check_inputs, {_text(name): source}, self.limits)
            self._check_open()
            await self._sandbox.put(checked)
            if self._ledger is not None:
                await self._keep_input(self._ledger, checked[0])

    async def _keep_input(self, ledger: Ledger, file: InputFile) -> None:
        """So that it can be brought back; one above `artifact_bytes` cannot."""
        if file.size_bytes > self.limits.artifact_bytes:
            await ledger.miss(file.name, file.size_bytes)
        else:
            await ledger.put(await self._sandbox.open(file.name))

    async def files(self) -> tuple[SessionFile, ...]:
        """The regular files in `/mnt/data` now, by name."""
        with self._use():
            return await self._sandbox.files()

    async def open(self, name: str | PurePosixPath) -> Artifact:
        """A copy of one of `files` as it is now, called as there, or by its whole path in the sandbox.

        Raises:
            NotFoundError: there is none of that name.
            LimitError: it is larger than `artifact_bytes`, or unreadable.
            SessionEndedError: the session has ended.
        """
        with self._use():
            return await self._sandbox.open(_text(name).removeprefix(_FOLDER))

    async def remove(self, name: str | PurePosixPath) -> None:
        """Remove one of `files`, called as there; what is not there is no error.

        Raises:
            LimitError: the code has locked its folder.
            SessionEndedError: the session has ended.
        """
        with self._use():
            name = _text(name).removeprefix(_FOLDER)
            await self._sandbox.remove(name)
            if self._ledger is not None:
                await self._ledger.forget(name)

    async def restart(self) -> None:
        """A fresh interpreter on the same files: variables, threads and programs are gone; what runs is cancelled.

        It waits for no cap: it takes a processor for some tens of milliseconds and no more memory than an idle session is
        counted with; what the old one was counted with beyond that is given back.

        Raises:
            SessionEndedError: the session has ended.
        """
        with self._use():
            self._sandbox.begin_restart()
            async with self._turn:
                self._check_open()
                await self._sandbox.finish_restart()
                self._hold_what_it_uses()

    async def close(self) -> None:
        """End it; may be called again.  Its processes and files are gone when this returns, and its end is on record."""
        self.end("closed")
        await self._sandbox.close()
        await self._end_recorded.wait()

    async def touch(self) -> None:
        """Count as used now: the time after which it ends for want of use begins anew.

        Raises:
            SessionEndedError: the session has ended.
        """
        with self._use():
            if self._ledger is not None:
                await self._ledger.touch()

    async def recorded(self) -> None:
        """Wait until its end is on record; it has ended."""
        await self._end_recorded.wait()

    def evict(self) -> None:
        """End it for another session of its tenant."""
        self.end("evicted")

    def end(self, reason: str, *, why: str = "", at_once: bool = True) -> None:
        """End it, for a reason of `SessionEndedError`, `why` in words if they are more than the usual; the first one counts.

        Its processes are killed now, or, if not `at_once`, behind the answer that is on its way.
        """
        if self._end is not None:
            return
        self._end = _End(reason, datetime.now(UTC), why)
        if self._ledger is None:
            self._end_recorded.set()
        else:
            self._background.start(partial(self._record_end, self._ledger, reason))
        if at_once:
            self._sandbox.end()
        self._background.start(self._sandbox.close)
        self._admission.leave(self)
        held, self._held = self._held, Claim()
        self._admission.release(self.tenant, held)
        self._touch()

    async def _record_end(self, ledger: Ledger, reason: str) -> None:
        try:
            await ledger.end(reason)
        finally:
            self._end_recorded.set()

    @contextmanager
    def _use(self) -> Generator[None]:
        """While it is entered the session is in use, and not idle."""
        self._check_open()
        self._users += 1
        try:
            yield
        except SandboxLostError as error:
            self._notice_death()
            self.end("lost")
            raise self._ended_error() from error
        finally:
            self._leave()

    def _leave(self) -> None:
        self._users -= 1
        self._touch()
        if not self._users:
            self._admission.look_again()

    async def _events(
        self, code: str, timeout_s: float, name: str | None, *, final: bool, origin: Origin, started: float
    ) -> AsyncGenerator[Event]:
        self.execution_count += 1
        name = name or f"<cell {self.execution_count}>"
        begun = time.perf_counter()
        execution = await self._ledger.begin(code, origin) if self._ledger else None
        with self._recording(execution):
            ended: Ended | None = None
            self._is_running = True
            try:
                run = self._sandbox.execute(code, name=name, timeout_s=timeout_s, final=final)
                async with aclosing(run) as events:
                    async for event in events:
                        match event:
                            case Stdout() | Stderr() | Displayed():
                                yield event
                            case Ended():
                                ended = event
            finally:
                self._is_running, self._is_concluding = False, ended is not None
            result = await self._result(ended, begun - started, begun, final=final)
            # What a caller could look for again: nothing in a sandbox that serves one execution.
            present = None if final else await self._names()
        if self._ledger is not None and execution is not None:
            result = await self._kept(self._ledger, execution, result, present)
        for artifact in result.artifacts:
            if artifact.source == "file":
                yield FileChanged(artifact)
        yield Completed(result)

    @contextmanager
    def _recording(self, execution: ExecutionRecord | None) -> Generator[None]:
        """An execution that is left before its end has one on record all the same."""
        try:
            yield
        except BaseException:
            if self._ledger is not None and execution is not None:
                status = Status.CANCELLED if self._end is None else Status.SESSION_LOST
                self._background.start(partial(self._ledger.give_up, execution, status))
            raise

    async def _result(self, ended: Ended | None, queued_s: float, begun: float, *, final: bool) -> ExecutionResult:
        """Of an execution that has ended and was begun at `begun`: all that came out of it, captured."""
        if ended is None:
            raise AssertionError("Sandbox.execute ends with Ended")
        if self._end is not None:
            raise self._ended_error()  # by somebody else, meanwhile: there is nothing left to capture
        run_at = time.perf_counter()
        outcome = await self._sandbox.outcome(ended)
        captured_at = time.perf_counter()
        if self._life_is_over and ended.status is Status.TIMEOUT:
            ended = _at_the_end_of_life(ended, self.limits.life_s)
            self.end("life")
        elif final or not ended.alive:
            why = ended.error.message if ended.error and not ended.alive else ""
            self.end("closed" if ended.alive else _reason(ended.status), why=why, at_once=False)
        opening, self._opening = self._opening, Timings()
        notice, self._notice = self._notice, ""
        return ExecutionResult(
            status=ended.status,
            stdout=ended.stdout.text,
            stderr=ended.stderr.text,
            stdout_omitted_bytes=ended.stdout.omitted_bytes,
            stderr_omitted_bytes=ended.stderr.omitted_bytes,
            error=ended.error,
            results=outcome.results,
            results_omitted=ended.results_omitted,
            artifacts=outcome.artifacts,
            refused=outcome.refused,
            session_alive=self._end is None,
            isolation=self._sandbox.isolation,
            timings=Timings(
                queue_s=opening.queue_s + queued_s,
                sandbox_s=opening.sandbox_s,
                input_s=opening.input_s,
                run_s=run_at - begun,
                capture_s=captured_at - run_at,
                total_s=opening.queue_s + opening.sandbox_s + opening.input_s + queued_s + captured_at - begun,
            ),
            notice=notice,
        )

    async def _names(self) -> tuple[str, ...]:
        """Of what lies in its folder, for the ledger; nothing where there is none."""
        if self._ledger is None:
            return ()
        return tuple(file.name for file in await self._sandbox.files())

    async def _kept(
        self, ledger: Ledger, execution: ExecutionRecord, result: ExecutionResult, present: Iterable[str] | None
    ) -> ExecutionResult:
        """The result, kept; also when its caller does not wait for that: what came out is on its way by then."""
        concluded: list[ExecutionResult] = []
        is_over = anyio.Event()

        async def conclude() -> None:
            try:
                with anyio.CancelScope(shield=True):
                    concluded.append(await ledger.conclude(execution, result, present))
            finally:
                is_over.set()

        self._background.start(conclude)
        await is_over.wait()
        if not concluded:
            raise AssertionError("a conclusion raises nothing")
        return concluded[0]

    async def _admit_execution(self) -> None:
        """Hold an execution and all the memory that it may use; one-shot sessions hold both from the start."""
        if self._held.executions:
            return
        whole = self.limits.memory_bytes + self.limits.disk_bytes
        wanted = Claim(executions=1, memory_bytes=max(0, whole - self._held.memory_bytes))
        await self._admission.admit(self.tenant, wanted)
        if self._end is not None:
            self._admission.release(self.tenant, wanted)
            raise self._ended_error()
        self._held += wanted

    def _finish(self) -> None:
        """After an execution: let the next one have its turn, once code that its caller walked away from has ended."""
        if self._end is None and self._sandbox.is_unsettled:
            self._users += 1
            self._background.start(self._settle)
        else:
            self._step_down()

    async def _settle(self) -> None:
        try:
            await self._sandbox.settle()
        finally:
            self._step_down()
            self._leave()

    def _step_down(self) -> None:
        self._hold_what_it_uses()
        self._turn.release()

    def _hold_what_it_uses(self) -> None:
        """Give back the execution, and the memory that the session does not hold while it is idle."""
        self._notice_death()
        if self._end is None:
            idle = Claim(sessions=1, memory_bytes=max(IDLE_BYTES, self._sandbox.used_bytes()))
            surplus, self._held = self._held + -idle, idle
            self._admission.release(self.tenant, surplus)
            self._watch_growth()

    def _watch_growth(self) -> None:
        # In a task: a callback of the loop's is nobody's, and what an end does asks whose loop it is in.
        self._sandbox.rest(
            self._held.memory_bytes + IDLE_BYTES // 2, lambda used: self._background.start(partial(self._grow, used))
        )

    async def _grow(self, used_bytes: int) -> None:
        """What was left behind has grown while the session is idle: hold that too, or end it where there is no room."""
        if self._end is not None or self._is_running:
            return
        wanted = Claim(memory_bytes=max(0, used_bytes - self._held.memory_bytes))
        if self._admission.admit_at_once(self.tenant, wanted):
            self._held += wanted
            self._watch_growth()
        else:
            self.end("grown")

    def _notice_death(self) -> None:
        """A sandbox that died between two executions: the watchdog's doing, or somebody's on the host."""
        is_told = self._is_running or self._is_concluding
        if self._end is None and not is_told and self._sandbox.has_died:
            self.end(_reason(self._sandbox.kill_reason or Status.SESSION_LOST))

    def _check_open(self) -> None:
        self._notice_death()
        if not self._is_running and self._life_is_over:
            self.end("life")
        if self._end is not None:
            raise self._ended_error()

    @property
    def _life_is_over(self) -> bool:
        return anyio.current_time() >= self._opened_at + self.limits.life_s

    def _ended_error(self) -> SessionEndedError:
        end = self._end or _End("lost", datetime.now(UTC))
        why = end.why or _WORDS[end.reason].format(idle_s=self.limits.idle_s, life_s=self.limits.life_s)
        kind = SessionLostError if end.reason == "lost" else SessionEndedError
        message = f"the session ended at {end.at:%Y-%m-%d %H:%M:%S} UTC: {why}"
        return kind(message, reason=end.reason, ended_at=end.at)

    def _timeout(self, asked: float | None) -> float:
        """What was asked for, within the limit and the life that is left."""
        if asked is None:
            asked = self.limits.timeout_s
        elif not 0 < asked <= self.limits.timeout_s:
            raise LimitError(
                f"a timeout of {asked:g} s is not between 0 and the session's limit of {self.limits.timeout_s:g} s",
                stage="limits",
                remedy="Open the session with a larger limit timeout_s.",
            )
        left = self._opened_at + self.limits.life_s - anyio.current_time()
        return max(0.0, min(asked, left))

    def _touch(self) -> None:
        self._used_at = anyio.current_time()
        self._touched.set()
        self._touched = anyio.Event()

    async def _expire(self) -> None:
        """End the session when its time has come, but not under running code: that ends by its own timeout."""
        while self._end is None:
            life_ends = self._opened_at + self.limits.life_s
            ends = min(self._used_at + self.limits.idle_s, life_ends)
            if not self._users and anyio.current_time() >= ends:
                self.end("life" if ends == life_ends else "idle")
                return
            with anyio.CancelScope(deadline=float("inf") if self._users else ends):
                await self._touched.wait()


def _at_the_end_of_life(ended: Ended, life_s: float) -> Ended:
    """What ran into the end of its session's life, in words."""
    message = f"the session's life of {life_s:g} s ended while the code ran"
    return replace(ended, error=ended.error and replace(ended.error, message=message), alive=False)


def _text(name: object) -> str:
    if isinstance(name, str | PurePosixPath):
        return str(name)
    raise UserInputError(f"the name of a file must be text, not {type(name).__name__}", stage="input")


def _reason(status: Status) -> str:
    """Why a session has ended whose last execution ended so."""
    if status in (Status.COMPLETED, Status.ERROR, Status.DISK_FULL):
        return "exited"
    return "lost" if status is Status.SESSION_LOST else status.value


def check_code(code: str) -> None:
    """Refuse what is no source text.

    Raises:
        UserInputError: no text, or nothing in it.
        LimitError: longer than 4 MiB.
    """
    if not isinstance(code, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise UserInputError(
            f"the code must be text, not {type(code).__name__}", stage="input", remedy="Pass a str of Python source."
        )
    if not code.strip():
        raise UserInputError("there is no code to run", stage="input", remedy="Pass Python source.")
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > MAX_CODE_BYTES:
        raise LimitError(
            f"the code is {format_size(size)} long, above the limit of {format_size(MAX_CODE_BYTES)}",
            stage="input",
            remedy="Pass data as a file, and read it in the code.",
        )
