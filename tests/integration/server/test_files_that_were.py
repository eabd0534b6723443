"""Files of containers that code has written over or deleted since: whoever was given their ids still has them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

pytestmark = [pytest.mark.sandbox]

AUTO: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]


def _ran(client, code: str, before: Any = None):
    options = {"previous_response_id": before.id} if before is not None else {}
    return client.responses.create(model="local-python", input=code, tools=AUTO, **options)


def _cited(response):
    (cited,) = response.output[-1].content[0].annotations
    return cited


def _bytes(client, cited):
    return client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id).read()


def test_a_file_that_was_cited_is_had_after_code_has_written_it_again_and_after_it_was_deleted(served, client):
    first = _ran(client, "open('chart.csv', 'w').write('1')")
    second = _ran(client, "open('chart.csv', 'w').write('22')", first)
    was, became = _cited(first), _cited(second)

    assert (_bytes(client, was), _bytes(client, became)) == (b"1", b"22")
    _ran(client, "import os; os.remove('chart.csv')", second)
    assert (_bytes(client, was), _bytes(client, became)) == (b"1", b"22")
    shown = client.containers.files.retrieve(was.file_id, container_id=was.container_id)
    assert (shown.bytes, shown.path, shown.source) == (1, "/mnt/data/chart.csv", "assistant")
    assert list(client.containers.files.list(was.container_id)) == []

    stranger = served.client("globex")
    other = client.containers.create(name="another")
    for who, container in ((stranger, was.container_id), (client, other.id)):
        with pytest.raises(openai.NotFoundError):
            who.containers.files.retrieve(was.file_id, container_id=container)


def test_to_delete_what_was_leaves_what_lies_there_now(client):
    first = _ran(client, "open('a.csv', 'w').write('1')")
    second = _ran(client, "open('a.csv', 'w').write('22')", first)
    was, became = _cited(first), _cited(second)

    client.containers.files.delete(was.file_id, container_id=was.container_id)
    with pytest.raises(openai.NotFoundError):
        _bytes(client, was)
    assert _bytes(client, became) == b"22"
    assert "22" in _ran(client, "print(open('a.csv').read())", second).output_text
    client.containers.files.delete(became.file_id, container_id=became.container_id)
    assert list(client.containers.files.list(became.container_id)) == []


def test_a_callers_file_that_code_has_written_over_is_had_as_he_gave_it(client):
    container = client.containers.create(name="work")
    given = client.containers.files.create(container.id, file=("in.csv", b"theirs"))
    tools: Any = [{"type": "code_interpreter", "container": container.id}]
    client.responses.create(model="local-python", input=f"open({given.path!r}, 'w').write('ours')", tools=tools)

    kept = client.containers.files.content.retrieve(given.id, container_id=container.id)
    assert kept.read() == b"theirs"
    (lying,) = client.containers.files.list(container.id)
    assert (lying.id != given.id, lying.bytes) == (True, 4)
