"""When what is being typed is a whole cell, and how far its next line is indented."""

from __future__ import annotations

import ast
import codeop
import re
from typing import Final

from bichat.cell_source import NO_CODE, readings

_INDENT: Final = 4
_OPENS_BLOCK: Final = re.compile(r":\s*(#.*)?$")
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
    for source in readings(text):
        try:
            return compiler(source, "<cell>", "exec") is not None
        except NO_CODE:
            pass
    return True


def _ends_in_block(text: str) -> bool:
    """Whether the last statement has a block of lines of its own, which one more line could belong to."""
    for source in readings(text):
        try:
            last = ast.parse(source).body[-1:]
        except NO_CODE:
            continue
        return any(hasattr(node, "body") or isinstance(node, ast.Match) for node in last) and any(
            node.end_lineno != node.lineno for node in last
        )
    return False
