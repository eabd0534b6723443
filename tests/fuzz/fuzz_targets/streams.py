"""What code prints: bounded text, and the whole of it as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bichat.domain import Artifact, Limits
from bichat.sandbox.output import CappedText, StreamDecoder
from bichat.sandbox.transcript import Transcript
from fuzz_targets.checks import sha256
from fuzz_targets.choices import Choices

_CELL: Final = 7


def output(data: bytes, room: Path) -> None:
    """Kept and omitted bytes add up, and text is the same in pieces."""
    choices = Choices(data)
    capped, decoder, whole, text = CappedText(1 + choices.number(64)), StreamDecoder(), b"", ""
    while choices.left:
        chunk = choices.chunk(24)
        whole += chunk
        capped.feed(chunk)
        text += decoder.feed(chunk)
    captured = capped.captured()
    text += decoder.finish()

    assert text == whole.decode("utf-8", "backslashreplace")
    assert captured.total_bytes == len(whole)
    assert json.loads(json.dumps(captured.text, ensure_ascii=False).encode()) == captured.text
    assert captured.text == text or 0 < captured.omitted_bytes <= len(whole)


def streams(data: bytes, room: Path) -> None:
    """A stream that was cut comes as a file, whole up to the limit of files, and says whether it is."""
    choices = Choices(data)
    limits = Limits(output_bytes=1 + choices.number(32), artifact_bytes=1 + choices.number(64))
    heard = Transcript(limits, _CELL, room)
    printed = [b"", b""]
    while choices.left:
        number, chunk = choices.number(2), choices.chunk(24)
        printed[number] += chunk
        heard.printed(chunk, is_error=bool(number))
    files = {one.name: one for one in heard.whole_streams({"stdout.txt"})}

    for name, whole in zip(("stdout-2.txt", "stderr.txt"), printed, strict=True):
        assert (name in files) == (len(whole) > limits.output_bytes)
        if name in files:
            file = files[name]
            assert isinstance(file, Artifact)
            assert file.read_bytes() == whole[: limits.artifact_bytes]
            assert file.is_complete == (len(whole) <= limits.artifact_bytes)
            assert sha256(file) == file.sha256
