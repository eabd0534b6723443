"""Ids on OpenAI's wire: a prefix and the 32 hex digits of the row's id, both ways without a table."""

from __future__ import annotations

from typing import Final
from uuid import UUID

RESPONSE: Final = "resp"
CONVERSATION: Final = "conv"
CONTAINER: Final = "cntr"
CONTAINER_FILE: Final = "cfile"
FILE: Final = "file"
MESSAGE: Final = "msg"
CODE_CALL: Final = "ci"
REASONING: Final = "rs"
FUNCTION_CALL: Final = "fc"
FUNCTION_OUTPUT: Final = "fco"
ASSISTANT: Final = "asst"
THREAD: Final = "thread"
RUN: Final = "run"
STEP: Final = "step"
CALL: Final = "call"
VECTOR_STORE: Final = "vs"
FILE_BATCH: Final = "vsfb"

#: Of items, all of which are messages.
ITEMS: Final = (MESSAGE, CODE_CALL, REASONING, FUNCTION_CALL, FUNCTION_OUTPUT)


def on_wire(prefix: str, row_id: str) -> str:
    """`resp_0192...` of a row's id; of an empty one nothing."""
    return f"{prefix}{'-' if prefix == FILE else '_'}{UUID(row_id).hex}" if row_id else ""


def row_id(text: str, *prefixes: str) -> str:
    """The row's id in `text`; empty where that is no id of ours with one of these prefixes."""
    for prefix in prefixes:
        separators = "-_" if prefix == FILE else "_"
        rest = text[len(prefix) + 1 :]
        if text.startswith(prefix) and text[len(prefix) : len(prefix) + 1] in tuple(separators) and len(rest) == 32:
            try:
                found = UUID(hex=rest)
            except ValueError:
                return ""
            return str(found) if found.hex == rest else ""
    return ""


def pattern(*prefixes: str) -> str:
    """What all ids with these prefixes look like, as a regular expression."""
    return f"^({'|'.join(f'{each}[-_]' if each == FILE else f'{each}_' for each in prefixes)})[0-9a-f]{{32}}$"
