"""The page of OpenAI's wire names every field that is taken, and every path that is served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest

from bichat.server.app import create_app
from bichat.server.reference import page

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "openai.md").read_text(encoding="utf-8")
#: Bodies of the OpenAPI document, by the sections that tell of their fields.
SECTIONS = {
    "## POST /responses\n": ("ResponseRequest",),
    "### POST /assistants, POST /assistants/{id}\n": ("AssistantRequest", "AssistantChange"),
    "### POST /threads, POST /threads/{id}\n": ("ThreadRequest", "ThreadChange"),
    "### POST /threads/{id}/messages\n": ("MessageRequest",),
    "### POST /threads/{id}/runs, POST /threads/runs\n": ("RunRequest", "ThreadAndRunRequest"),
    "## POST /chat/completions\n": ("ChatRequest",),
    "## POST /containers\n": ("ContainerRequest",),
}


@pytest.fixture(scope="module")
def document():
    return create_app(lambda: pytest.fail("nothing is opened")).openapi()


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_field_stands_in_the_table_of_its_request(document, heading):
    table = re.split(r"^#", PAGE.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`([a-z_]+)[`.]", " ".join(cells)))
    schemas = document["components"]["schemas"]
    taken = {field for name in SECTIONS[heading] for field in schemas[name]["properties"]}

    assert named | {"include"} == taken | {"include"}  # of the Assistants API's: ignored everywhere


def test_every_parameter_is_named(document):
    operations = [each for path in document["paths"].values() for each in path.values()]
    parameters = {each["name"] for operation in operations for each in operation["parameters"] if each["in"] == "query"}

    assert {name for name in parameters if f"`{name}`" not in PAGE} == set()


def test_every_path_stands_in_the_table_of_endpoints(document):
    table = PAGE.partition("## Endpoints\n")[2].partition("\n## ")[0]
    paths: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        whole = ""
        for methods, path in re.findall(r"((?:`?(?:GET|POST|DELETE)`?,? ?)+)([/.][^`]*)`", row):
            whole = path if path.startswith("/") else whole + path.removeprefix("...")
            paths.setdefault(_plain(whole), set()).update(re.findall(r"GET|POST|DELETE", methods))
    served: dict[str, set[str]] = {}
    for path, operations in document["paths"].items():
        served.setdefault(_plain(path), set()).update(method.upper() for method in operations)

    assert paths == served


def _plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{id}", path.removeprefix("/v1"))


def test_every_operation_says_what_it_takes_and_gives(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            assert operation["summary"], place
            assert operation["tags"], place
            assert {each["name"] for each in operation["parameters"] if each["in"] == "path"} == set(
                re.findall(r"\{(\w+)\}", path)
            )
            assert operation["responses"], place
            if path.startswith("/v1/"):
                assert {"400", "401", "404", "429", "500"} <= set(operation["responses"]), place
    assert set(document["components"]["securitySchemes"]) == {"key", "azure"}


def test_what_the_document_refers_to_is_there(document):
    schemas, answers = document["components"]["schemas"], document["components"]["responses"]
    text = json.dumps(document)
    referred = set(re.findall(r'"#/components/(\w+)/(\w+)"', text))

    assert {name for kind, name in referred if kind == "schemas"} == set(schemas)
    assert {name for kind, name in referred if kind == "responses"} == set(answers)
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_the_page_of_the_server_shows_all_of_it_and_loads_nothing(document):
    shown = page(document)

    for path, operations in document["paths"].items():
        assert all(f"<code>{method.upper()} {path}</code>" in shown for method in operations), path
    anchors = set(re.findall(r'id="([^"]+)"', shown))
    links = set(re.findall(r'href="([^"]+)"', shown))
    assert {link.removeprefix("#") for link in links} - {"openapi.json"} <= anchors
    assert re.findall(r"<(script|link|img|iframe)|\bsrc=|url\(|@import", shown) == []
