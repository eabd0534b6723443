"""The line editor of `bichat shell`: reads one cell after the other, each as many lines long as it needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application.current import get_app
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output.defaults import create_output
from pygments.lexers.python import PythonLexer

from bichat.cli.cells import indentation, is_whole

_TAB: Final = "    "


class Editor:
    """Reads cells from the terminal; what was entered is kept in a file that its owner alone can read."""

    def __init__(self, history: Path) -> None:
        """`history` is made when it is missing; where it cannot be used, nothing is kept."""
        self._prompts: PromptSession[str] = PromptSession(
            history=_history(history),
            lexer=PygmentsLexer(PythonLexer),
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation=_continuation,
            enable_suspend=True,
            output=create_output(always_prefer_tty=True),
        )

    async def read(self, number: int) -> str:
        """The next cell, without the empty lines that end it; may be empty.

        Raises:
            KeyboardInterrupt: Ctrl-C; what stood on the line is dropped.
            EOFError: Ctrl-D on an empty line.
        """
        text = await self._prompts.prompt_async([("ansigreen", f"In [{number}]: ")], handle_sigint=False)
        return text.rstrip()

    def abort(self, error: BaseException) -> None:
        """Have a `read` that is under way raise `error`."""
        if self._prompts.app.is_running:
            self._prompts.app.exit(exception=error)


def _history(path: Path) -> History:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return InMemoryHistory()
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)
    return FileHistory(path)


def _continuation(width: int, _line: int, _wrapped: int) -> StyleAndTextTuples:
    return [("ansigreen", "...: ".rjust(width))]


def _keys() -> KeyBindings:
    """Enter runs a cell that is whole; Tab indents."""
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if _at_end(buffer.document) and is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n" + indentation(buffer.document.text_before_cursor))

    def _tab(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(_TAB)

    keys.add("enter", filter=typing)(_enter)
    keys.add("tab", filter=typing & Condition(_in_margin))(_tab)
    return keys


def _at_end(document: Document) -> bool:
    """Whether nothing but space follows the cursor: in the middle of a cell Enter adds a line."""
    return not document.text_after_cursor.strip()


def _in_margin() -> bool:
    return not get_app().current_buffer.document.current_line_before_cursor.strip()
