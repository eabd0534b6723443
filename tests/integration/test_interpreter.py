"""`CodeInterpreter` and `bichat.run`: many at once, cancelled, left early, misused, and kept."""

from __future__ import annotations

import gc
import io
import os
import threading
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

import bichat
from bichat import CodeInterpreter, Completed, LimitError, NotFoundError, Status, Stdout, UserInputError

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("data_environment")]
WAIT = "import time; print('started', flush=True); time.sleep(60)"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def interpreter():
    async with CodeInterpreter(preload=False) as opened:
        await opened.run("pass")
        yield opened


def _descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.anyio
async def test_sixteen_at_once_six_times_over_all_get_their_own_answer(interpreter):
    async def one(number: int) -> None:
        result = await interpreter.run(f"print({number})")
        answers.append((number, result.stdout))

    for _ in range(6):
        answers: list[tuple[int, str]] = []
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(16):
                    tasks.start_soon(one, number)

        assert sorted(answers) == [(number, f"{number}\n") for number in range(16)]


@pytest.mark.anyio
async def test_a_hundred_runs_in_a_row_grow_neither_descriptors_nor_threads(interpreter):
    code = "open('a.txt', 'w').write('x')"
    for _ in range(10):
        await interpreter.run(code)
    before = _descriptors(), threading.active_count()

    kept = [await interpreter.run(code) for _ in range(100)]

    assert (_descriptors(), threading.active_count()) <= (before[0] + 2, before[1])
    assert {result.artifact("a.txt").read_bytes() for result in kept} == {b"x"}


@pytest.mark.anyio
async def test_a_cancelled_caller_is_cancelled_at_once_and_the_next_run_works(interpreter):
    with anyio.move_on_after(0.5) as scope, anyio.fail_after(30):
        await interpreter.run(WAIT)

    assert scope.cancelled_caught
    assert (await interpreter.run("print('next')")).stdout == "next\n"


@pytest.mark.anyio
async def test_leaving_a_stream_early_ends_the_code(interpreter):
    with anyio.fail_after(30):
        for code in (WAIT, "import os; os.write(1, b'x'); os._exit(0)"):
            for _ in range(10):
                async with aclosing(interpreter.stream(code)) as events:
                    async for event in events:
                        assert isinstance(event, Stdout)
                        break

    assert (await interpreter.run("print('next')")).stdout == "next\n"


@pytest.mark.anyio
async def test_a_stream_tells_both_kinds_of_output_and_ends_with_the_result(interpreter):
    code = "print('one', flush=True)\nimport sys\nprint('two', file=sys.stderr, flush=True)\nprint('three')"

    seen = [event async for event in interpreter.stream(code)]

    assert "".join(event.text for event in seen if isinstance(event, Stdout)) == "one\nthree\n"
    assert isinstance(seen[-1], Completed)
    assert seen[-1].result.stdout == "one\nthree\n"
    assert seen[-1].result.stderr == "two\n"


@pytest.mark.anyio
async def test_two_runs_share_neither_variables_nor_files(interpreter):
    await interpreter.run("x = 1; open('left.txt', 'w').write('x')")

    result = await interpreter.run("import os; print('x' in globals(), os.listdir())")

    assert result.stdout == "False []\n"


@pytest.mark.anyio
async def test_one_stream_may_serve_several_runs_as_input(interpreter):
    data = io.BytesIO(b"region,amount\n")

    texts = [(await interpreter.run("print(open('a.csv').read(), end='')", files={"a.csv": data})).stdout for _ in "12"]

    assert texts == ["region,amount\n", "region,amount\n"]


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["timeout", "memory_bytes", "env", "file"])
async def test_an_option_that_does_not_exist_is_refused(interpreter, option):
    with pytest.raises(TypeError, match=option):
        await interpreter.run("pass", **{option: 3})


@pytest.mark.anyio
async def test_a_session_has_no_use_for_a_name_of_its_code(interpreter):
    with pytest.raises(TypeError, match="name"):
        await interpreter.open_session(name="main.py")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "options, error",
    [
        ({"memory": "1k"}, LimitError),
        ({"environment": "nope"}, NotFoundError),
        ({"memory": "900g"}, LimitError),
        ({"timeout_s": 1e9}, LimitError),
        ({"timeout_s": 0}, UserInputError),
        ({"files": {"a/b": b""}}, UserInputError),
        ({"files": {"..": b""}}, UserInputError),
        ({"files": {"a": "/no/such/file"}}, UserInputError),
        ({"variables": {"A=B": "1"}}, UserInputError),
        ({"variables": {"A": "\ud800"}}, UserInputError),
        ({"variables": {"A": 1}}, UserInputError),
        ({"variables": {"A": "a" * 70_000}}, LimitError),
    ],
)
async def test_what_cannot_be_done_is_refused_and_the_interpreter_goes_on(interpreter, options, error):
    with pytest.raises(error) as caught:
        await interpreter.run("pass", **options)

    assert caught.value.remedy or caught.value.message
    assert (await interpreter.run("pass")).ok


@pytest.mark.anyio
@pytest.mark.parametrize("code", [b"print(1)", None, "", "  \n"], ids=["bytes", "none", "empty", "blank"])
async def test_what_is_no_code_is_refused(interpreter, code):
    with pytest.raises(UserInputError):
        await interpreter.run(code)


@pytest.mark.anyio
async def test_outside_its_block_an_interpreter_says_how_it_is_used():
    with pytest.raises(RuntimeError, match="async with"):
        await CodeInterpreter().run("pass")


@pytest.mark.anyio
async def test_a_program_ends_as_anywhere_with_its_threads_and_exit_functions(interpreter):
    code = (
        "import atexit, threading, time\n"
        "atexit.register(lambda: open('bye.txt', 'w').close())\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
    )

    result = await interpreter.run(code)

    assert result.stdout == "thread\n"
    assert [artifact.name for artifact in result.artifacts] == ["bye.txt"]


@pytest.mark.anyio
async def test_a_full_disk_that_the_code_got_over_is_not_why_it_failed(interpreter):
    fill = "try:\n    open('f', 'wb').write(bytes(4 << 20))\nexcept OSError:\n    full = True\n"
    limits = bichat.Limits(disk_bytes=1 << 20)

    got_over = await interpreter.run(fill + "1 / 0", limits=limits)
    failed = await interpreter.run("open('f', 'wb').write(bytes(4 << 20))", limits=limits)

    assert (got_over.status, failed.status) == (Status.ERROR, Status.DISK_FULL)


@pytest.mark.anyio
async def test_bichat_run_works_inside_an_event_loop_too():
    assert bichat.run("print(1)").stdout == "1\n"


def test_results_outlive_the_interpreter_and_can_be_saved_later(tmp_path: Path):
    result = bichat.run("open('big.bin', 'wb').write(bytes(3 << 20)); open('small.txt', 'w').write('x')")

    saved = result.save_artifacts(tmp_path / "out")

    assert [(path.name, path.stat().st_size) for path in saved] == [("big.bin", 3 << 20), ("small.txt", 1)]
