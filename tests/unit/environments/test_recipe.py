from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bichat.errors import UserInputError
from bichat.sandbox.environments import recipe
from bichat.sandbox.environments.recipe import (
    BUILT_IN,
    Recipe,
    built_in_recipe,
    check_name,
    pinned_versions,
    required_names,
)

HERE = Path(recipe.__file__).parent
#: The files that decide what a build adds to the packages.  When a change to one makes this test fail, put the new hash
#: here; where the change alters what comes out, raise `recipe.BUILDER_VERSION` too, or people keep what is built already.
FURNITURE = {5: "6d89d4cab395e9d66930dc1e9b283ef38645d8c39679c4a1777c31ea00310cfd"}


def test_environments_are_built_again_when_what_is_put_into_them_has_changed():
    files = [HERE / "bichat_site.pth", HERE / "make_fonts.py", *sorted((HERE / "bichat_site").glob("*.py"))]
    content = b"".join(file.read_bytes() for file in files)

    assert {recipe.BUILDER_VERSION: hashlib.sha256(content).hexdigest()} == FURNITURE


@pytest.mark.parametrize("name", ["data", "finance", "a", "my-set_2"])
def test_ordinary_names_are_taken(name: str):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/etc", "Data", "2fast", "-r", "a b", "a\n", "a" * 41, "é", ".lock", "a\0"]
)
def test_names_that_could_be_paths_or_options_are_refused(name: str):
    with pytest.raises(UserInputError):
        check_name(name)


def test_another_lock_or_name_of_it_gives_another_folder():
    one, other = Recipe(name="a", lock="x==1"), Recipe(name="a", lock="x==2")

    assert one.key != other.key
    assert one.key == Recipe(name="b", lock="x==1").key


def test_the_pins_of_a_lock_are_read_by_their_normalised_names():
    lock = "Foo_Bar==1.0 \\\n    --hash=sha256:ab\nbaz==2.0.post1 ; sys_platform == 'win32' \\\n    --hash=sha256:cd\n"

    assert pinned_versions(lock) == {"foo-bar": "1.0", "baz": "2.0.post1"}


def test_what_a_requirements_file_asks_for_is_found_among_its_options_and_comments():
    text = (
        "# a comment\n--index-url x\nYFinance>=1 # why\n  ta_lib[all]; python_version > '3'\n-r more.txt\n./own.whl\n"
    )

    assert required_names(text) == ("yfinance", "ta-lib")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_shipped_lock_pins_and_hashes_all_that_is_asked_for_and_names_no_address(name: str):
    lock = built_in_recipe(name).lock
    pins = pinned_versions(lock)
    entries = lock.split("\n    --hash")[0:1] + [entry for entry in lock.splitlines() if "==" in entry]

    assert set(required_names((HERE / f"{name}.in").read_text(encoding="utf-8"))) <= set(pins)
    assert "://" not in lock
    assert "/" not in lock
    assert len(entries) > len(pins) > 50
    assert lock.count("--hash=sha256:") >= len(pins)


def test_one_version_of_each_package_serves_every_python():
    pinned = [line.partition("==")[0] for line in built_in_recipe("data").lock.splitlines() if "==" in line]

    assert len(pinned) == len(set(pinned))
