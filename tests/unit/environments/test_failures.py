"""What a build that failed says, from what uv wrote."""

from __future__ import annotations

import pytest

from bichat.sandbox.environments.programs import failure


@pytest.mark.parametrize(
    "said",
    [
        "error: Failed to fetch: `https://index.example/simple/pandas/`",
        "  Caused by: client error (Connect)",
        "Because pandas was not found in the cache and you require pandas, your requirements are unsatisfiable.",
        "hint: Packages were unavailable because the network was disabled.",
    ],
)
def test_what_could_not_be_fetched_is_named_with_what_to_set(said: str):
    error = failure("installing", ["Resolved 3 packages\n", said + "\n"])

    assert said.strip() in error.message
    assert "UV_DEFAULT_INDEX" in error.remedy


def test_a_full_disk_asks_for_room():
    error = failure("installing", ["error: failed to write to file: No space left on device (os error 28)\n"])

    assert error.remedy.startswith("Make room")


def test_requirements_that_contradict_each_other_are_told_as_uv_tells_them():
    error = failure("resolving", ["x No solution found\n", "Because you require a==1 and a==2, ...\n"])

    assert "a==1 and a==2" in error.message
    assert "UV_DEFAULT_INDEX" not in error.remedy


def test_a_program_that_says_nothing_still_makes_a_sentence():
    assert str(failure("making fonts", [])) == "making fonts failed: the program said nothing"


def test_a_flood_of_words_is_cut_to_its_end():
    error = failure("resolving", [f"{number:04} {'x' * 400}\n" for number in range(100)])

    assert "0099" in error.message
    assert len(error.message) < 2000
