"""The example test of the document that this product grew from, in Python, over HTTP, with a model that plays a script."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from uuid import uuid4

import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from bichat.clients import AssistantsClient, ResponsesClient
from bichat.storage.nothing import NoStorage
from bichat.testing.upstream import Answer, Call, Upstream

from .test_files_and_containers import _own, _site

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

#: What a model writes, without a library: bars of their lengths, in black on white.
DRAWN = """
import struct, zlib
sales = {"North": 100, "South": 150, "East": 120, "West": 90}
rows = b"".join((b"\\0" + b"\\0" * value + b"\\xff" * (160 - value)) * 20 for value in sales.values())
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
with open("/mnt/data/chart.png", "wb") as file:
    file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">2I5B", 160, 80, 8, 0, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
"""
SCRIPT = [
    Answer(Call("python", json.dumps({"code": "import matplotlib_of_old"}))),
    Answer("That is not there. ", Call("python", json.dumps({"code": DRAWN}))),
    Answer("Here is the chart: ", "sandbox:/mnt/data/chart.png"),
]


@pytest.fixture(autouse=True)
def served(monkeypatch, tmp_path, bare_settings) -> Generator[None]:
    """`bichat serve` with a model behind it, where programs for OpenAI look for their service."""
    with Upstream(SCRIPT) as upstream:
        settings = replace(
            _own(bare_settings(), tmp_path),
            model="openai:gpt-test",
            model_base_url=upstream.url,
            model_api_key=SecretStr("sk-of-the-provider"),
        )
        with _site(settings, planners=None) as site:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{site.root}/v1")
            yield
            left = site.client()
            assert [each for each in left.containers.list() if each.status == "running"] == []
            assert list(left.files.list()) == []


@pytest.mark.parametrize("new_client", [AssistantsClient, ResponsesClient])
async def test_code_interpreter(new_client):
    api_key = "sk-..."

    client = AsyncOpenAI(api_key=api_key)
    storage = NoStorage()
    assistants = new_client(client, storage)

    outputs = await assistants.execute_code_interpreter(
        uuid4(),
        "Create a bar chart: North=100, South=150, East=120, West=90",
    )

    assert outputs
    assert outputs[0].name == "chart.png"
    assert outputs[0].mime_type == "image/png"
    await client.close()
