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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from jupyter_peer import JupyterPeer

from bichat import CodeInterpreter
from bichat.domain import CHART_TYPE, TABLE_TYPE
from bichat.events import Completed, Displayed, Stdout

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces]
CORPUS: Final = sorted((Path(__file__).parent / "corpus").glob("*.ipy"))
#: Forms that ours adds to what has them, beside all that Jupyter gives.
ADDED_TYPES: Final = {TABLE_TYPE, CHART_TYPE}
#: Code whose output comes by a descriptor: ipykernel passes that on after a while, from a thread.
_BY_DESCRIPTOR: Final = re.compile(r"subprocess|os\.(system|write|fork)")
_BOUND_S: Final = 60


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
    """`text` without what is different each time, and what each side calls by a name of its own.

    Each replacement stands for something that no two runs have in common.
    """
    for pattern, instead in (
        (re.escape(folder), "/mnt/data"),  # each kernel's working directory
        (
            r"[^\s\"'(]*/ipykernel_\d+/\d+\.py|\b\d{6,}\.py\b|<cell \d+>",
            "<cell>",
        ),  # a hash of process and code, or the cell's number
        (r"\b0x[0-9a-f]{6,}\b", "0x0"),  # addresses
        (r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),  # random names of HTML elements
        (r"\b\d[\d.]* ?(ns|[uµμ]s|ms|s|min|seconds)\b", "<time>"),  # how long something took
    ):
        text = re.sub(pattern, instead, text)
    return text


def differing(jupyter: Outcome, ours: Outcome) -> set[Aspect]:
    """The aspects in which two outcomes differ; contents count where results are alike, order where stdout is."""
    found = {aspect for aspect in Aspect if getattr(jupyter, aspect) != getattr(ours, aspect)}
    if Aspect.RESULTS in found:
        found -= {Aspect.CONTENTS, Aspect.ORDER}
    return found - {Aspect.ORDER} if Aspect.STDOUT in found else found


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
def portal():
    """An event loop in a thread of its own, for what lives longer than one test."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="module")
def interpreter(portal, data_environment):
    with portal.wrap_async_context_manager(CodeInterpreter()) as interpreter:
        yield interpreter


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_notebook_ends_as_in_jupyter(path, portal, interpreter, data_environment):
    cells = list(cells_of(path))

    jupyter, ours = portal.call(_run_both, cells, interpreter, data_environment.path)

    complaints = [complaint(*three) for three in zip(cells, jupyter, ours, strict=True)]
    assert "\n".join(filter(None, complaints)) == ""


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


async def _run_both(cells: list[Cell], interpreter: CodeInterpreter, environment: Path):
    outcomes: dict[str, list[Outcome]] = {}

    async def run(name: str, outcome_list: Any) -> None:
        outcomes[name] = await outcome_list

    with anyio.fail_after(_BOUND_S):
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
            settle_s = 0.05 if _BY_DESCRIPTOR.search(cell.code) else 0
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
            parts = [""]
            async with aclosing(session.stream(cell.code)) as events:
                async for event in events:
                    match event:
                        case Stdout(text):
                            parts[-1] += text
                        case Displayed():
                            parts.append("")
                        case Completed(result):
                            outcomes.append(_outcome(result, parts))
                        case _:
                            pass
    return outcomes


def _outcome(result: Any, parts: list[str]) -> Outcome:
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
        outcome.contents.append(
            {kind: _normalised_value(value, folder) for kind, value in bundle.items() if not kind.startswith("image/")}
        )


def _normalised_value(value: Any, folder: str) -> Any:
    return normalised(value, folder) if isinstance(value, str) else value


def _pixels(kind: str, value: Any) -> str:
    """The size of an image, such as ` 640x480`; empty for what is none, or an image of another kind."""
    match kind:
        case "image/png":
            return " {}x{}".format(*struct.unpack(">II", value[16:24]))
        case "image/gif":
            return " {}x{}".format(*struct.unpack("<HH", value[6:10]))
        case "image/jpeg":
            found = re.search(rb"\xff[\xc0-\xc2]..\x08(..)(..)", value, re.DOTALL)
            return " {1}x{0}".format(*(int.from_bytes(part, "big") for part in found.groups())) if found else ""
        case "image/svg+xml":
            found = re.search(r'<svg[^>]*?\swidth="([^"]*)"[^>]*?>|<svg', value)
            return f" {found[1]}" if found else ""
        case _:
            return ""


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 1500 else f"{text[:1000]} ... {text[-500:]}"
