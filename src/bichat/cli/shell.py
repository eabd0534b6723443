"""`bichat shell`: one session at the terminal, cell after cell."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from bichat.cli import arguments, run, terminal
from bichat.cli.showing import Screen
from bichat.domain import ExecutionResult
from bichat.errors import BichatError, SessionEndedError
from bichat.names import printable
from bichat.sizes import format_size

if TYPE_CHECKING:
    from bichat.cli.editor import Editor
    from bichat.interpreter import CodeInterpreter, SessionOptions
    from bichat.sandbox.launch import Launched
    from bichat.session import Session

#: Name of the file in the data directory that keeps what was entered.
HISTORY: Final = "shell_history"
_LEAVE: Final = frozenset({"exit", "quit", "exit()", "quit()"})
_PUT: Final = "%put"
_RESTART: Final = "%restart"
#: What is wrong with the options shows in this time; then the prompt comes, while the session is still opening.
_SETTLE_S: Final = 0.05
_RETRY_S: Final = 0.01
#: That many times Ctrl-C ends code that catches it.
_PATIENCE: Final = 3
#: Files of one cell that are listed by name.
_LISTED: Final = 20


def command(  # one parameter per option
    context: typer.Context,
    file: list[Path] = typer.Option([], "--file", "-f", metavar="PATH", help="File to put into /mnt/data; repeatable."),
    output_dir: Path = typer.Option(
        arguments.DEFAULT_OUTPUT, "--output-dir", "-o", metavar="DIR", help="Where files and images are saved."
    ),
    timeout: float | None = typer.Option(
        None, "--timeout", metavar="S", help="Wall-clock seconds of each cell; 300 by default."
    ),
    memory: str | None = typer.Option(None, "--memory", metavar="SIZE", help="Such as 512m or 2g; 1g by default."),
    environment: str | None = typer.Option(
        None, "--environment", "-e", metavar="NAME", help="Package set to run with; see `bichat env list`."
    ),
) -> None:
    """Run Python interactively in a sandbox: variables stay, files and images that come out are saved.

    Enter runs what is complete, Ctrl-C interrupts it, Ctrl-D or exit leaves.  %put PATH... copies more files in,
    %restart begins anew on the same files.  Without a terminal, standard input is one program, as for `bichat run -`.
    """
    with terminal.errors_in_words():
        options: SessionOptions = {
            "files": arguments.inputs(file),
            "timeout_s": timeout,
            "memory": memory,
            "environment": environment,
        }
        if not sys.stdin or not sys.stdin.isatty():
            raise typer.Exit(run.run((arguments.standard_input(),), options, context.obj, output_dir))
        arguments.check_output(output_dir)
        asyncio.run(_interact(options, context.obj, output_dir))


async def _interact(options: SessionOptions, launched: Launched | None, output_dir: Path) -> None:
    from bichat.cli.editor import Editor
    from bichat.interpreter import CodeInterpreter
    from bichat.sandbox.environments import EnvironmentStore
    from bichat.settings.location import make_data_dir
    from bichat.settings.settings import load_settings

    settings = load_settings()
    # Whoever sits at the terminal decides when the session ends, within the operator's bounds.
    options["limits"] = replace(settings.limits, idle_s=settings.bounds.idle_s, life_s=settings.bounds.life_s)
    name = options.get("environment") or settings.environment
    editor = Editor(make_data_dir(settings.data_dir) / HISTORY)
    progress = terminal.Progress()
    async with CodeInterpreter(settings=settings, preload=False, progress=progress, launched=launched) as interpreter:
        opening = asyncio.create_task(interpreter.open_session(**options))
        # An environment that has to be built takes minutes; options that make no sense are known at once.
        is_built = launched is not None and launched.environment.name == name
        await asyncio.wait({opening}, timeout=_SETTLE_S if is_built else None)
        progress.done()
        if opening.done():
            opening.result()
        environment = EnvironmentStore(settings.data_dir).get(name)
        terminal.say(
            f"Python {environment.python_version} in a sandbox, environment {environment.name}; "
            f"files that come out are saved in {output_dir}; Ctrl-D leaves"
        )
        await _Shell(interpreter, options, editor, output_dir).serve(opening)


class _Shell:
    """Reads cells and runs them: in one session as long as that lives, then in another."""

    def __init__(self, interpreter: CodeInterpreter, options: SessionOptions, editor: Editor, output_dir: Path) -> None:
        self._interpreter = interpreter
        self._options = options
        self._editor = editor
        self._output_dir = output_dir
        self._screen = Screen()
        self._session: Session | None = None
        self._sessions = 1
        #: Names of files that this session's person was told are not saved.
        self._refused: set[str] = set()
        self._interrupts: asyncio.Queue[None] = asyncio.Queue()
        self._is_restarting = False

    async def serve(self, opening: asyncio.Task[Session]) -> None:
        """Until the person leaves.  The first cell is read while its session is still `opening`.

        Raises:
            BichatError: it could not be opened.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: self._interrupts.put_nowait(None))
        opening.add_done_callback(self._give_up)
        try:
            code = await self._read()
            self._session = await opening if code is not None else None
            while code is not None:
                try:
                    await self._take(code)
                except BichatError as error:
                    self._screen.end_line(sys.stderr)
                    terminal.explain(error)
                code = await self._read()
        finally:
            opening.cancel()
            loop.remove_signal_handler(signal.SIGINT)

    def _give_up(self, opening: asyncio.Task[Session]) -> None:
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            self._editor.abort(error)

    async def _read(self) -> str | None:
        """The next cell that is not empty; None when the person wants to leave."""
        while True:
            self._screen.end_line(sys.stderr)
            number = self._session.execution_count + 1 if self._session else 1
            try:
                code = await self._editor.read(number)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None
            if code.strip() in _LEAVE:
                return None
            if code.strip():
                self._interrupts = asyncio.Queue()  # what came before is not meant for this cell
                return code

    async def _take(self, code: str) -> None:
        """Run a cell; in a new session when the last one has ended, be it just before the cell came."""
        if self._session is not None:
            try:
                await self._do(self._session, code)
            except SessionEndedError as error:
                self._screen.tell(error.message)
                self._session = None
            else:
                return
        await self._do(await self._begin_anew(), code)

    async def _begin_anew(self) -> Session:
        session = self._session = await self._interpreter.open_session(**self._options)
        self._sessions += 1
        self._refused.clear()
        self._screen.tell("this is a new session: the variables of the last one are gone, and its files in /mnt/data")
        return session

    async def _do(self, session: Session, code: str) -> None:
        word, *rest = code.split(maxsplit=1)
        if word == _PUT:
            await self._put(session, "".join(rest))
        elif word == _RESTART:
            await self._restart(session)
        else:
            await self._run(session, code)

    async def _put(self, session: Session, paths: str) -> None:
        for name, path in arguments.inputs(arguments.paths(paths)).items():
            await session.put(name, path)
            self._screen.tell(f"{name} is in /mnt/data")

    async def _run(self, session: Session, code: str) -> None:
        interrupting = asyncio.create_task(self._interrupt(session))
        try:
            result = await self._screen.follow(session.stream(code))
        finally:
            if not self._is_restarting:
                interrupting.cancel()
            await asyncio.wait({interrupting})
        self._screen.failure(result)
        if not result.session_alive:
            self._session = None
            self._screen.tell("the session has ended with this cell; the next one begins a new session")
        self._save(result)

    async def _interrupt(self, session: Session) -> None:
        """Pass on each Ctrl-C while a cell runs; the last resort is a fresh interpreter."""
        with suppress(BichatError):
            for _ in range(_PATIENCE - 1):
                await self._interrupts.get()
                self._screen.leave_line(sys.stderr)  # the terminal shows ^C on it
                while not await session.interrupt():  # noqa: ASYNC110  # nothing tells when a cell begins
                    await asyncio.sleep(_RETRY_S)
            self._screen.tell("the code goes on in spite of Ctrl-C; once more ends it, and the variables with it")
            await self._interrupts.get()
            self._screen.leave_line(sys.stderr)
            await self._restart(session)

    async def _restart(self, session: Session) -> None:
        self._is_restarting = True
        try:
            await session.restart()
        finally:
            self._is_restarting = False
        self._screen.tell("variables are gone; the files in /mnt/data are still there")

    def _save(self, result: ExecutionResult) -> None:
        folder = self._output_dir if self._sessions == 1 else self._output_dir / f"session-{self._sessions}"
        saved = result.save_artifacts(folder) if result.artifacts else ()
        for artifact, path in list(zip(result.artifacts, saved, strict=True))[:_LISTED]:
            self._list(f"{printable(artifact.name)}  {format_size(artifact.size_bytes)} -> {printable(str(path))}")
        if len(saved) > _LISTED:
            self._list(f"and {len(saved) - _LISTED:,} more in {printable(str(folder))}")
        for refused in result.refused:
            if refused.name not in self._refused:
                self._refused.add(refused.name)
                self._list(f"{printable(refused.name)}  not saved: {printable(refused.reason)}")

    def _list(self, line: str) -> None:
        self._screen.end_line(sys.stderr)
        terminal.show(f"{line}\n", sys.stderr)
