"""What `local-python` takes for code, and what it makes of it."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.conversation import parts
from bichat.conversation.planner import PlannerError, TextDelta, ToolCallDelta, ToolSpec, Turn, TurnEnded
from bichat.conversation.planners.local_python import MOST_BLOCKS, MOST_PARSED, LocalPython, code_blocks
from bichat.repository.records import Message, Part, Role

TOOLS = (ToolSpec(name="python"),)


def _message(kind, content, role=Role.USER, status="completed"):
    part = Part(kind=kind, content=content)
    return Message(tenant="t", conversation_id="c", role=role, parts=(part,), status=status)


def _user(text):
    return _message(parts.TEXT, {"text": text})


def _ran(logs="", *, files=(), error=None, status="completed", told=""):
    outputs = [{"type": "logs", "logs": logs}] if logs else []
    content = {"call_id": "c", "outputs": outputs, "files": list(files), "error": error, "told": told or logs}
    return _message(parts.CODE, content, Role.ASSISTANT, status)


def _file(name, source="file"):
    return {"output_id": "o", "name": name, "mime_type": "text/csv", "size_bytes": 1, "source": source}


def _plan(*history, tools=TOOLS, tool_choice="auto", is_first=None):
    """`is_first`: by default where nothing has run yet."""
    if is_first is None:
        is_first = history[-1].role is Role.USER if history else True

    async def events():
        turn = Turn(model="local-python", history=history, tools=tools, tool_choice=tool_choice, is_first=is_first)
        return [event async for event in LocalPython().turn(turn)]

    return anyio.run(events)


def _code(events):
    return "".join(json.loads(event.text)["code"] for event in events if isinstance(event, ToolCallDelta))


def _text(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param("print(1)", ["print(1)"], id="a whole message"),
        pytest.param("x = await f()\nx", ["x = await f()\nx"], id="await outside of functions"),
        pytest.param("%time 1\n!ls", ["%time 1\n!ls"], id="lines of IPython's"),
        pytest.param("%%bash\necho 'x", ["%%bash\necho 'x"], id="a cell magic"),
        pytest.param("s = '''\n```python\n1\n```\n'''", ["s = '''\n```python\n1\n```\n'''"], id="a fence in a text"),
        pytest.param("Run:\n```python\n1\n```\nand\n```py\n2\n```", ["1", "2"], id="blocks in order"),
        pytest.param("Run:\r\n```python\r\nx = 1\r\nx\r\n```\r\n", ["x = 1\nx"], id="CRLF"),
        pytest.param("- a\n\n   ~~~~ Python\n   if x:\n     y\n   ~~~~\n", ["if x:\n  y"], id="indented tildes"),
        pytest.param("Run:\n```\n1 + 1\n```\n```\nno code\n```", ["1 + 1"], id="no word, if it parses"),
        pytest.param("Run:\n```sql\nselect\n```\n```python\n1\n```", ["1"], id="other languages are not run"),
        pytest.param("Run:\n````python\n'''\n```\n'''\n````", ["'''\n```\n'''"], id="a longer fence"),
        pytest.param("Run:\n```python\n1 +", ["1 +"], id="not closed, and no Python: said so by the interpreter"),
        pytest.param("Run:\n```{python}\n1\n```", ["1"], id="braces"),
        pytest.param("Sum the sales, please.", [], id="prose"),
        pytest.param("# A heading", [], id="a comment alone"),
        pytest.param("", [], id="nothing"),
        pytest.param("Run:\n```python\n\n```", [], id="an empty block"),
        pytest.param("Run ```python 1``` here now", [], id="code in a line"),
    ],
)
def test_code_is_found_in_a_message(text, expected):
    assert code_blocks(text) == expected


@pytest.mark.parametrize(
    "text",
    ["(" * 20_000, "-" * 20_000 + "1", "1+" * 15_000 + "1", "f(" * 100, "\x00", "\ud800", "x = 1\n" * MOST_PARSED],
)
def test_what_is_nested_too_deep_or_too_long_to_be_read_is_no_code(text):
    assert code_blocks(text) == []


def test_a_block_that_says_python_may_be_of_any_length():
    code = "x = 1\n" * MOST_PARSED

    assert code_blocks(f"```python\n{code}```") == [code.removesuffix("\n")]


@given(st.text(alphabet="`~ \n\tpython1{}=", max_size=200))
def test_no_message_is_too_odd_to_be_read(text):
    assert all(code.strip() for code in code_blocks(text))


def test_blocks_run_one_after_the_other_and_then_comes_the_answer():
    said = _user("```python\n1\n```\n```python\n2\n```")

    assert _code(_plan(said)) == "1"
    assert _code(_plan(said, _ran("1\n"))) == "2"
    last = _plan(said, _ran("1\n"), _ran("2", files=[_file("a b.csv"), _file("plot.png", "display")]))
    assert last == [
        TextDelta("1\n2\n\n[a b.csv](sandbox:/mnt/data/a%20b.csv)"),
        TurnEnded("stop", model="local-python"),
    ]


@pytest.mark.parametrize("failed", [{"error": {"name": "E", "message": ""}}, {"status": "failed"}])
def test_the_first_block_that_fails_is_the_last_one_that_runs(failed):
    said = _user("```python\n1/0\n```\n```python\n2\n```")

    assert _text(_plan(said, _ran("a traceback", **failed))) == "a traceback\n(Not run: 1 more block of code.)"


def test_code_that_did_not_end_by_itself_is_answered_with_why():
    call = _ran("so far\n", status="failed", told="so far\n\n[The code was ended: timeout.]")

    assert _text(_plan(_user("f()"), call)) == "so far\n\n[The code was ended: timeout.]"


def test_code_that_says_nothing_is_answered_all_the_same():
    assert _text(_plan(_user("x = 1"), _ran())) == "(no output)"


def test_only_the_last_message_counts():
    events = _plan(_user("1"), _ran("1"), _message(parts.TEXT, {"text": "1"}, Role.ASSISTANT), _user("2"))

    assert _code(events) == "2"


@pytest.mark.parametrize(
    "text, asked",
    [
        pytest.param("Sum the sales, please.", {}, id="prose"),
        pytest.param("1", {"tool_choice": "none"}, id="no calls wanted"),
        pytest.param("1", {"tool_choice": "weather"}, id="another tool wanted"),
        pytest.param("1", {"tools": (ToolSpec(name="weather"),)}, id="no code interpreter"),
        pytest.param("```python\n1\n```\n" * (MOST_BLOCKS + 1), {}, id="too many blocks"),
    ],
)
def test_what_it_cannot_do_is_refused_with_how_to_configure_a_model(text, asked):
    with pytest.raises(PlannerError) as caught:
        _plan(_user(text), **asked)

    assert caught.value.reason == "no_code"
    assert "BICHAT_MODEL" in caught.value.remedy


def test_who_asks_again_without_a_new_message_has_its_code_run_again():
    said = _user("```python\n1\n```")

    assert _code(_plan(said, _ran("1\n"), is_first=True)) == "1"


@pytest.mark.parametrize(
    "line", ["```a" + " " * 600_000 + "b", "~~~" + "\t" * 600_000, "`" * 600_000, "```\n" + " " * 599_000 + "```x"]
)
def test_a_line_as_long_as_a_message_can_be_is_read_in_time_that_grows_with_its_length(line):
    assert code_blocks(line) == []  # hours, where each place is one at which the line may end
