"""What is said to servers is what they run, and what their logs say is read as it was meant."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.clients import messages, uploads
from bichat.conversation.planners.local_python import code_blocks
from bichat.errors import UserInputError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
#: What could end a block, or begin one, or is read as code itself.
TRICKY = st.lists(st.sampled_from(["```", "````", "~~~", "python", "\n", "    ", "x = 1", "'''", "#", " "])).map(
    "".join
)


@given(code=(TEXTS | TRICKY).filter(str.strip), description=TEXTS | TRICKY)
def test_local_python_runs_what_was_asked_for_and_nothing_else(code, description):
    before = uploads.links([("a.csv", ("file-1", "file-1-a.csv"))])

    alone = code_blocks(messages.asking_for(code, description=description))
    behind = code_blocks(messages.asking_for(code, description=description, before=before))

    assert [block.strip("\n") for block in alone] == [code.strip("\n")]
    assert [block.strip("\n") for block in behind] == [before.strip("\n"), code.strip("\n")]


@given(names=st.lists(TEXTS, min_size=1), places=st.lists(TEXTS))
def test_names_of_files_are_no_code(names, places):
    made: dict[str, str] = {}
    code = uploads.links([(name, places) for name in names])

    links = SimpleNamespace(
        path=SimpleNamespace(exists=lambda _: True, lexists=made.__contains__),
        symlink=lambda place, name: made.update({name: place}),
    )
    exec(code.replace("import os\n", ""), {"os": links})

    assert set(made) == ({f"/mnt/data/{name}" for name in names} if places else set())


@pytest.mark.parametrize(
    "text, is_code",
    [
        ("print(1)", True),
        ("import pandas", True),
        ("%matplotlib inline\nx = 1", True),
        ("Sum it up:\n```python\nprint(1)\n```", True),
        ("  ~~~ py\nprint(1)", True),
        ("Create a bar chart: North=100, South=150, East=120, West=90", False),
        ("Hello", False),
        ("What is 2 + 2?", False),
        ("```sql\nSELECT 1\n```", False),
        ("x = 1\n" * 10_000, False),
    ],
)
def test_code_is_known_from_words(text, is_code):
    said, told = messages.as_said(text)

    assert told is is_code
    assert is_code is bool(said != text or "python" in text or "~~~ py" in text)


PLAIN = """before
Traceback (most recent call last):
  File "<cell 1>", line 1, in <module>
    int("x")
ValueError: invalid literal: 'x'
second line
"""
CHAINED = """Traceback (most recent call last):
  File "a", line 1
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b", line 2
pandas.errors.ParserError: no columns
"""
BARE = 'Traceback (most recent call last):\n  File "<cell 1>", line 1, in <module>\nKeyboardInterrupt\n'
SYNTAX = """  Cell In[1], line 1
    if
      ^
SyntaxError: invalid syntax
"""


@pytest.mark.parametrize(
    "logs, found",
    [
        (PLAIN, ("ValueError", "invalid literal: 'x'\nsecond line")),
        (CHAINED, ("ParserError", "no columns")),
        (BARE, ("KeyboardInterrupt", "")),
        ("Traceback (most recent call last) is what Python prints.\n", None),
        ("Traceback (most recent call last)", None),
        ("all well\n", None),
        ("", None),
        (SYNTAX, ("SyntaxError", "invalid syntax")),
    ],
)
def test_an_error_is_known_by_the_end_of_a_log(logs, found):
    error = messages.error_in(logs)

    assert (error and (error.name, error.message)) == found
    assert error is None or logs.rstrip().endswith(error.traceback)


@given(
    logs=TEXTS | st.lists(st.sampled_from(["Traceback (most recent call last)", "\n", " ", "E: x", "E"])).map("".join)
)
def test_no_log_is_too_odd_to_be_read(logs):
    error = messages.error_in(logs)

    assert error is None or error.name


def test_halves_of_characters_are_refused():
    with pytest.raises(UserInputError, match="position 3"):
        messages.check_text("abc\ud800")
