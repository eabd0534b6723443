"""What has been heard of one execution so far: its output, bounded, what it displayed, what the guest said of itself."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bichat.domain import Artifact, CapturedText, Limits, RefusedFile
from bichat.errors import StorageError
from bichat.events import Displayed, Stderr, Stdout
from bichat.sandbox.output import CappedText, StreamDecoder
from bichat.sandbox.results import Results
from bichat.sandbox.spool import Spool


class Stream:
    """One output stream: bounded text for the result, and the whole of it aside once it is more than that."""

    def __init__(self, limits: Limits, spool_folder: Path) -> None:
        self.decoder = StreamDecoder()
        self._capped = CappedText(limits.output_bytes)
        self._limits = limits
        self._spool_folder = spool_folder
        self._spool: Spool | None = None
        self._digest = hashlib.sha256()
        self._refused = ""
        self._is_complete = True

    def feed(self, chunk: bytes) -> str:
        """Take the next bytes; the text that they complete."""
        if self._spool is None and self._capped.total_bytes + len(chunk) > self._limits.output_bytes:
            self._spool = Spool(self._spool_folder)
            self._keep(self._capped.kept())
        if self._spool is not None:
            self._keep(chunk)
        self._capped.feed(chunk)
        return self.decoder.feed(chunk)

    def captured(self) -> CapturedText:
        """The bounded text so far."""
        return self._capped.captured()

    def whole(self, name: str) -> Artifact | RefusedFile | None:
        """All of it, up to `artifact_bytes`, as a file called `name`; None while the bounded text is all there is."""
        if self._refused:
            return RefusedFile(name=name, reason=self._refused)
        if self._spool is None:
            return None
        return Artifact(
            name=name,
            mime_type="text/plain",
            size_bytes=self._spool.size_bytes,
            sha256=self._digest.hexdigest(),
            source="output",
            is_complete=self._is_complete,
            content=self._spool.content(0, self._spool.size_bytes),
        )

    def _keep(self, chunk: bytes) -> None:
        if self._spool is None or self._refused:
            return
        kept = chunk[: self._limits.artifact_bytes - self._spool.size_bytes]
        self._is_complete = self._is_complete and len(kept) == len(chunk)
        try:
            self._spool.append(kept)
        except StorageError as error:
            # The code goes on, and its result says what is missing.
            self._refused = error.message
        self._digest.update(kept)


class Transcript:
    """One execution's."""

    def __init__(self, limits: Limits, cell: int, spool_folder: Path) -> None:
        """`limits` say how much of the output is kept; the guest's word counts for execution number `cell` alone."""
        self.stdout = Stream(limits, spool_folder)
        self.stderr = Stream(limits, spool_folder)
        self.results = Results()
        self.printed_bytes = 0
        self.outcome: dict[str, Any] | None = None
        """The guest's own account of how the code ended; None until it gives one."""
        self.begun = False
        """Whether the guest says that interrupts reach the code."""
        self._cell = cell

    def hear(self, frame: dict[str, Any], size_bytes: int) -> Displayed | None:
        """Take one frame off the guest's channel; what it displays, if anything.  What makes no sense is passed over."""
        match frame:
            case {"display": dict(display)}:  # pyright: ignore[reportUnknownVariableType]  # JSON
                result = self.results.add(display, size_bytes)  # pyright: ignore[reportUnknownArgumentType]
                return None if result is None else Displayed(result)
            case {"clear": dict(clear)}:  # pyright: ignore[reportUnknownVariableType]
                self.results.clear(wait=clear.get("wait") is True)  # pyright: ignore[reportUnknownMemberType]
            case {"saved": {"number": int(number), "as": str(name)}}:
                self.results.name(number, name)
            case {"begun": self._cell}:
                self.begun = True
            case {"omitted": True}:
                self.results.omitted += 1
            case {"done": dict(outcome), "cell": self._cell} if self.outcome is None:  # pyright: ignore[reportUnknownVariableType]
                self.outcome = outcome
            case _:
                pass
        return None

    def printed(self, chunk: bytes, *, is_error: bool) -> Stdout | Stderr | None:
        """Take bytes of output; the text that they complete, if any."""
        self.printed_bytes += len(chunk)
        text = (self.stderr if is_error else self.stdout).feed(chunk)
        if not text:
            return None
        return Stderr(text) if is_error else Stdout(text)

    def last_words(self) -> Iterator[Stdout | Stderr]:
        """Text that waited for the rest of a character, once no more output comes."""
        for stream, event in ((self.stdout, Stdout), (self.stderr, Stderr)):
            text = stream.decoder.finish()
            if text:
                yield event(text)

    def whole_streams(self, taken: set[str]) -> Iterator[Artifact | RefusedFile]:
        """The streams that were cut, whole, as files called `stdout.txt` and `stderr.txt`, or numbered where `taken`."""
        for stream, name in ((self.stdout, "stdout"), (self.stderr, "stderr")):
            numbered = (f"{name}-{number}.txt" for number in itertools.count(2))
            names = itertools.chain((f"{name}.txt",), numbered)
            whole = stream.whole(next(each for each in names if each not in taken))
            if whole is not None:
                yield whole
