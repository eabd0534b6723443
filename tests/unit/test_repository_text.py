"""Text on its way into a column and back, and names that are cut to fit one."""

from __future__ import annotations

import json
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bichat.errors import UserInputError
from bichat.repository.ids import new_id
from bichat.repository.pages import Place, place_of
from bichat.repository.text import fit_mime_type, fit_name, plain_json, restored, stored, write_json

#: Lone surrogates and NUL included: a guest names and prints what it likes.
ANYTHING = st.text(st.characters(exclude_categories=()))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANYTHING,
    lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner),
    max_leaves=20,
)


@given(ANYTHING | st.text("␛0af\0\ud800"))
def test_every_text_comes_back_as_it_was_and_lies_in_the_database_as_valid_unicode(text):
    kept = stored(text)

    assert restored(kept) == text
    assert "\0" not in kept
    kept.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0␛")))
def test_ordinary_text_is_stored_to_the_letter(text):
    assert stored(text) == text


@given(ANYTHING, st.integers(0, 300), st.sampled_from(["", ".csv", ".tar.gz", "." + "x" * 30, "\0.\0", "␛"]))
def test_a_name_always_fits_and_short_ones_are_left_alone(start, length, ending):
    name = (start * length)[:600] + ending

    fitted = fit_name(name)

    assert len(stored(fitted)) <= 255
    assert len(stored(name)) > 255 or fitted == name
    assert len(stored(fit_mime_type(name))) <= 100


@given(_VALUES)
def test_json_of_every_kind_is_written_in_ascii_and_read_back_as_it_was_made_plain(value):
    plain = plain_json(value)

    written = write_json(plain)

    assert written.isascii()
    assert "\0" not in written
    assert json.loads(written) == plain


@pytest.mark.parametrize(
    "value",
    [b"x", object(), {1, 2}, 1j, pytest.param(10**20_000, id="a number of 20,001 digits")],
)
def test_what_is_no_json_is_refused(value):
    with pytest.raises(UserInputError):
        plain_json({"a": [value]})


@given(ANYTHING)
def test_no_text_breaks_a_cursor(text):
    try:
        place = place_of(text)
    except UserInputError:
        return
    assert place is None or place_of(place.cursor()) == place


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_cursor_leads_back_to_its_place(moment):
    place = Place(moment, new_id())

    assert place_of(place.cursor()) == place


def test_ids_are_uuids_that_go_up():
    made = [new_id() for _ in range(10_000)]

    assert made == sorted(set(made))
    assert {len(one) for one in made} == {36}
    assert {one[14] for one in made} == {"7"}
