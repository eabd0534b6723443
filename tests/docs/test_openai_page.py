"""The page of OpenAI's wire names every field that is taken, and every path that is served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bichat.server.app import create_app
from bichat.server.assistants import requests as assistants
from bichat.server.assistants import run_requests as runs
from bichat.server.responses import requests as responses

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "openai.md").read_text(encoding="utf-8")
SECTIONS = {
    "## POST /responses\n": responses.SUPPORTED | responses.IGNORED | set(responses.REFUSED),
    "### POST /assistants, POST /assistants/{id}\n": assistants.ASSISTANT_FIELDS,
    "### POST /threads, POST /threads/{id}\n": assistants.THREAD_FIELDS,
    "### POST /threads/{id}/messages\n": assistants.MESSAGE_FIELDS,
    "### POST /threads/{id}/runs, POST /threads/runs\n": runs.RUN_FIELDS | runs.THREAD_RUN_FIELDS | assistants.IGNORED,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_field_stands_in_the_table_of_its_request(heading):
    table = re.split(r"^#", PAGE.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`([a-z_]+)[`.]", " ".join(cells)))

    assert named == SECTIONS[heading]


def test_every_path_stands_in_the_table_of_endpoints():
    table = PAGE.partition("## Endpoints\n")[2].partition("\n## ")[0]
    paths: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        whole = ""
        for methods, path in re.findall(r"((?:`?(?:GET|POST|DELETE)`?,? ?)+)([/.][^`]*)`", row):
            whole = path if path.startswith("/") else whole + path.removeprefix("...")
            paths.setdefault(_plain(whole), set()).update(re.findall(r"GET|POST|DELETE", methods))
    served: dict[str, set[str]] = {}
    for path, operations in create_app(lambda: pytest.fail("nothing is opened")).openapi()["paths"].items():
        served.setdefault(_plain(path), set()).update(method.upper() for method in operations)

    assert paths == served


def _plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{id}", path.removeprefix("/v1"))
