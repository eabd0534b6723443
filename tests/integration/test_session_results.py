"""What sessions of the environment `data` show: in order, as artifacts, and whatever the code does to what shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from textwrap import dedent

import anyio
import pytest

from bichat import CodeInterpreter, Displayed, ExecutionResult, Status, Stdout
from bichat.session import Session
from bichat.sizes import MIB

pytestmark = [pytest.mark.anyio, pytest.mark.namespaces, pytest.mark.usefixtures("data_environment")]


@pytest.fixture(scope="module")
async def interpreter() -> AsyncGenerator[CodeInterpreter]:
    async with CodeInterpreter(preload=False) as opened:
        yield opened


async def run(session: Session, code: str, timeout_s: float | None = None) -> ExecutionResult:
    with anyio.fail_after(60):
        return await session.run(dedent(code), timeout_s=timeout_s)


async def test_what_is_printed_and_shown_comes_in_its_order_and_the_last_expression_last(session):
    seen: list[str] = []
    code = """
        for number in range(30):
            print("print", number)
            display(number)
        "the last"
    """

    async for event in session.stream(dedent(code)):
        if isinstance(event, Stdout):
            seen += event.text.splitlines()
        elif isinstance(event, Displayed):
            seen.append(event.result.text)

    assert seen == [text for number in range(30) for text in (f"print {number}", str(number))] + ["'the last'"]


async def test_figures_are_shown_once_each_and_numbered_through_the_session_or_go_by_the_name_they_were_saved_under(
    session,
):
    first = await run(
        session,
        """
        import matplotlib.pyplot as plt
        plt.bar(["a", "b"], [1, 2]); plt.savefig("bars.png"); plt.show()
        plt.figure(); plt.plot([1, 2])
        plt.figure(); plt.plot([2, 1])
        """,
    )
    second = await run(session, "plt.plot([3, 3]); plt.show()")

    assert [result.artifact for result in first.results if result.artifact] == [
        "bars.png",
        "figure-1.png",
        "figure-2.png",
    ]
    assert [(artifact.name, artifact.source) for artifact in first.artifacts] == [
        ("bars.png", "file"),
        ("figure-1.png", "display"),
        ("figure-2.png", "display"),
    ]
    assert [artifact.name for artifact in second.artifacts] == ["figure-3.png"]
    shown = {result.artifact: result.data["image/png"] for result in first.results if result.artifact}
    assert first.artifact("figure-1.png").read_bytes() == shown["figure-1.png"]


@pytest.mark.parametrize(
    "body, status",
    [
        ("raise ValueError('no')", Status.COMPLETED),
        ("return 3", Status.COMPLETED),
        ("return 'x' * (100 << 20)", Status.COMPLETED),
        ("return '\\ud800'", Status.COMPLETED),
        ("import time; time.sleep(60)", Status.TIMEOUT),
        ("return repr(self)", Status.COMPLETED),
    ],
    ids=["raises", "no text", "huge", "half a character", "hangs", "endless"],
)
async def test_a_value_that_cannot_be_shown_is_its_cells_own_loss(session, body, status):
    result = await run(session, f"class Odd:\n    def __repr__(self): {body}\nprint('before')\nOdd()", timeout_s=1)

    assert (result.status, result.session_alive) == (status, True)
    assert result.stdout.startswith("before\n")
    assert sum(len(shown.text) for shown in result.results) < 20 * MIB
    str(result.to_dict()).encode()
    assert (await run(session, "1 + 1")).results[0].text == "2"


async def test_code_that_breaks_what_shows_its_values_breaks_its_own_session_at_most(interpreter):
    vandals = (
        "import sys; sys.displayhook = None; 1",
        "import IPython.core.interactiveshell as i; i.InteractiveShell.run_cell = None",
        "from IPython import get_ipython; get_ipython().display_formatter = None; 1",
        "import json; json.dumps = lambda *a, **k: 1 / 0; 1",
        "import base64; base64.b64encode = None; 1",
        "import builtins; builtins.isinstance = lambda *a: True; 1",
        "import gc, types; [o.clear() for o in gc.get_objects() if type(o) is dict and 'display' in o]",
    )
    async with interpreter.session() as neighbour:
        await run(neighbour, "x = 41")
        for vandal in vandals:
            async with interpreter.session() as session:
                result = await run(session, vandal, timeout_s=10)
                if result.session_alive:
                    await run(session, "print('next')", timeout_s=10)
        assert (await run(neighbour, "x + 1")).results[0].text == "42"


async def test_results_outlive_their_session(interpreter):
    async with interpreter.session() as session:
        result = await run(
            session, "import matplotlib.pyplot as plt; plt.plot([1]); plt.show(); open('a', 'w').write('x')"
        )

    assert result.artifact("a").read_bytes() == b"x"
    assert result.artifact("figure-1.png").read_bytes().startswith(b"\x89PNG")
