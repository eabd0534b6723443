from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bichat.errors import NotFoundError, UserInputError
from bichat.sandbox.environments import Environment, EnvironmentStore
from bichat.sandbox.environments.builder import Builder
from bichat.sandbox.environments.environment import MANIFEST
from bichat.sandbox.environments.recipe import Recipe, built_in_recipe

MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)


def put(data_dir: Path, recipe: Recipe, *, key: str | None = None, created_at: datetime = MORNING) -> Environment:
    """A finished build of `recipe`, as far as a store looks."""
    folder = data_dir / "environments" / recipe.name / (key or recipe.key)
    folder.mkdir(parents=True)
    environment = Environment(
        name=recipe.name,
        path=folder,
        base_prefix=Path("/usr"),
        base_python=Path("/usr/bin/python3"),
        python_version="3.11.7",
        lock_hash=recipe.lock_hash,
        created_at=created_at,
    )
    (folder / MANIFEST).write_text(json.dumps(environment.to_dict()), encoding="utf-8")
    return environment


def own(lock: str = "x==1") -> Recipe:
    return Recipe(name="finance", lock=lock)


def test_a_built_in_environment_is_found_once_it_is_built(tmp_path: Path):
    store = EnvironmentStore(tmp_path)

    assert store.find("data") is None
    built = put(tmp_path, built_in_recipe("data"))
    assert store.find("data") == store.get("data") == built


def test_a_build_of_an_older_lock_is_not_used(tmp_path: Path):
    put(tmp_path, Recipe(name="data", lock="pandas==1.0"))

    assert EnvironmentStore(tmp_path).find("data") is None


def test_a_build_for_another_python_or_by_another_builder_is_not_used(tmp_path: Path):
    put(tmp_path, built_in_recipe("data"), key="0123456789ab")
    put(tmp_path, own(), key="0123456789ab")
    store = EnvironmentStore(tmp_path)

    assert store.find("data") is None
    assert store.list() == []


def test_an_unfinished_build_is_not_used(tmp_path: Path):
    (put(tmp_path, built_in_recipe("data")).path / MANIFEST).unlink()

    assert EnvironmentStore(tmp_path).find("data") is None


def test_what_a_killed_builder_left_is_never_an_environment(tmp_path: Path):
    put(tmp_path, own(), key=".building-123")

    with pytest.raises(NotFoundError):
        EnvironmentStore(tmp_path).find("finance")


def test_asking_for_what_is_not_built_yet_says_how_it_is_built(tmp_path: Path):
    with pytest.raises(NotFoundError) as error:
        EnvironmentStore(tmp_path).get("data")

    assert "bichat env build data" in error.value.remedy


def test_an_unknown_name_is_answered_with_those_that_there_are(tmp_path: Path):
    put(tmp_path, own())

    with pytest.raises(NotFoundError, match="data, finance"):
        EnvironmentStore(tmp_path).get("sales")


def test_the_build_that_was_made_last_is_the_one_in_use(tmp_path: Path):
    put(tmp_path, own("x==2"), created_at=MORNING + timedelta(hours=1))
    put(tmp_path, own("x==1"))
    store = EnvironmentStore(tmp_path)

    assert store.get("finance").path.name == own("x==2").key
    assert [environment.name for environment in store.list()] == ["finance"]


def test_the_build_that_was_made_last_is_the_one_in_use_also_when_the_clock_was_set_back(tmp_path: Path):
    put(tmp_path, own("x==2"), created_at=datetime.now(UTC) + timedelta(days=1))
    other = put(tmp_path, own("x==1"))
    store = EnvironmentStore(tmp_path)

    with Builder(other.path.parent, lambda _stage, _detail: None) as builder:
        builder.choose(other)

    assert store.get("finance").path == other.path


def test_a_removed_environment_is_gone_with_all_its_builds(tmp_path: Path):
    put(tmp_path, own("x==1"))
    put(tmp_path, own("x==2"))
    store = EnvironmentStore(tmp_path)

    store.remove("finance")

    assert store.list() == []
    assert not (tmp_path / "environments" / "finance").exists()
    with pytest.raises(NotFoundError):
        store.remove("finance")


def test_looking_makes_no_folder(tmp_path: Path):
    store = EnvironmentStore(tmp_path / "new")

    assert store.list() == []
    assert store.find("data") is None
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../data", "", "a/b", "."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str):
    store = EnvironmentStore(tmp_path)

    for use in (store.find, store.get, store.build, store.remove):
        with pytest.raises(UserInputError):
            use(name)


def test_a_built_in_name_takes_no_requirements_and_another_needs_them(tmp_path: Path):
    store = EnvironmentStore(tmp_path)

    with pytest.raises(UserInputError):
        store.build("data", requirements=tmp_path / "mine.txt")
    with pytest.raises(UserInputError):
        store.build("mine")
