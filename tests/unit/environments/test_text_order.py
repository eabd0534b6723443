"""The order of a line in which some words are written from right to left, as Unicode's algorithm gives it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.sandbox.environments import recipe


def load() -> ModuleType:
    """The module that environments get: part of their packages, not of ours."""
    path = Path(recipe.__file__).parent / "bichat_site" / "bidi.py"
    spec = importlib.util.spec_from_file_location("bidi", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bidi: Any = load()
#: Upper case stands for Hebrew letters, as in the examples of Unicode's own report.
HEBREW = {chr(ord("A") + at): chr(0x05D0 + at) for at in range(26)}
LATIN = {hebrew: latin for latin, hebrew in HEBREW.items()}


def visual(text: str) -> str:
    logical = "".join(HEBREW.get(character, character) for character in text)
    seen = ""
    for start, end, backwards in bidi.visual_pieces(logical):
        piece = logical[start:end]
        seen += "".join(bidi.MIRRORED.get(c, c) for c in reversed(piece)) if backwards else piece
    return "".join(LATIN.get(character, character) for character in seen)


@pytest.mark.parametrize(
    "logical, expected",
    [
        ("plain text", "plain text"),
        ("he said CAR", "he said RAC"),
        ("CAR MEANS car.", "SNAEM RAC car."),
        ("say ABC DEF end", "say FED CBA end"),
        ("ABC 2024 (DEF)", "(FED) 2024 CBA"),
        ("x ABC 12.5% DEF y", "x FED 12.5% CBA y"),
        ("(ABC)", "(CBA)"),
        ("sales ABC in 2024 DEF total", "sales CBA in 2024 FED total"),
        ("ABC, DEF: 1,200 z", "1,200 :FED ,CBA z"),
        ("5 ABC 7", "5 7 CBA"),
        ("ABC!", "CBA!"),
        ("", ""),
    ],
)
def test_a_line_is_read_in_unicodes_order(logical: str, expected: str):
    assert visual(logical) == expected


@given(st.text(alphabet=st.sampled_from("abAB \u0645\u0660\u064e12.,%-()[]<>\u20ac\u200d\n"), max_size=40))
def test_every_character_stands_somewhere_exactly_once(text: str):
    pieces = bidi.visual_pieces(text)

    assert sorted(at for start, end, _ in pieces for at in range(start, end)) == list(range(len(text)))
