"""The planner without a model: the last user message is the code, and the answer is what it printed.

Each block of code is one call of the tool `python`, in a turn of its own: so that, as in a notebook, the first block that
fails is the last one that runs.  Nothing is executed here, and nothing is kept between turns: which blocks have run is
read from the history.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from bichat.cell_source import is_code
from bichat.conversation import parts
from bichat.conversation.planner import (
    PlannerError,
    TextDelta,
    ToolCallBegun,
    ToolCallDelta,
    Turn,
    TurnEnded,
    TurnEvent,
)
from bichat.conversation.request import CODE_TOOL
from bichat.repository.records import Message, Role
from bichat.settings.settings import LOCAL_PYTHON

#: Characters of a message that are parsed to see whether they are code; what stands in a ```python block is not parsed.
MOST_PARSED: Final = 32_768
#: Blocks of one message: each takes a turn of its run.
MOST_BLOCKS: Final = 30

#: No two repeats in it can take the same characters: one of those takes the square of a line's length.
_FENCE: Final = re.compile(r"([ \t]*)(`{3,}|~{3,})(.*)", re.DOTALL)
_WORD: Final = re.compile(r"\{?\.?([\w+-]*)")
_PYTHON: Final = frozenset({"python", "py", "python3", "py3", "ipython", "ipython3"})
_SAID: Final = frozenset({parts.TEXT, parts.IMAGE, parts.FILE})
_REMEDY: Final = (
    "Send Python alone, or in ```python blocks; to have a model plan, set BICHAT_MODEL (docs/how-to/models.md) "
    "and ask for it."
)


class LocalPython:
    """Implements `Planner`."""

    name = LOCAL_PYTHON
    sees_images = False

    async def turn(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        """The next block of the last user message, or, after the last one that runs, the answer.

        The answer is the blocks' output, word for word, and a link for each file that they left in `/mnt/data`.

        Raises:
            PlannerError: `no_code`: the message is none, no code may be run, or there are more than `MOST_BLOCKS` blocks.
        """
        text, calls = _last_said(turn.history)
        # Those of an answer before this one, to the same message, are none of this answer's.
        calls = [] if turn.is_first else [call for call in calls if call.run_id == calls[-1].run_id]
        blocks = code_blocks(text)
        if not calls:
            _check(turn, blocks)
        may_go_on = any(spec.name == CODE_TOOL for spec in turn.tools) and turn.tool_choice != "none"
        if len(calls) < len(blocks) and may_go_on and not (calls and _has_failed(calls[-1])):
            call_id = f"call_{uuid4().hex}"
            yield ToolCallBegun(call_id, CODE_TOOL)
            yield ToolCallDelta(call_id, json.dumps({"code": blocks[len(calls)]}, ensure_ascii=False))
            yield TurnEnded("tool_calls", model=LOCAL_PYTHON)
        else:
            yield TextDelta(_answer(calls, left=len(blocks) - len(calls)))
            yield TurnEnded("stop", model=LOCAL_PYTHON)


@lru_cache(maxsize=16)  # a run asks in each of its turns
def code_blocks(text: str) -> Sequence[str]:
    """The code of a message: all of it where it is code from end to end, else what stands in its blocks of code.

    Blocks are fenced as in Markdown: with three or more backticks or tildes, indented or not, the last one closed or not.
    Blocks that say `python` or `py` are code whatever stands in them, those that say nothing if they parse, all others
    are not.  CRLF becomes a newline; a fence's own indentation is taken off.  Empty blocks are left out.
    """
    text = text.replace("\r\n", "\n")
    if len(text) <= MOST_PARSED and is_code(text):
        return [text]
    found: list[str] = []
    left = MOST_PARSED
    for word, code in _fenced(text):
        if word in _PYTHON and code.strip():
            found.append(code)
        elif not word and len(code) < left:
            left -= len(code) + 1  # empty ones take time too
            if is_code(code):
                found.append(code)
    return found


def _fenced(text: str) -> list[tuple[str, str]]:
    """The word behind each opening fence, in small letters, and the lines until its closing one."""
    found: list[tuple[str, str]] = []
    indent, fence, word = "", "", ""
    lines: list[str] = []
    for line in text.split("\n"):
        if fence:
            match = _FENCE.fullmatch(line)
            if match and match[2].startswith(fence) and not match[3].strip(" \t"):
                found.append((word, "\n".join(lines)))
                fence, lines = "", []
            else:
                lines.append(_without(indent, line))
        elif match := _opening(line):
            indent, fence = match[1], match[2]
            word = (_WORD.match(match[3].lstrip(" \t")) or [""] * 2)[1].lower()
    if fence:
        found.append((word, "\n".join(lines)))
    return found


def _opening(line: str) -> re.Match[str] | None:
    match = _FENCE.fullmatch(line)
    return match if match and (match[2][0] == "~" or "`" not in match[3]) else None


def _without(indent: str, line: str) -> str:
    """`line` less as much of `indent` as it begins with."""
    same = next((n for n, (a, b) in enumerate(zip(indent, line, strict=False)) if a != b), min(len(indent), len(line)))
    return line[same:]


def _last_said(history: Sequence[Message]) -> tuple[str, list[Message]]:
    """The text of the last message of a user's, and the code calls that were made since."""
    calls: list[Message] = []
    for message in reversed(history):
        kind = message.parts[0].kind if message.parts else ""
        if message.role == Role.USER and kind in _SAID:
            texts = [part for part in message.parts if part.kind == parts.TEXT and not part.content.get(parts.NOTE)]
            said = [part.content.get("text", "") for part in texts]
            return "\n".join(said), calls[::-1]
        if kind == parts.CODE:
            calls.append(message)
    return "", calls[::-1]


def _check(turn: Turn, blocks: Sequence[str]) -> None:
    if not blocks:
        raise _no_code("the last message is no Python code, and local-python is no model that could write some")
    if len(blocks) > MOST_BLOCKS:
        raise _no_code(
            f"the last message has {len(blocks):,} blocks of code, and local-python runs {MOST_BLOCKS} at most"
        )
    if turn.tool_choice not in ("auto", "required", CODE_TOOL):
        raise _no_code(f"local-python can do nothing but run code, and tool_choice is {turn.tool_choice!r}"[:200])
    if not any(spec.name == CODE_TOOL for spec in turn.tools):
        raise _no_code(
            "local-python can do nothing but run code, and the request has no code interpreter among its tools"
        )


def _no_code(message: str) -> PlannerError:
    return PlannerError(message, reason="no_code", remedy=_REMEDY)


def _has_failed(call: Message) -> bool:
    return call.status == "failed" or bool(call.parts[0].content.get("error"))


def _answer(calls: Sequence[Message], *, left: int) -> str:
    said = [text for call in calls if (text := _output(call))]
    if left > 0:
        said.append(f"(Not run: {left} more {'block' if left == 1 else 'blocks'} of code.)")
    links = _links(calls)
    if links:
        said.append("\n" + "\n".join(links) if said else "\n".join(links))
    return _lines(said) or "(no output)"


def _output(call: Message) -> str:
    """What a block printed and showed; of one that did not end by itself, why as well."""
    content = call.parts[0].content
    logs = _lines([output["logs"] for output in content.get("outputs", ()) if output.get("type") == "logs"])
    if call.status != "failed":
        return logs
    return content.get("told", "") if not logs or len(logs) <= len(content.get("told", "")) else logs


def _lines(texts: Sequence[str]) -> str:
    """One behind the other, each on a line of its own."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts[:-1]) + "".join(texts[-1:])


def _links(calls: Sequence[Message]) -> list[str]:
    """A link for each file, in the order in which they came; what was only displayed has no name in `/mnt/data`."""
    files: list[Mapping[str, Any]] = [file for call in calls for file in call.parts[0].content.get("files", ())]
    names = dict.fromkeys(file["name"] for file in files if file.get("source") != "display")
    return [f"[{_label(name)}](sandbox:/mnt/data/{quote(name, safe='/')})" for name in names]


def _label(name: str) -> str:
    return re.sub(r"([\\\[\]])", r"\\\1", " ".join(name.split()))
