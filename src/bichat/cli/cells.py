"""When what is being typed is a whole cell, and how far its next line is indented."""

from __future__ import annotations

import ast
import codeop
import re
import textwrap
from typing import Final

_INDENT: Final = 4
#: A line that IPython understands and Python does not: `%time f()`, `!ls`, `names = !ls`.
_MAGIC: Final = re.compile(r"^([ \t]*)(?:[\w, \t.]+=[ \t]*)?[%!]\S.*$", re.MULTILINE)
_OPENS_BLOCK: Final = re.compile(r":\s*(#.*)?$")
#: How Python says that something is no code; the last two, that it is nested too deep to tell.
_NO_CODE: Final = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
_LEAVES_BLOCK: Final = re.compile(r"\s*(return|raise|pass|break|continue)\b")


def is_whole(text: str) -> bool:
    """Whether Enter runs `text` rather than adding a line to it.

    A statement runs when it is complete; a block, and a cell that starts with `%%`, when an empty line follows it.
    What no further line can make Python of is whole too: the interpreter says what is wrong with it.
    """
    head, newline, last_line = text.rpartition("\n")
    if newline and head.strip() and not last_line.strip():
        return text.lstrip().startswith("%%") or _can_run(text)
    return not text.lstrip().startswith("%%") and _can_run(text) and not _ends_in_block(text)


def indentation(text: str) -> str:
    """What the line after `text` starts with."""
    line = text.rpartition("\n")[2]
    depth = len(line) - len(line.lstrip())
    if _OPENS_BLOCK.search(line):
        depth += _INDENT
    elif _LEAVES_BLOCK.match(line):
        depth = max(0, depth - _INDENT)
    return " " * depth


def _can_run(text: str) -> bool:
    """Whether `text` is complete, or wrong however it goes on."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for source in _readings(text):
        try:
            return compiler(source, "<cell>", "exec") is not None
        except _NO_CODE:
            pass
    return True


def _ends_in_block(text: str) -> bool:
    """Whether the last statement has a block of lines of its own, which one more line could belong to."""
    for source in _readings(text):
        try:
            last = ast.parse(source).body[-1:]
        except _NO_CODE:
            continue
        return any(hasattr(node, "body") or isinstance(node, ast.Match) for node in last) and any(
            node.end_lineno != node.lineno for node in last
        )
    return False


def _readings(text: str) -> tuple[str, str]:
    """`text` as Python, and as IPython reads it: with its own lines taken for statements."""
    source = textwrap.dedent(text)
    return source, _MAGIC.sub(r"\1pass", source)
