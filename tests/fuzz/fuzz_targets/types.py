"""MIME types, told by the first bytes of a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bichat.names import display_name
from bichat.sandbox.mime import _LETTER_SIGNATURES, _SIGNATURES, HEAD_BYTES, sniff
from fuzz_targets.choices import Choices

_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]*")
_MAGICS: Final = tuple(bytes(offset) + magic for offset, magic, _ in (*_SIGNATURES, *_LETTER_SIGNATURES))
#: What a browser does more with than save or show as text.
_ACTIVE: Final = ("image/", "video/", "audio/", "font/", "application/pdf", "application/wasm")


def types(data: bytes, room: Path) -> None:
    """A type is well formed, and no name makes content pass for a type that browsers act upon."""
    choices = Choices(data)
    name = display_name(choices.chunk(24))
    is_complete = choices.flag()
    magic = choices.number(len(_MAGICS) + 16)
    head = (_MAGICS[magic] if magic < len(_MAGICS) else b"") + choices.take(HEAD_BYTES)

    kind = sniff(name, head, is_complete=is_complete)
    bare = sniff("", head, is_complete=is_complete)

    assert _TYPE.fullmatch(kind)
    if bare.startswith(_ACTIVE):
        assert kind == bare
    if kind.startswith(_ACTIVE) and kind not in ("image/svg+xml", "audio/mpeg"):
        assert kind == bare
    if kind == "image/svg+xml" and head:
        assert b"<svg" in head
