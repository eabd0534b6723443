"""How the text of a cell can be read: as Python, or with IPython's own lines in it.  Nothing here runs anything."""

from __future__ import annotations

import ast
import re
import textwrap
from typing import Final

#: A line that IPython understands and Python does not: `%time f()`, `!ls`, `names = !ls`.
#: What one part of it has taken no other is offered again: else a line of spaces takes the square of its length.
_MAGIC: Final = re.compile(r"^([ \t]*+)(?:[\w,.][\w, \t.]*+=[ \t]*+)?+[%!]\S.*$", re.MULTILINE)
_CELL_MAGIC: Final = re.compile(r"\s*%%[A-Za-z]\w*")
#: How Python says that something is no code; the last two, that it is nested too deep to tell.
NO_CODE: Final = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)


def readings(text: str) -> tuple[str, str]:
    """`text` as Python, and as IPython reads it: with its own lines taken for statements."""
    source = textwrap.dedent(text)
    return source, _MAGIC.sub(r"\1pass", source)


def is_code(text: str) -> bool:
    """Whether `text` has a statement and is Python or IPython from its first character to its last.

    Takes time with the text's length, in the worst case with its square (some 0.3 s for 30,000 characters), and holds
    the interpreter's lock: bound what is given to it.
    """
    if _CELL_MAGIC.match(text):
        return True
    for source in readings(text):
        try:
            return bool(ast.parse(source).body)
        except NO_CODE:
            continue
    return False
