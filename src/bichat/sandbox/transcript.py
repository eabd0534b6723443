"""What has been heard of one execution so far: its output, bounded, and what the guest said of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bichat.domain import Limits
from bichat.events import Stderr, Stdout
from bichat.sandbox import wire
from bichat.sandbox.output import CappedText, StreamDecoder

#: Bytes that are read from a descriptor at a time.
READ_BYTES: Final = 64 * 1024


class Transcript:
    """One execution's."""

    def __init__(self, limits: Limits) -> None:
        """`limits` say how much of the output is kept."""
        self.stdout = CappedText(limits.output_bytes)
        self.stderr = CappedText(limits.output_bytes)
        self.printed_bytes = 0
        self.outcome: dict[str, Any] | None = None
        """The guest's own account of how the code ended; None until it gives one."""
        self._frames = wire.FrameReader(wire.MAX_REPLY_BYTES)
        self._reply_bytes = 0
        self._decoders = (StreamDecoder(), StreamDecoder())

    def hear(self, chunk: bytes) -> None:
        """Take bytes off the guest's channel.

        Raises:
            FrameError: they are no frames, or more than any honest guest has to say.
        """
        self._reply_bytes += len(chunk)
        if self._reply_bytes > wire.MAX_REPLY_BYTES + READ_BYTES:
            raise wire.FrameError("more frames than one execution has to say")
        for frame in self._frames.feed(chunk):
            outcome = frame.get("done")
            if self.outcome is None and isinstance(outcome, dict):
                self.outcome = outcome  # pyright: ignore[reportUnknownMemberType]  # keys of a JSON object are strings

    def printed(self, chunk: bytes, *, is_error: bool) -> Stdout | Stderr | None:
        """Take bytes of output; the text that they complete, if any."""
        self.printed_bytes += len(chunk)
        (self.stderr if is_error else self.stdout).feed(chunk)
        text = self._decoders[is_error].feed(chunk)
        if not text:
            return None
        return Stderr(text) if is_error else Stdout(text)

    def last_words(self) -> Iterator[Stdout | Stderr]:
        """Text that waited for the rest of a character, once no more output comes."""
        for is_error, decoder in enumerate(self._decoders):
            text = decoder.finish()
            if text:
                yield Stderr(text) if is_error else Stdout(text)
