"""Each notebook of the corpus runs in ipykernel and in a session, and the same comes out, or it is listed why not.

A notebook is a file of cells for one session, in the format that editors know: `# %% title` starts a cell.  A
difference is listed under its cell's title, as the aspects that differ and the reason:

    #! stderr message: why ours is another
    #? contents: why it may be another, as on a busy machine

A difference that is listed and does not occur is as wrong as one that occurs and is not listed; `#?` may be absent.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from jupyter_peer import JupyterPeer

from bichat import CodeInterpreter
from bichat.domain import CHART_TYPE, TABLE_TYPE, ExecutionResult
from bichat.errors import BichatError, SandboxUnavailableError
from bichat.events import Completed, Displayed, Stdout
from bichat.session import Session

# The first test waits for all that are asked for: half a minute on two cores that do nothing else.
pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces, pytest.mark.timeout(600)]
CORPUS: Final = sorted((Path(__file__).parent / "corpus").glob("*.ipy"))
#: Forms that ours adds to what has them, beside all that Jupyter gives.
ADDED_TYPES: Final = {TABLE_TYPE, CHART_TYPE}
#: Code whose output comes by a descriptor: ipykernel passes that on after a while, from a thread.
_BY_DESCRIPTOR: Final = re.compile(r"subprocess|os\.(system|write|fork)")
#: How long is listened for it.
_SETTLE_S: Final = 0.5
_UNREPEATABLE: Final = (
    # The file that a cell is called in tracebacks: a hash of process and code in Jupyter, the cell's number in ours.
    (re.compile(r"(/[\w.-]+)*/ipykernel_\d+/\d+\.py|\b\d{6,}\.py\b|<cell \d+>"), "<cell>"),
    # Addresses of objects.
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0x0"),
    # Random names of HTML elements.
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    # How long something took.
    (re.compile(r"\b\d[\d.]*(e\+\d+)? ?(ns|[uµμ]s|ms|s|min|seconds)\b"), "<time>"),
)
#: For a notebook in seconds, and how many run at a time.
_BOUND_S: Final = 200
_AT_ONCE: Final = 3


class Aspect(StrEnum):
    """What can differ between two outcomes of a cell."""

    STDOUT = "stdout"
    STDERR = "stderr"
    ERROR = "error"
    """The name of the exception, or that there is one."""
    MESSAGE = "message"
    """The words of the exception."""
    RESULTS = "results"
    """How many results there are, of what MIME types, images of what size."""
    CONTENTS = "contents"
    """What is in the results' text and JSON."""
    ORDER = "order"
    """What was printed before, between and after the displays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One that is listed."""

    aspects: frozenset[Aspect]
    reason: str
    is_certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the corpus, with the differences that are listed for it."""

    title: str
    code: str
    differences: tuple[Difference, ...]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a cell, with everything made equal that cannot be the same twice."""

    stdout: str
    stderr: str
    error: str
    message: str
    results: list[tuple[str, ...]] = field(default_factory=list)
    """For each result its MIME types; those of images with the size in pixels."""
    contents: list[dict[str, Any]] = field(default_factory=list)
    """For each result its text and JSON, by MIME type."""
    order: list[str] = field(default_factory=list)


Both = tuple[list[Outcome], list[Outcome]]
"""What ipykernel and what ours made of each cell."""


def cells_of(path: Path) -> Iterator[Cell]:
    """The cells of a notebook, in order."""
    for part in re.split(r"^# %% ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, code = part.partition("\n")
        differences: list[Difference] = []
        while match := re.match(r"#([!?]) ([a-z ]+): (\S.*)\n", code):
            aspects = frozenset(Aspect(word) for word in match[2].split())
            differences.append(Difference(aspects=aspects, reason=match[3], is_certain=match[1] == "!"))
            code = code[match.end() :]
        yield Cell(title=title, code=code.removesuffix("\n"), differences=tuple(differences))


def normalised(text: str, folder: str) -> str:
    """`text` with what no two runs have in common made equal; `folder` is the session's."""
    text = text.replace(folder, "/mnt/data")
    for pattern, instead in _UNREPEATABLE:
        text = pattern.sub(instead, text)
    return text


def differing(jupyter: Outcome, ours: Outcome) -> set[Aspect]:
    """The aspects in which two outcomes differ; the order counts where the same was printed and displayed."""
    found = {aspect for aspect in Aspect if getattr(jupyter, aspect) != getattr(ours, aspect)}
    if not found.isdisjoint({Aspect.STDOUT, Aspect.RESULTS}):
        found.discard(Aspect.ORDER)
    if Aspect.CONTENTS in found and _common_contents(jupyter, ours) == _common_contents(ours, jupyter):
        found.discard(Aspect.CONTENTS)
    return found


def _common_contents(outcome: Outcome, other: Outcome) -> list[dict[str, Any]]:
    """The contents of an outcome's results in the types that the other's have too; none where their numbers differ."""
    if len(outcome.contents) != len(other.contents):
        return []
    return [
        {kind: content for kind, content in one.items() if kind in its}
        for one, its in zip(outcome.contents, other.contents, strict=True)
    ]


def complaint(cell: Cell, jupyter: Outcome, ours: Outcome) -> str:
    """What is wrong with a cell's outcomes, for a person to read; empty when nothing is."""
    found = differing(jupyter, ours)
    listed = {aspect for one in cell.differences for aspect in one.aspects}
    certain = {aspect for one in cell.differences for aspect in one.aspects if one.is_certain}
    lines = [f"  {aspect} is listed and does not differ" for aspect in sorted(certain - found)]
    for aspect in sorted(found - listed):
        lines.append(f"  {aspect} in Jupyter: {_shortened(getattr(jupyter, aspect))}")
        lines.append(f"  {aspect} in ours:    {_shortened(getattr(ours, aspect))}")
    return "\n".join([f"{cell.title}:", *lines]) if lines else ""


@pytest.fixture(scope="module")
def outcomes(request, data_environment, require) -> Mapping[Path, Both | BaseException]:
    """Both outcomes of each cell of the notebooks that are asked for, or why there are none.

    Several notebooks run at a time: a kernel takes most of its time to start and to import.
    """
    here = [item for item in request.session.items if item.path == request.path]
    notebooks = [item.callspec.params["path"] for item in here if hasattr(item, "callspec")]
    try:
        return anyio.run(_run_all, notebooks, data_environment.path)
    except SandboxUnavailableError as error:
        require("namespaces", f"{error} ({error.remedy})")
        raise


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_notebook_ends_as_in_jupyter(path, outcomes):
    both = outcomes[path]
    if isinstance(both, BaseException):
        raise both

    complaints = [complaint(*three) for three in zip(cells_of(path), *both, strict=True)]
    if any(complaints):
        pytest.fail("\n".join(filter(None, complaints)), pytrace=False)


def test_the_corpus_is_large_enough():
    titles = [(path.stem, cell.title) for path in CORPUS for cell in cells_of(path)]

    assert len(titles) >= 150
    assert len(titles) == len(set(titles))


def test_a_difference_must_be_listed_and_a_listed_one_must_occur():
    silent, loud = (Outcome(stdout=text, stderr="", error="", message="") for text in ("", "loud"))
    listed, unlisted = (
        Cell(title="cell", code="", differences=differences)
        for differences in ((Difference(aspects=frozenset({Aspect.STDOUT}), reason="why", is_certain=True),), ())
    )

    assert complaint(listed, silent, loud) == complaint(unlisted, loud, loud) == ""
    assert complaint(listed, loud, loud) == "cell:\n  stdout is listed and does not differ"
    assert complaint(unlisted, silent, loud) == "cell:\n  stdout in Jupyter: ''\n  stdout in ours:    'loud'"


async def _run_all(notebooks: list[Path], environment: Path) -> dict[Path, Both | BaseException]:
    outcomes: dict[Path, Both | BaseException] = {}
    room = anyio.CapacityLimiter(_AT_ONCE)

    async def run(notebook: Path) -> None:
        async with room:
            try:
                with anyio.fail_after(_BOUND_S):
                    outcomes[notebook] = await _run_both(list(cells_of(notebook)), interpreter, environment)
            except Exception as error:  # noqa: BLE001  # this notebook's own, for its test
                outcomes[notebook] = error

    async with CodeInterpreter() as interpreter:
        await interpreter.run("pass")  # fails here where there can be no sandbox
        async with anyio.create_task_group() as tasks:
            for notebook in notebooks:
                tasks.start_soon(run, notebook)
    return outcomes


async def _run_both(cells: list[Cell], interpreter: CodeInterpreter, environment: Path) -> Both:
    outcomes: dict[str, list[Outcome]] = {}

    async def run(name: str, coming: Awaitable[list[Outcome]]) -> None:
        outcomes[name] = await coming

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "jupyter", in_jupyter(cells, environment))
        tasks.start_soon(run, "ours", in_session(cells, interpreter))
    return outcomes["jupyter"], outcomes["ours"]


async def in_jupyter(cells: list[Cell], environment: Path) -> list[Outcome]:
    """What ipykernel makes of the cells, one after the other."""
    outcomes: list[Outcome] = []
    # As plotly chooses in a notebook by itself; the environment chooses otherwise.
    async with JupyterPeer(environment, variables={"PLOTLY_RENDERER": "plotly_mimetype+notebook"}) as peer:
        folder = str(peer.work_folder)
        for cell in cells:
            settle_s = _SETTLE_S if _BY_DESCRIPTOR.search(cell.code) else 0
            ended = await peer.execute(cell.code, settle_s=settle_s)
            outcome = Outcome(
                stdout=normalised(ended.stdout, folder),
                stderr=normalised(ended.stderr, folder),
                error=ended.error_name,
                message=normalised(ended.error_message, folder),
                order=[normalised(text, folder) for text in ended.stdout_parts],
            )
            _describe(outcome, [result.data for result in ended.results], folder)
            outcomes.append(outcome)
    return outcomes


async def in_session(cells: list[Cell], interpreter: CodeInterpreter) -> list[Outcome]:
    """What a session of ours makes of the cells, one after the other."""
    outcomes: list[Outcome] = []
    async with interpreter.session() as session:
        for cell in cells:
            try:
                outcomes.append(await _run_cell(session, cell.code))
            except BichatError as error:
                name = type(error).__name__
                outcomes.append(Outcome(stdout="", stderr="", error=name, message=error.message, order=[""]))
    return outcomes


async def _run_cell(session: Session, code: str) -> Outcome:
    parts = [""]
    async with aclosing(session.stream(code)) as events:
        async for event in events:
            match event:
                case Stdout(text):
                    parts[-1] += text
                case Displayed():
                    parts.append("")
                case Completed(result):
                    return _outcome(result, parts)
                case _:
                    pass
    raise AssertionError("a stream ends with Completed")


def _outcome(result: ExecutionResult, parts: list[str]) -> Outcome:
    folder = "/mnt/data"
    outcome = Outcome(
        stdout=normalised(result.stdout, folder),
        stderr=normalised(result.stderr, folder),
        error=result.error.name if result.error else "",
        message=normalised(result.error.message, folder) if result.error else "",
        order=[normalised(text, folder) for text in parts],
    )
    shown = [{kind: one.data[kind] for kind in one.data if kind not in ADDED_TYPES} for one in result.results]
    _describe(outcome, shown, folder)
    return outcome


def _describe(outcome: Outcome, bundles: Sequence[Mapping[str, Any]], folder: str) -> None:
    for bundle in bundles:
        outcome.results.append(tuple(sorted(kind + _pixels(kind, value) for kind, value in bundle.items())))
        texts = {kind: value for kind, value in bundle.items() if not kind.startswith("image/")}
        outcome.contents.append({kind: _normalised_content(kind, value, folder) for kind, value in texts.items()})


def _normalised_content(kind: str, content: Any, folder: str) -> Any:
    if isinstance(content, str):
        return normalised(content, folder)
    if kind == "application/vnd.plotly.v1+json":
        # Ours leaves out the address of a service that edits figures.
        return {name: part for name, part in content.items() if name != "config"}
    return content


def _pixels(kind: str, value: Any) -> str:
    """The size of an image, such as ` 640x480`; empty for what is none that is known here."""
    match kind:
        case "image/png" if value.startswith(b"\x89PNG"):
            return " {}x{}".format(*struct.unpack(">II", value[16:24]))
        case "image/gif" if value.startswith(b"GIF8"):
            return " {}x{}".format(*struct.unpack("<HH", value[6:10]))
        case "image/jpeg":
            found = re.search(rb"\xff[\xc0-\xc2]..\x08(..)(..)", value, re.DOTALL)
            return " {1}x{0}".format(*(int.from_bytes(part, "big") for part in found.groups())) if found else ""
        case "image/svg+xml":
            sides = re.findall(r'\s(?:width|height)="([^"]*)"', value[: value.find(">", value.find("<svg"))])
            return f" {'x'.join(sides)}" if sides else ""
        case _:
            return ""


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 1500 else f"{text[:1000]} ... {text[-500:]}"
