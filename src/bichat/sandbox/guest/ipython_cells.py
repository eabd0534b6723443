"""Cells run by IPython: magics, `await`, the last expression shown; a small subclass where a sandbox needs another way."""

from __future__ import annotations

import atexit
import importlib
import linecache
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import CodeType
from typing import Any, Final, NoReturn

from IPython.core import page
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.autocall import ExitAutocall
from IPython.core.compilerop import CachingCompiler
from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import leading_empty_lines
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from bichat.sandbox.guest import libraries, packages, reports
from bichat.sandbox.guest.channel import Channel
from bichat.sandbox.guest.displays import Formatter, Hook, Outlet, Publisher
from bichat.sandbox.guest.event_loop import LoopRunner
from bichat.sandbox.guest.figures import Figures
from bichat.sandbox.guest.refusals import refuse_input, refuse_magics
from bichat.sandbox.guest.streams import Streams
from bichat.sandbox.guest.warm_up import close_fonts, warm_up

_REHEARSAL: Final = "rehearsal = [number for number in range(3)]\nprint(end='')\n"
_REHEARSAL_NAME: Final = "<rehearsal>"


class IPythonCells:
    """Implements `bichat.sandbox.guest.cells.Cells`."""

    def __init__(self) -> None:
        self._shell: CellShell = CellShell.instance(
            config=Config(HistoryManager={"enabled": False}),  # neither a database nor the thread that writes to it
            colors="nocolor",
            compiler_class=CellCompiler,
            displayhook_class=Hook,
            loop_runner=LoopRunner(),
        )

    def connect(self, channel: Channel, streams: Streams) -> None:
        """What is displayed goes out here, from now on."""
        Publisher.outlet = Outlet(channel, streams)
        self._shell.figures.begin(os.path.realpath(os.getcwd()))

    def warm_up(self) -> None:
        """Take the slow first steps of what is imported; nothing of that stays, in the zygote no open file either."""
        warm_up(self._shell)
        self._shell.rehearse()
        if Publisher.outlet is None:
            close_fonts()
        if "matplotlib.pyplot" in sys.modules:
            for name in ("matplotlib_figures", "plotly_figures", "vega_charts"):
                importlib.import_module(f"bichat.sandbox.guest.charts.{name}")

    def run(self, code: str, name: str) -> BaseException | None:
        """Run `code` as the file `name`; what it raised."""
        return _run(self._shell, code, name)


class CellShell(InteractiveShell):
    """IPython's, for a process without a terminal whose errors are data."""

    configurables: list[Any]
    history_manager: Any
    figures: Figures
    compile: CellCompiler
    _depth = 0
    _unreadable: Exception | None = None

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        # Blank lines above a cell magic are in its way; above anything else they belong to the line numbers.
        self.input_transformers_cleanup[:] = [
            _lines_above_magic if transform is leading_empty_lines else transform
            for transform in self.input_transformers_cleanup
        ]
        self.figures.watch()
        libraries.watch()
        atexit.unregister(self.atexit_operations)
        _ = self.logger  # made at its first use otherwise, which is in a cell

    def run_named(self, code: str, name: str) -> BaseException | None:
        """Run a cell as the file `name`; what it raised."""
        self.compile.next_name = name
        self.figures.begin()
        if "InlineBackend" in code:
            with suppress(ImportError):
                importlib.import_module("matplotlib_inline.backend_inline")  # `%config` knows what is there
        if "get_event_loop" in code:
            # What a script that is written so would get; IPython has its own only while a cell awaits.
            importlib.import_module("asyncio").set_event_loop(get_asyncio_loop())
        result = self.run_cell(code, store_history=True)
        return _error(result) or self.figures.interrupt

    def rehearse(self) -> None:
        """Run a cell as `run_named` does, and forget that there was one."""
        history, before = self.history_manager, dict(self.user_ns)
        self.run_named(_REHEARSAL, _REHEARSAL_NAME)
        for name in self.user_ns.keys() - before.keys():
            del self.user_ns[name]
        self.user_ns.update(before)
        self.execution_count, self.last_execution_result = 1, None
        for inputs in (history.input_hist_parsed, history.input_hist_raw):
            inputs[:] = [""]
        history.db_input_cache.clear()
        history._i = history._ii = history._iii = history._i00 = ""  # noqa: SLF001  # of which the next cell makes variables
        linecache.cache.pop(_REHEARSAL_NAME, None)

    def run_cell(self, raw_cell: str, *arguments: Any, **keywords: Any) -> Any:
        """As IPython's.  The error of a cell that a cell runs is printed; that of the outer one is its outcome."""
        outer = self.displayhook.exec_result
        self._depth += 1
        try:
            result = super().run_cell(raw_cell, *arguments, **keywords)
        finally:
            self._depth -= 1
            self.displayhook.exec_result = outer
        error = _error(result)
        if self._depth and error is not None:
            if isinstance(error, KeyboardInterrupt):
                raise error
            self._print_traceback(error)
        return result

    def transform_cell(self, raw_cell: str) -> Any:
        """The cell as Python; where that cannot be, the error is the cell's outcome."""
        try:
            return super().transform_cell(raw_cell)
        except Exception as error:
            if isinstance(error, SyntaxError):
                error.filename = self.compile.next_name or error.filename
            self._unreadable = error
            raise

    def safe_execfile(self, fname: str, *where: Any, **options: Any) -> None:
        """`%run`: an error in the file is the cell's."""
        try:
            super().safe_execfile(fname, *where, **{**options, "raise_exceptions": True})
        except SystemExit as error:
            if error.code:
                raise

    async def run_code(self, code_obj: CodeType, result: Any = None, *, async_: bool = False) -> bool:
        """Run one statement; whether it raised, and in `result` what."""
        try:
            if async_:
                await eval(code_obj, self.user_global_ns, self.user_ns)  # noqa: S307  # what we are here for
            else:
                exec(code_obj, self.user_global_ns, self.user_ns)  # noqa: S102
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # guest code may raise anything
            if result is None:
                self._print_traceback(error)
            else:
                result.error_in_exec = error
            return True
        return False

    runcode = run_code

    def showtraceback(
        self,
        exc_tuple: tuple[Any, Any, Any] | None = None,
        *_: Any,
        running_compiled_code: bool = False,
        **__: Any,
    ) -> None:
        """Print an error that is not the cell's own: a display's, a callback's, or one that code asks to see."""
        error = sys.exc_info()[1] if exc_tuple is None else exc_tuple[1]
        if error is None:
            print("No traceback available to show.", file=sys.stderr)
        result = self.displayhook.exec_result
        is_outcome = running_compiled_code or error is self._unreadable
        if result is not None:
            is_outcome = is_outcome or error in (result.error_before_exec, result.error_in_exec)
        if error is not None and not is_outcome and not isinstance(error, GeneratorExit):
            self._print_traceback(error)

    def showsyntaxerror(self, *_: Any, **__: Any) -> None:
        """The cell does not begin, and its outcome says why."""

    def _print_traceback(self, error: BaseException) -> None:
        print(reports.traceback_text(error), end="", file=sys.stderr)

    def _format_exception_for_storage(self, exception: BaseException, *_: Any, **__: Any) -> dict[str, Any]:
        """Nobody looks at it, and IPython's takes as long as many cells."""
        return {"ename": type(exception).__name__, "evalue": "", "traceback": []}

    @contextmanager
    def _tee(self, channel: str) -> Generator[None]:  # noqa: ARG002  # IPython's signature
        """All output is kept by who asked for it, not in here as well."""
        yield

    def system(self, cmd: str) -> None:
        """Run a line of shell, whose output goes where ours goes."""
        cmd = self.var_expand(cmd, depth=1)
        installing = packages.answer_command(cmd)
        if installing is not None:
            print(installing[0])
            code = 0 if installing[1] else 1
        else:
            sys.stdout.flush()
            code = subprocess.call(cmd, shell=True)  # noqa: S602  # that is what it is
        self.user_ns["_exit_code"] = code
        if getattr(self, "system_raise_on_error", False) and code:  # since IPython 9
            raise subprocess.CalledProcessError(code, cmd)

    def enable_gui(self, gui: object = None) -> None:
        """There is none, and nothing that would need its loop."""

    def enable_matplotlib(self, gui: str | None = None) -> Any:  # noqa: ARG002
        """`%matplotlib` with any argument: figures are shown as results."""
        return super().enable_matplotlib("inline")

    def ask_exit(self) -> NoReturn:
        """Ends the cell."""
        raise SystemExit

    def _exiter_default(self) -> ExitAutocall:
        return Exit(self)

    def init_builtins(self) -> None:
        """`exit` stays a built-in name too: modules that code imports call it."""
        super().init_builtins()
        for name in ("exit", "quit"):
            self.builtin_trap.auto_builtins.pop(name, None)
        refuse_input()

    def init_hooks(self) -> None:
        """What would be paged is displayed."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(page.display_page), 99)

    def init_display_formatter(self) -> None:
        """With tables and charts."""
        self.figures = Figures(self)
        self.display_formatter = Formatter(self.figures, parent=self)
        self.configurables.append(self.display_formatter)

    def init_display_pub(self) -> None:
        """To the channel."""
        self.display_pub = Publisher(self.figures, parent=self, shell=self)
        self.configurables.append(self.display_pub)

    def init_magics(self) -> None:
        """With answers for those who want to install."""
        super().init_magics()
        refuse_magics(self.magics_manager)


class CellCompiler(CachingCompiler):
    """Gives each cell the name that it was sent with."""

    def __init__(self) -> None:
        super().__init__()
        self.next_name = ""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """The name of the cell that begins; cells that it runs itself are named by IPython."""
        name, self.next_name = self.next_name, ""
        return name or super().get_code_name(raw_code, transformed_code, number)


class Exit(ExitAutocall):
    """`exit`, `exit()` and `exit(code)`: end the cell as they end a program."""

    def __call__(self, code: object = None) -> NoReturn:
        """As `sys.exit`."""
        raise SystemExit(code)


def _error(result: Any) -> BaseException | None:
    """What a cell raised."""
    if result is None:
        return None
    error = result.error_before_exec or result.error_in_exec
    if isinstance(error, UsageError):
        error.__traceback__ = None  # a magic's: its words say all
    if isinstance(error, subprocess.CalledProcessError) and isinstance(error.__context__, KeyboardInterrupt):
        # `%%bash` makes an error of its own of an interrupt.
        return KeyboardInterrupt().with_traceback(error.__traceback__)
    return error


def _lines_above_magic(lines: list[str]) -> list[str]:
    rest = leading_empty_lines(lines)
    return rest if rest and rest[0].startswith("%%") else lines


_run: Final = CellShell.run_named
