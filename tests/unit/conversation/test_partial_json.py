"""The arguments of a call, read while a model writes them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bichat.conversation.partial_json import ArgumentsError, StringMember

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _pieces(draw, text):
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def _written(draw):
    """A value, and JSON that holds it among others, in pieces; escapes and surrogate pairs are split anywhere."""
    value = draw(st.text())
    before = draw(st.dictionaries(st.text(max_size=5).filter(lambda name: name != "code"), JSON, max_size=3))
    after = draw(st.dictionaries(st.text(max_size=5).filter(lambda name: name != "code"), JSON, max_size=3))
    members = before | {"code": value} | {name: each for name, each in after.items() if name not in before}
    text = json.dumps(members, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return value, _pieces(draw, draw(st.sampled_from(["", " ", "\n"])) + text)


@settings(max_examples=50)
@given(_written())
def test_what_is_known_of_a_value_grows_into_all_of_it(written):
    value, pieces = written
    reader = StringMember("code")

    given_out = "".join(reader.feed(piece) for piece in pieces)

    assert value.startswith(given_out)
    assert given_out + reader.rest() == reader.end() == value


@given(st.text().filter(lambda text: text.strip() and not text.lstrip().startswith("{")), st.data())
def test_what_is_no_object_from_its_first_character_on_is_the_value_itself(text, data):
    reader = StringMember("code")

    given_out = "".join(reader.feed(piece) for piece in _pieces(data.draw, text))

    assert given_out + reader.rest() == reader.end() == text


@given(st.text(alphabet='{}[]":,\\u0dc8code 1e-.\n', max_size=60), st.data())
def test_no_arguments_are_too_odd_to_be_judged(text, data):
    reader = StringMember("code")

    given_out = "".join(reader.feed(piece) for piece in _pieces(data.draw, text)) + reader.rest()

    with suppress(ArgumentsError):
        assert isinstance(reader.end(), str)
    assert isinstance(given_out, str)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"code": "1',
        "{}",
        '{"cod": "1"}',
        '{"code": 1}',
        '{"code": null}',
        '{"code": ["1"]}',
        "{" * 100_000,
    ],
)
def test_arguments_without_a_value_are_none(text):
    reader = StringMember("code")
    reader.feed(text)

    with pytest.raises(ArgumentsError, match="'code'"):
        reader.end()


def test_a_long_value_in_small_pieces_is_read_in_good_time():
    value = "x = 'é'\n" * 20_000
    text = json.dumps({"code": value})
    reader = StringMember("code")

    given_out = "".join(reader.feed(text[start : start + 7]) for start in range(0, len(text), 7))

    assert given_out + reader.rest() == value
