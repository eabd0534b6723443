"""One execution: what a guest says in it becomes a result that can be written down, and shown on a terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Final

from bichat.cli.showing import Screen
from bichat.domain import CHART_TYPE, TABLE_TYPE, Artifact, ExecutionResult, IsolationReport, Limits, Status
from bichat.events import Completed, Event
from bichat.sandbox import verdict, wire
from bichat.sandbox.mime import HEAD_BYTES, sniff
from bichat.sandbox.results import MAX_RESULTS, name_images
from bichat.sandbox.transcript import Transcript
from fuzz_targets.checks import assert_steers_nothing, sha256
from fuzz_targets.choices import JSON, Choices

_CELL: Final = 7
_LIMITS: Final = Limits(output_bytes=64, artifact_bytes=256)
_COLUMNS: Final = ("number", "integer", "datetime", "string")
#: Of a table's 20 rows or a chart's 10 series, with what stands around them.
_MAX_LINES: Final = 30
_STYLING: Final = re.compile(r"\x1b\[[0-9;]*m")


def messages(data: bytes, room: Path) -> None:
    """Whatever a guest says in whole frames becomes a result that can be written down and shown."""
    choices = Choices(data)
    transcript = Transcript(_LIMITS, _CELL, room)
    shown: list[Event] = []
    while choices.left:
        match choices.number(8):
            case 0 | 1 as number:
                event = transcript.printed(choices.chunk(), is_error=bool(number))
                shown += [event] if event else []
            case 2:
                _hear(transcript, choices.json(), shown)
            case 3:
                _hear(transcript, {"done": choices.json(), "cell": _CELL}, shown)
            case 4:
                _hear(transcript, {choices.word(): choices.json(), choices.word(): choices.json()}, shown)
            case _:
                bundle = {choices.word(): choices.json() for _ in range(1 + choices.number(4))}
                fields = {choices.word(): choices.json() for _ in range(choices.number(4))}
                _hear(transcript, {"display": {"data": bundle, **fields}}, shown)
    _check(transcript, shown, disk_is_full=len(data) % 2 == 0)


def transcript(data: bytes, room: Path) -> None:
    """The same for bytes that may be frames, as the channel gives them."""
    choices = Choices(data)
    heard = Transcript(_LIMITS, _CELL, room)
    shown: list[Event] = []
    reader = wire.FrameReader(4096)
    with suppress(wire.FrameError):
        while choices.left:
            length = choices.number(256)  # mostly that of what follows
            payload = choices.spelled(JSON, 1 + choices.number(32))
            for frame in reader.feed((length if length < 8 else len(payload)).to_bytes(4, "big") + payload):
                _hear(heard, frame, shown)
    _check(heard, shown, disk_is_full=False)


def drawn(data: bytes, room: Path) -> None:
    """A table or a chart with any values in it is drawn on a terminal, which it does not steer, in few lines."""
    choices = Choices(data)
    kind, value = (CHART_TYPE, _chart(choices)) if choices.flag() else (TABLE_TYPE, _table(choices))
    heard = Transcript(_LIMITS, _CELL, room)
    shown: list[Event] = []
    _hear(heard, {"display": {"data": {kind: value}}}, shown)

    assert _check(heard, shown, disk_is_full=False).count("\n") <= _MAX_LINES


def _table(choices: Choices) -> dict[str, Any]:
    names = [choices.word() for _ in range(1 + choices.number(6))]
    fields = [{"name": name, "type": _COLUMNS[choices.number(len(_COLUMNS))]} for name in names]
    rows = [{name: choices.json(5) for name in names} for _ in range(choices.number(24))]
    return {
        "schema": {"fields": [choices.json(), *fields] if choices.flag() else fields, "primaryKey": choices.json()},
        "data": [choices.json(), *rows] if choices.flag() else rows,
        "row_count": choices.json(),
        "column_count": choices.json(),
    }


def _chart(choices: Choices) -> dict[str, Any]:
    series = [{name: choices.json() for name in ("name", "type", "count")} for _ in range(choices.number(16))]
    axes = [{"series": series}, choices.json(), {"series": choices.json()}]
    return {"axes": axes, **{name: choices.json() for name in ("library", "type", "title")}}


def _hear(transcript: Transcript, message: Any, shown: list[Event]) -> None:
    if not isinstance(message, dict):
        return
    frame = wire.encode_frame(message)
    with suppress(wire.FrameError):  # nested deeper than JSON is read
        for received in wire.FrameReader().feed(frame):
            displayed = transcript.hear(received, len(frame))
            shown += [displayed] if displayed else []


def _check(transcript: Transcript, shown: list[Event], *, disk_is_full: bool) -> str:
    """What a terminal shows of it."""
    shown += transcript.last_words()
    status, error = Status.COMPLETED, None
    if transcript.outcome is not None:
        status, error = verdict.reported(transcript.outcome, disk_is_full=disk_is_full)
        verdict.stopped(Status.TIMEOUT, (status, error), 1.0)
    listed = transcript.results.listed()
    results, images, _ = name_images(listed, (), frozenset(), 1)
    stdout = transcript.stdout.captured()
    whole = tuple(transcript.whole_streams(set()))
    result = ExecutionResult(
        status=status,
        error=error,
        stdout=stdout.text,
        stdout_omitted_bytes=stdout.omitted_bytes,
        stderr=transcript.stderr.captured().text,
        results=results,
        results_omitted=transcript.results.omitted,
        artifacts=(*images, *(one for one in whole if isinstance(one, Artifact))),
        isolation=IsolationReport(level="namespaces"),
    )

    written = json.dumps(result.to_dict(), allow_nan=False, ensure_ascii=False).encode()

    assert len(json.loads(written)["results"]) == len(listed) <= MAX_RESULTS
    assert (error is None) == (status is Status.COMPLETED)
    for one in results:
        assert one.table is None or isinstance(one.table, Mapping)
        assert one.chart is None or isinstance(one.chart, Mapping)
        for kind, value in one.data.items():
            assert not isinstance(value, bytes) or not kind.startswith("image/") or _sniffed(value) == kind
    assert len({artifact.name for artifact in result.artifacts}) == len(result.artifacts)
    assert all(sha256(one) == one.sha256 for one in result.artifacts)
    return _shown(shown, result)


def _shown(shown: list[Event], result: ExecutionResult) -> str:
    """On a terminal, which nothing of it may steer: no escapes but for the styles of our own tables."""

    async def events() -> AsyncGenerator[Event]:
        for event in [*shown, Completed(result)]:
            yield event

    async def follow() -> None:
        screen = Screen()
        screen.failure(await screen.follow(events()))

    # Nothing in it waits, and a loop would take longer than all the rest.
    with redirect_stdout(_Terminal()) as stdout, redirect_stderr(_Terminal()) as stderr, suppress(StopIteration):
        follow().send(None)
        raise AssertionError("it waits")
    text = _STYLING.sub("", stdout.getvalue() + stderr.getvalue())
    assert_steers_nothing(text, but="\n\t")
    return text


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _sniffed(content: bytes) -> str:
    return sniff("", content[:HEAD_BYTES], is_complete=False)
