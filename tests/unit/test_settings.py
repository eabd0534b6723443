"""Settings: read once, strictly, from the environment."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from bichat.domain import Limits
from bichat.errors import LimitError, UserInputError
from bichat.settings.doubts import contradictions, misspelt
from bichat.settings.location import data_dir, make_data_dir
from bichat.settings.memory import available_memory, own_memory_limit
from bichat.settings.settings import Caps, load_settings
from bichat.sizes import GIB, MIB, parse_size


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    openai = ("OPENAI_API_KEY", "OPENAI_MODEL")
    for name in ("BICHAT_DATA_DIR", "BICHAT_ENVIRONMENT", "XDG_DATA_HOME", *openai):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_those_that_the_documentation_promises():
    limits = load_settings().limits

    assert limits == Limits(
        timeout_s=300.0,
        memory_bytes=GIB,
        disk_bytes=GIB,
        inodes=20_000,
        cpus=2,
        pids=256,
        output_bytes=MIB,
        output_kill_bytes=64 * MIB,
        artifact_bytes=512 * MIB,
        artifacts=200,
        grace_s=2.0,
        idle_s=1200.0,
        life_s=86400.0,
    )


def test_a_machine_gives_its_memory_out_once_and_no_tenant_gets_all_of_anything():
    settings = load_settings()
    caps, one = settings.caps, settings.limits.memory_bytes + settings.limits.disk_bytes

    assert caps.memory_bytes == max(available_memory(), one)
    assert one <= caps.tenant_memory_bytes <= caps.memory_bytes
    assert caps.tenant_executions < caps.executions
    assert caps.tenant_sessions < caps.sessions
    assert caps.tenant_queue < caps.queue
    assert (caps.queue_wait_s, settings.ready_sandboxes, settings.zygote_life_s) == (30.0, 2, 3600.0)


def test_hundreds_of_processors_give_no_more_memory_out_than_there_is(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(512)))

    settings = load_settings()

    assert settings.caps.executions == 2048
    assert settings.caps.memory_bytes <= max(
        available_memory(), settings.limits.memory_bytes + settings.limits.disk_bytes
    )
    assert settings.limits.cpus == 2


@pytest.mark.parametrize(
    "own, name",
    [("0::/system.slice/bichat.service", "memory.max"), ("3:memory:/docker/1\n0::/", "memory.limit_in_bytes")],
    ids=["v2", "v1"],
)
def test_memory_is_what_the_own_control_group_and_those_above_it_may_have(tmp_path, own, name):
    listed, groups = tmp_path / "cgroup", tmp_path / "groups"
    listed.write_text(own, encoding="utf-8")
    folder = groups / "system.slice" / "bichat.service" if name == "memory.max" else groups / "memory" / "docker" / "1"
    folder.mkdir(parents=True)

    assert own_memory_limit(listed, groups) is None

    (folder / name).write_text("max" if name == "memory.max" else "9223372036854771712", encoding="ascii")
    assert own_memory_limit(listed, groups) is None

    (folder.parent / name).write_text("536870912\n", encoding="ascii")
    assert own_memory_limit(listed, groups) == 512 * MIB

    (folder / name).write_text(str(64 * MIB), encoding="ascii")
    assert own_memory_limit(listed, groups) == 64 * MIB


def test_a_machine_gives_no_more_memory_out_than_its_own_control_group_has(monkeypatch):
    monkeypatch.setattr("bichat.settings.memory.own_memory_limit", lambda: 3 * GIB)

    assert load_settings().caps.memory_bytes == 3 * GIB
    assert load_settings().caps.tenant_memory_bytes == 9 * GIB // 4


@pytest.mark.parametrize(
    "variable, meant",
    [
        ("BICHAT_ISOLATE", "BICHAT_ISOLATION"),
        ("BICHAT_ISLOATION", "BICHAT_ISOLATION"),
        ("BICHAT_DATADIR", "BICHAT_DATA_DIR"),
        ("BICHAT_MEMORY_BYTES", "MEMORY_BYTES"),
    ],
)
def test_a_variable_that_is_called_almost_like_a_setting_is_named_with_it(monkeypatch, variable, meant):
    monkeypatch.setenv(variable, "namespaces")

    (doubt,) = misspelt()

    assert variable in doubt.what
    assert meant in doubt.follows


def test_variables_that_others_set_are_nobodys_mistake(monkeypatch):
    for name in (
        "BICHAT_SERVICE_HOST",
        "BICHAT_PORT",
        "BICHAT_PORT_8400_TCP_ADDR",
        "BICHAT_REQUIRE",
        "BICHAT_ISOLATION",
    ):
        monkeypatch.setenv(name, "landlock")

    assert misspelt() == ()


def test_caps_that_contradict_each_other_are_named(monkeypatch):
    assert contradictions(load_settings()) == ()

    for name, value in (
        ("BICHAT_CAP_SESSIONS", "1"),
        ("BICHAT_CAP_TENANT_SESSIONS", "50"),
        ("BICHAT_CAP_MEMORY_BYTES", "64m"),
    ):
        monkeypatch.setenv(name, value)

    named = [doubt.what.partition(":")[0] for doubt in contradictions(load_settings())]
    assert named == [
        "BICHAT_CAP_TENANT_SESSIONS is above BICHAT_CAP_SESSIONS",
        "BICHAT_CAP_MEMORY_BYTES is below what one session may use",
        "BICHAT_CAP_TENANT_MEMORY_BYTES is below what one session may use",
    ]


def test_caps_and_the_engine_are_set_by_variables_of_their_own(monkeypatch):
    for name, value in (
        ("BICHAT_CAP_SESSIONS", "7"),
        ("BICHAT_CAP_TENANT_MEMORY_BYTES", "2g"),
        ("BICHAT_CAP_QUEUE_WAIT_S", "0.5"),
        ("BICHAT_READY_SANDBOXES", "0"),
        ("BICHAT_ZYGOTE_LIFE_S", "60"),
        ("BICHAT_DEFAULT_IDLE_S", "5"),
        ("BICHAT_MAX_LIFE_S", "10"),
    ):
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert (settings.caps.sessions, settings.caps.tenant_memory_bytes, settings.caps.queue_wait_s) == (7, 2 * GIB, 0.5)
    assert (settings.ready_sandboxes, settings.zygote_life_s) == (0, 60.0)
    assert (settings.limits.idle_s, settings.limits.life_s, settings.bounds.life_s) == (5.0, 10.0, 10.0)


def test_a_tenants_cap_that_nobody_set_gives_way_to_the_one_for_all(monkeypatch):
    monkeypatch.setenv("BICHAT_CAP_SESSIONS", "3")
    monkeypatch.setenv("BICHAT_CAP_MEMORY_BYTES", "1m")
    monkeypatch.setenv("BICHAT_CAP_EXECUTIONS", "2")
    monkeypatch.setenv("BICHAT_CAP_TENANT_EXECUTIONS", "1")

    caps = load_settings().caps

    assert (caps.tenant_sessions, caps.tenant_memory_bytes, caps.tenant_executions) == (3, MIB, 1)


@pytest.mark.parametrize("field", [spec.name for spec in fields(Caps)])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_cap_is_a_number_above_zero(field, value):
    with pytest.raises(UserInputError, match=field):
        Caps(**{field: value})


def test_sizes_may_be_written_with_units(monkeypatch):
    monkeypatch.setenv("BICHAT_DEFAULT_MEMORY_BYTES", "2g")

    assert load_settings().limits.memory_bytes == 2 * GIB


@pytest.mark.parametrize(
    "variable, value",
    [
        ("BICHAT_MAX_PIDS", "many"),
        ("BICHAT_MAX_PIDS", "0"),
        ("BICHAT_DEFAULT_TIMEOUT_S", "inf"),
        ("BICHAT_DEFAULT_TIMEOUT_S", "nan"),
        ("BICHAT_DEFAULT_DISK_BYTES", "plenty"),
        ("BICHAT_CAP_SESSIONS", "0"),
        ("BICHAT_CAP_QUEUE_WAIT_S", "inf"),
        ("BICHAT_CAP_MEMORY_BYTES", "much"),
        ("BICHAT_READY_SANDBOXES", "-1"),
        ("BICHAT_ZYGOTE_LIFE_S", "nan"),
    ],
)
def test_a_bad_value_names_the_variable_and_the_value(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)

    with pytest.raises(UserInputError) as caught:
        load_settings()

    assert variable in caught.value.message
    assert value in caught.value.message


def test_a_bound_below_a_default_that_nobody_set_lowers_it(monkeypatch):
    monkeypatch.setenv("BICHAT_MAX_MEMORY_BYTES", "512m")

    assert load_settings().limits.memory_bytes == 512 * MIB


def test_a_default_that_was_set_above_its_bound_is_refused_at_the_start(monkeypatch):
    monkeypatch.setenv("BICHAT_MAX_MEMORY_BYTES", "512m")
    monkeypatch.setenv("BICHAT_DEFAULT_MEMORY_BYTES", "1g")

    with pytest.raises(LimitError) as caught:
        load_settings()

    assert "BICHAT_DEFAULT_MEMORY_BYTES" in caught.value.message
    assert "BICHAT_MAX_MEMORY_BYTES" in caught.value.message


@pytest.mark.parametrize("variable", ["BICHAT_MAX_MEMROY_BYTES", "BICHAT_DEFAULT_TIMEOUT", "BICHAT_CAP_SESSION"])
def test_a_limit_that_does_not_exist_is_refused_by_name(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")

    with pytest.raises(UserInputError) as caught:
        load_settings()

    assert variable in caught.value.message


def test_the_data_directory_is_the_users_own_unless_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert data_dir() == tmp_path / ".local" / "share" / "bichat"

    monkeypatch.setenv("BICHAT_DATA_DIR", "/srv/bichat")

    assert data_dir() == Path("/srv/bichat")


def test_the_data_directory_is_closed_to_others(tmp_path):
    made = make_data_dir(tmp_path / "a" / "b")

    assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text, size", [("1g", GIB), ("512m", 512 * MIB), ("1.5 GiB", 3 * GIB // 2), ("4096", 4096), (7, 7)]
)
def test_sizes_are_powers_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "-1g", "1 parsec", "0", "1e3", "NaN", "9" * 400])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserInputError):
        parse_size(text)


def test_the_address_of_the_database_is_read_and_not_shown(monkeypatch):
    monkeypatch.setenv("BICHAT_DATABASE_URL", "postgresql+psycopg://ann:s3cr3t@host/db")

    settings = load_settings()

    assert settings.database_url == "postgresql+psycopg://ann:s3cr3t@host/db"
    assert "s3cr3t" not in repr(settings)


@pytest.mark.parametrize(
    "variables, model, base_url, key",
    [
        pytest.param({}, "", "", "", id="nothing"),
        pytest.param({"OPENAI_API_KEY": "k"}, "openai:gpt-4o", "", "k", id="a key for OpenAI"),
        pytest.param({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "o5"}, "openai:o5", "", "k", id="and a model"),
        pytest.param({"OPENAI_API_KEY": "k", "BICHAT_MODEL": "local-python"}, "", "", "", id="none wanted"),
        pytest.param({"OPENAI_API_KEY": "k", "BICHAT_MODEL": "openai:o5"}, "openai:o5", "", "k", id="both"),
        pytest.param(
            {"BICHAT_MODEL": "anthropic:opus", "BICHAT_MODEL_API_KEY": "a", "OPENAI_API_KEY": "k"},
            "anthropic:opus",
            "",
            "a",
            id="Anthropic",
        ),
        pytest.param({"BICHAT_MODEL": "ollama:qwen3:8b"}, "ollama:qwen3:8b", "", "", id="Ollama needs no key"),
        pytest.param(
            {"BICHAT_MODEL": "qwen/q:8b", "BICHAT_MODEL_BASE_URL": "http://h:1/v1", "OPENAI_API_KEY": "k"},
            "openai:qwen/q:8b",
            "http://h:1/v1",
            "",
            id="OpenAI's key goes nowhere else",
        ),
    ],
)
def test_a_model_is_configured_with_the_key_that_is_meant_for_it(monkeypatch, variables, model, base_url, key):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert (settings.model, settings.model_base_url, settings.model_api_key.get_secret_value()) == (
        model,
        base_url,
        key,
    )
    assert not key or f"'{key}'" not in repr(settings)


@pytest.mark.parametrize(
    "variables",
    [
        {"BICHAT_MODEL": "gpt-4o"},
        {"BICHAT_MODEL": "acme:model"},
        {"BICHAT_MODEL": "openai:gpt-4o"},
        {"BICHAT_MODEL": "openai:", "BICHAT_MODEL_API_KEY": "k"},
        {"BICHAT_MODEL_BASE_URL": "http://127.0.0.1:1/v1"},
        {"BICHAT_MODEL": "x", "BICHAT_MODEL_BASE_URL": "ftp://h"},
        {"BICHAT_MODEL": "x", "BICHAT_MODEL_BASE_URL": "http://user:pass@h"},
        {"BICHAT_MODEL_SEES_IMAGES": "perhaps"},
    ],
)
def test_a_model_that_cannot_be_reached_is_said_at_the_start(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(UserInputError, match="BICHAT_MODEL"):
        load_settings()
