"""What is said to a server so that it runs code, and what its logs say of how that went."""

from __future__ import annotations

import re
from typing import Final

from bichat.cell_source import is_code
from bichat.domain import CodeError
from bichat.errors import UserInputError

_FENCE: Final = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*(?:python|py)\b", re.MULTILINE | re.IGNORECASE)
_TICKS: Final = re.compile(r"`{3,}")
#: A word or two can be read as Python, and are none; code does something.
_DOES_SOMETHING: Final = re.compile(r"[=(]|^\s*(?:import|from|%|!)", re.MULTILINE)
_MOST_PARSED: Final = 30_000
_HEADER: Final = "Traceback (most recent call last)"
_LAST_LINE: Final = re.compile(r"^([A-Za-z_][\w.]*)(?:: ?(.*))?$", re.DOTALL)
#: Code that cannot be compiled has no frames, and no header.
_NOT_COMPILED: Final = re.compile(
    r"^[ \t]+(?:File|Cell|Input)\b[^\n]*\bline \d+[^\n]*\n(?:[ \t][^\n]*\n|\n)*((?:Syntax|Indentation|Tab)Error): ([^\n]*)\Z",
    re.MULTILINE,
)
_MOST_OF_A_LINE: Final = 20_000
_RUN_IT: Final = "Run exactly this code with the code interpreter, unchanged, in one call, and say what came out:"
_FIRST: Final = "First, in a call of its own:"


def as_said(text: str) -> tuple[str, bool]:
    """What is said to a server for `text`, and whether it is code: all of it, which becomes a block, or its blocks."""
    if _FENCE.search(text):
        return text, True
    if len(text) <= _MOST_PARSED and _DOES_SOMETHING.search(text) and is_code(text):
        return fenced(text), True
    return text, False


def check_text(text: str) -> None:
    """Nothing, when `text` can be sent.

    Raises:
        UserInputError: it has halves of characters, which no JSON in UTF-8 holds.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserInputError(
            f"the text has half a character at position {error.start:,}, and cannot be sent",
            stage="input",
            remedy="Write it as an escape in the code: '\\ud83d'.",
        ) from error


def fenced(code: str) -> str:
    """`code` as a block of Markdown that nothing in it can end."""
    fence = "`" * max(3, 3, *(len(found) + 1 for found in _TICKS.findall(code)))
    return f"{fence}python\n{code}{'' if code.endswith(chr(10)) else chr(10)}{fence}"


def asking_for(code: str, *, description: str = "", before: str = "") -> str:
    """A message that has a model run `code` unchanged; for `local-python`, its blocks are what runs."""
    # On one line and behind a word: a description with fences in it would be code.
    said = [f"Purpose: {' '.join(description.split())}"] if description.strip() else []
    if before:
        said += [_FIRST, fenced(before)]
    return "\n\n".join([*said, _RUN_IT, fenced(code)])


def with_links(text: str, before: str) -> str:
    """What a user asks for, behind code that puts the files in their places."""
    return f"{_FIRST}\n\n{fenced(before)}\n\nThen:\n\n{text}" if before else text


def error_in(logs: str) -> CodeError | None:
    """What the code died of, where its log ends in a traceback; None where it does not."""
    end = logs[-_MOST_OF_A_LINE:].rstrip()
    if match := _NOT_COMPILED.search(end):
        return CodeError(name=match[1], message=match[2], traceback=match[0])
    begin = logs.rfind(_HEADER)
    if begin < 0:
        return None
    begin = logs.rfind("\n", 0, begin) + 1
    traceback = logs[begin:].rstrip()
    lines = traceback.split("\n")
    # Behind the frames, which are indented or begin with words of IPython's, stands what was raised.
    for number in range(1, len(lines)):
        match = _LAST_LINE.match(lines[number])
        name = match[1] if match else ""
        if (
            match
            and not name.startswith(("File", "Cell", "Input"))
            and (match[2] is not None or number == len(lines) - 1)
        ):
            message = "\n".join([match[2] or "", *lines[number + 1 :]]).strip("\n")
            return CodeError(name=name.rpartition(".")[2], message=message, traceback=traceback)
    return None
