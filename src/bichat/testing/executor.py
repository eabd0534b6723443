"""What every `Executor` promises, as tests.

    class TestMyExecutor(ExecutorConformance):
        @pytest.fixture
        async def executor(self):
            yield MyExecutor(...)

The fixture gives one that really runs Python, to the letter, and needs no repository.
"""

from __future__ import annotations

import anyio
import pytest

from bichat.domain import Status
from bichat.errors import UserInputError
from bichat.executor import CodeInterpreterResult, CodeRequest, Executor

_CODE = """\
from pathlib import Path
text = Path("/mnt/data/größe 1.csv").read_text(encoding="utf-8")
Path("/mnt/data/out").mkdir()
Path("/mnt/data/out/copy.csv").write_text(text + "5\\n", encoding="utf-8")
Path("/mnt/data/empty.bin").write_bytes(b"")
print(text, "```", "it's \\"done\\"")
"""


class ExecutorConformance:
    """Subclass it; see the module."""

    pytestmark = pytest.mark.anyio

    async def test_code_runs_to_the_letter_with_its_files_and_gives_back_what_it_printed_and_left(
        self, executor: Executor
    ) -> None:
        request = CodeRequest(code=_CODE, description="Copies.", files={"größe 1.csv": b"4\n"})

        result = await executor.execute(request)

        assert (result.ok, result.status, result.is_verbatim) == (True, Status.COMPLETED, True)
        assert [cell.strip() for cell in result.cells] == [_CODE.strip()]
        assert result.logs == '4\n ``` it\'s "done"\n'
        made = {artifact.name: artifact.read_bytes() for artifact in result.execution.artifacts}
        assert made == {"out/copy.csv": b"4\n5\n", "empty.bin": b""}
        assert result.leftovers == ()
        _is_sound(result)

    async def test_code_that_raises_is_a_status_with_what_it_had_done(self, executor: Executor) -> None:
        code = "print('before')\nopen('half.txt', 'w').write('half')\nraise LookupError('no such region')"

        result = await executor.execute(CodeRequest(code=code))

        assert (result.ok, result.status) == (False, Status.ERROR)
        assert result.execution.error is not None
        assert (result.execution.error.name, result.execution.error.message) == ("LookupError", "no such region")
        assert result.logs.startswith("before\n")
        assert [artifact.name for artifact in result.execution.artifacts] == ["half.txt"]
        _is_sound(result)

    async def test_code_that_takes_too_long_is_a_status(self, executor: Executor) -> None:
        result = await executor.execute(CodeRequest(code="print('begun', flush=True)\nwhile True: pass", timeout_s=1))

        assert (result.ok, result.status) == (False, Status.TIMEOUT)
        assert result.execution.error is not None
        _is_sound(result)

    async def test_what_cannot_run_is_refused(self, executor: Executor) -> None:
        for request in (
            CodeRequest(code=" \n"),
            CodeRequest(code="1", files={"../a.csv": b""}),
            CodeRequest(code="1", tenant=""),
        ):
            with pytest.raises(UserInputError):
                await executor.execute(request)

    async def test_nothing_of_one_request_is_there_for_the_next_nor_for_one_beside_it(self, executor: Executor) -> None:
        results: dict[int, CodeInterpreterResult] = {}
        await executor.execute(CodeRequest(code="left = 1\nopen('left.txt', 'w').close()"))

        async def ask(number: int) -> None:
            code = f"import os\nprint({number}, 'left' in globals(), os.path.exists('left.txt'))\nleft = {number}"
            results[number] = await executor.execute(CodeRequest(code=code))

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(ask, number)

        assert {number: result.logs for number, result in results.items()} == {
            number: f"{number} False False\n" for number in range(3)
        }

    async def test_a_caller_that_leaves_gets_no_answer_and_the_next_one_does(self, executor: Executor) -> None:
        with anyio.move_on_after(0.5) as left:
            await executor.execute(CodeRequest(code="while True: pass"))

        assert left.cancelled_caught
        assert (await executor.execute(CodeRequest(code="print(1)"))).logs == "1\n"


def _is_sound(result: CodeInterpreterResult) -> None:
    told = result.to_dict()
    assert told["status"] == ("completed" if result.execution.ok else "failed")
    assert told["logs"] == result.logs
    assert (result.execution.error is None) is result.execution.ok
    assert result.execution.timings.total_s > 0
    kept = {artifact.id for artifact in result.execution.artifacts if artifact.id}
    assert {output.id for output in result.outputs} == kept
