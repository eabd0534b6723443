"""Output of a guest: bounded, always valid text, and what is missing is counted."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.sandbox.output import CappedText, StreamDecoder
from bichat.sizes import KIB, MIB

_CUT = re.compile(r"\[\.\.\. ([\d,]+) bytes omitted \.\.\.\]\n")


def _captured(chunks: list[bytes], limit_bytes: int = MIB):
    text = CappedText(limit_bytes)
    for chunk in chunks:
        text.feed(chunk)
    return text.captured()


def test_output_under_the_limit_is_given_back_whole():
    captured = _captured([b"hello ", "wörld\n".encode()], 13)

    assert (captured.text, captured.total_bytes, captured.omitted_bytes) == ("hello wörld\n", 13, 0)


def test_a_flood_keeps_its_head_and_its_tail_around_a_line_that_counts_what_is_missing():
    captured = _captured([b"start\n", b"x" * 1_234_567, b"\nend"], 20)

    assert captured.text == "start\nxxxx\n[... 1,234,557 bytes omitted ...]\nxxxxxx\nend"
    assert captured.omitted_bytes == 1_234_557
    assert captured.total_bytes == 1_234_577


def test_the_cut_line_adds_no_empty_line_to_output_that_ends_in_one():
    assert _captured([b"a\nb\nc\nd\n"], 4).text == "a\n[... 4 bytes omitted ...]\nd\n"


def test_a_cut_never_falls_inside_a_character():
    captured = _captured(["é".encode() * 1000], 21)

    head, tail = captured.text.split("\n[... 1,980 bytes omitted ...]\n")
    assert (head, tail) == ("é" * 5, "é" * 5)


def test_bytes_that_are_not_text_are_shown_as_escapes_and_survive_json():
    captured = _captured([b"a\xff\xed\xa0\x80\x00\x1b[31m\xe2\x82"])

    assert captured.text == "a\\xff\\xed\\xa0\\x80\x00\x1b[31m\\xe2\\x82"
    assert json.loads(json.dumps(captured.text)) == captured.text


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_kept_and_omitted_bytes_always_add_up(chunks: list[bytes], limit_bytes: int):
    whole = b"".join(chunks)

    captured = _captured(chunks, limit_bytes)

    captured.text.encode("utf-8")
    assert captured.total_bytes == len(whole)
    assert (captured.omitted_bytes == 0) == (len(whole) <= limit_bytes)
    if not captured.omitted_bytes:
        assert captured.text == whole.decode("utf-8", "backslashreplace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")), st.integers(1, 60))
def test_head_and_tail_of_text_are_pieces_of_it(text: str, limit_bytes: int):
    captured = _captured([text.encode()], limit_bytes)
    if not captured.omitted_bytes:
        assert captured.text == text
        return

    head, omitted, tail = _CUT.split(captured.text)
    head = head.removesuffix("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len((head + tail).encode()) + int(omitted.replace(",", "")) == len(text.encode())
    assert len((head + tail).encode()) <= limit_bytes


@pytest.mark.parametrize("chunk_bytes", [7, 64 * KIB, 8 * MIB])
def test_memory_stays_at_the_limit_however_much_is_printed(chunk_bytes: int):
    chunk = b"x" * chunk_bytes
    text = CappedText(64 * KIB)
    tracemalloc.start()
    try:
        for _ in range(200):
            text.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 256 * KIB
    assert text.total_bytes == 200 * chunk_bytes


@given(st.binary(), st.integers(1, 5))
def test_live_text_is_the_same_however_it_is_cut_into_chunks(output: bytes, size: int):
    decoder = StreamDecoder()

    live = "".join(decoder.feed(output[at : at + size]) for at in range(0, len(output), size)) + decoder.finish()

    assert live == output.decode("utf-8", "backslashreplace")


def test_a_character_split_across_two_chunks_comes_out_whole():
    decoder = StreamDecoder()
    euro = "€".encode()

    assert [decoder.feed(euro[:2]), decoder.feed(euro[2:]), decoder.finish()] == ["", "€", ""]
