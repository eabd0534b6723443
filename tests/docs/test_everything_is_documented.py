"""Each setting, command, option, status and exception stands in its reference page, with its present default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from bichat import BichatError, ExecutionResult, Limits, Status
from bichat.cli.app import app
from bichat.clients import AssistantsClient, ClientOptions, ResponsesClient
from bichat.executor import CodeInterpreterResult, CodeRequest, RemoteObject
from bichat.settings.settings import DEFAULT_BOUNDS, Caps, Settings
from bichat.sizes import parse_size

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def _rows(page: str) -> dict[str, list[str]]:
    """The tables' rows by their first cell, bare."""
    cells = [[cell.strip() for cell in row.strip("| \n").split(" | ")] for row in page.splitlines() if row[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in cells}


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(subcommands := getattr(command, "commands", None), dict):
        for name, sub in subcommands.items():
            yield from _commands(sub, f"{path} {name}")
    else:
        yield path, command


@pytest.mark.parametrize("limit", list(asdict(Limits())))
def test_a_limit_is_documented_with_its_default_and_bound(limit: str):
    default, bound, meaning = _rows(_page("settings.md"))[limit.upper()]

    assert parse_size(default) == getattr(Limits(), limit)
    assert parse_size(bound) == getattr(DEFAULT_BOUNDS, limit)
    assert meaning


@pytest.mark.parametrize(
    "setting", [name for name in Settings.__annotations__ if name not in {"limits", "bounds", "caps"}]
)
def test_a_setting_is_documented(setting: str):
    assert f"BICHAT_{setting.upper()}" in _rows(_page("settings.md"))


@pytest.mark.parametrize("cap", list(asdict(Caps())))
def test_a_cap_is_documented(cap: str):
    assert f"BICHAT_CAP_{cap.upper()}" in _rows(_page("settings.md"))


@pytest.mark.parametrize(
    "path, command", [pytest.param(*pair, id=pair[0]) for pair in _commands(typer.main.get_command(app), "bichat")]
)
def test_a_command_is_documented_with_every_option(path: str, command: Any):
    page = _page("commands.md")
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("-")}

    assert path in page
    assert [name for name in options if not re.search(rf"(?<![\w-]){name}(?![\w-])", page)] == []


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_documented(status: Status):
    assert status.value in _rows(_page("results.md"))


@pytest.mark.parametrize("field", ExecutionResult.__dataclass_fields__)
def test_a_field_of_a_result_is_documented(field: str):
    assert f"`{field}`" in _page("results.md") or f"`result.{field}`" in _page("results.md")


@pytest.mark.parametrize("option", fields(ClientOptions), ids=lambda option: option.name)
def test_an_option_of_clients_is_documented_with_its_default(option: Any):
    section = _page("clients.md").partition("## Options\n")[2].partition("\n## ")[0]
    default, meaning = _rows(section)[option.name]

    assert default == ('`""`' if option.default == "" else f"`{option.default}`") or option.name == "instructions"
    assert meaning


@pytest.mark.parametrize("kind", [CodeRequest, CodeInterpreterResult, RemoteObject])
def test_a_field_of_what_executors_take_and_give_is_documented(kind: Any):
    assert [field.name for field in fields(kind) if f"`{field.name}`" not in _page("clients.md")] == []


@pytest.mark.parametrize("client", [AssistantsClient, ResponsesClient])
def test_a_public_name_of_clients_is_documented(client: type[Any]):
    names = {name for name in dir(client) if not name.startswith("_")} - {"kind"}
    names |= set(inspect.signature(client).parameters)

    assert [name for name in names if not re.search(rf"`{name}[`(]", _page("clients.md"))] == []


def test_every_exception_is_documented_with_its_code():
    def below(kind: type[BichatError]) -> Iterator[type[BichatError]]:
        yield kind
        for sub in kind.__subclasses__():
            yield from below(sub)

    rows = _rows(_page("results.md"))
    # Those of the server never leave it: its answers are documented in openai.md.
    kinds = [
        kind
        for kind in below(BichatError)
        if kind is not BichatError and not kind.__module__.startswith("bichat.server")
    ]

    assert {kind.__name__: rows[kind.__name__][0] for kind in kinds} == {
        kind.__name__: f"`{kind.code}`" for kind in kinds
    }
    assert BichatError.code in _page("results.md")
