"""When Enter runs what was typed, and how far the next line is indented."""

from __future__ import annotations

import pytest

from bichat.cli.cells import indentation, is_whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        "# a comment",
        "if x: y",
        "f(\n  a)",
        "x = (a\n  % b)",
        "def f():\n    return 1\n",
        "def f():\n    return 1\n    ",
        "for i in x:\n    y\nz = 1",
        "for i in x:\n    !ls\n",
        "match x:\n    case 1:\n        y\n",
        "await f()",
        "async with a as b: c",
        "  x = 1",
        "%time f(",
        "!ls (",
        "names = !ls",
        "df?",
        "%put sales.csv",
        "%%time\nf()\n",
        # what no further line can mend
        "1 +",
        "please draw a chart",
        "x = 'abc",
        "return 5",
        "\0",
        "f(]",
        "-" * 100_000,
        "x" + ".x" * 100_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_enter_runs_what_is_complete_or_beyond_help(text):
    assert is_whole(text)


@pytest.mark.parametrize(
    "text",
    [
        "def f():",
        "def f():\n    return 1",
        "def f():\n    return 1\n# done",
        "class A:\n    x = 1\n\n    def f(self):",
        "@decorated",
        "@decorated\n",
        "f(1,",
        "f(1,\n",
        "x = [\n1,\n\n2",
        "x = (a\n  % b",
        "x = '''abc\n\n",
        "x = 1 + \\",
        "try:\n    1",
        "try:\n    1\n",
        "if x:\n    y\nelse:",
        "match x:\n    case 1:\n        y",
        "async def f():\n    await g()",
        "for i in x:\n    !ls",
        "with a as b:\n    %time c(",
        "%%bash",
        "%%bash\nls",
    ],
)
def test_enter_adds_a_line_where_more_may_come(text):
    assert not is_whole(text)


@pytest.mark.parametrize(
    "text, depth",
    [
        ("x = 1", 0),
        ("if x:", 4),
        ("if x:  # why", 4),
        ("def f():\n    if x:", 8),
        ("def f():\n    x = 1", 4),
        ("def f():\n    return x", 0),
        ("for i in x:\n    if i:\n        break", 4),
        ("return", 0),
    ],
)
def test_the_next_line_starts_where_its_block_stands(text, depth):
    assert indentation(text) == " " * depth
