"""Files and containers with the official client, in its strict mode, over HTTP; keys, and who may come in."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2 as httpx
import openai
import pytest
import uvicorn
from openai import OpenAI

from bichat.conversation.planner import Planners
from bichat.repository.opening import open_repository
from bichat.repository.records import Policy
from bichat.server import models
from bichat.server.app import create_app
from bichat.server.connection import Connection
from bichat.server.keys import new_key
from bichat.server.opening import open_services
from bichat.testing.planner import ScriptedPlanner

from .conftest import listen

pytestmark = [pytest.mark.sandbox]

_NO_MODEL = ScriptedPlanner([])


@dataclass
class Site:
    """A running server of the whole application."""

    root: str
    database: str
    clients: ExitStack

    @property
    def port(self) -> int:
        return int(self.root.rpartition(":")[2])

    def client(self, key: str = "anything") -> OpenAI:
        return self.clients.enter_context(
            OpenAI(base_url=f"{self.root}/v1", api_key=key, max_retries=0, timeout=30, _strict_response_validation=True)
        )

    def key(self, tenant: str, **others: Any) -> str:
        """A new key of a tenant's."""
        key = new_key(tenant, **others)

        async def add() -> None:
            async with open_repository(self.database) as repository:
                await repository.keys.add(tenant, key.record)

        anyio.run(add)
        return key.secret


@contextmanager
def _site(settings: Any, *, is_local: bool = True, planners: Planners | None = _NO_MODEL) -> Generator[Site]:
    """`planners`: None for those of the settings."""
    application = create_app(lambda: open_services(settings, planners=planners, preload=False), is_local=is_local)
    listening = listen()
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="on", http=Connection))
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    try:
        root = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=3), timeout=30) as looking:
            while looking.get(f"{root}/readyz").status_code != 200:
                assert thread.is_alive()
        with ExitStack() as clients:
            yield Site(root, settings.database_url, clients)
    finally:
        server.should_exit = True
        thread.join()


def _own(settings: Any, folder: Any) -> Any:
    return replace(
        settings,
        database_url=f"sqlite+aiosqlite:///{folder}/bichat.db",
        storage_url=f"file://{folder}/files",
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory, bare_settings) -> Generator[Site]:
    """Without keys."""
    with _site(_own(bare_settings(), tmp_path_factory.mktemp("site"))) as running:
        yield running


@pytest.fixture(scope="module")
def closed_site(tmp_path_factory, bare_settings) -> Generator[Site]:
    """One that others reach."""
    with _site(_own(bare_settings(), tmp_path_factory.mktemp("closed")), is_local=False) as running:
        yield running


@pytest.fixture
def client(site) -> OpenAI:
    return site.client()


def test_a_file_is_uploaded_listed_read_and_deleted(client):
    made = client.files.create(file=("../sales data.csv", b"a,b\n1,2\n"), purpose="assistants")
    later = client.files.create(
        file=("x.bin", b""), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )

    assert (made.filename, made.bytes, made.purpose, made.status) == ("sales data.csv", 8, "assistants", "processed")
    assert later.expires_at == later.created_at + 3600
    assert client.files.retrieve(made.id) == made
    assert [file.id for file in client.files.list(limit=1)][:2] == [later.id, made.id]
    assert [file.id for file in client.files.list(purpose="assistants", order="asc")] == [made.id]
    content = client.files.content(made.id)
    assert content.read() == b"a,b\n1,2\n"
    assert content.response.headers["content-disposition"].startswith("attachment;")
    part = client.with_options(default_headers={"Range": "bytes=2-4"}).files.content(made.id)
    assert (part.read(), part.response.status_code) == (b"b\n1", 206)
    assert client.files.delete(made.id).deleted
    client.files.delete(later.id)
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(made.id)


@pytest.mark.parametrize(
    "fields, files, param",
    [
        ({}, {"file": b"x"}, "purpose"),
        ({"purpose": "fun"}, {"file": b"x"}, "purpose"),
        ({"purpose": "assistants"}, {}, None),
        ({"purpose": "assistants", "file": "text"}, {"other": b""}, "file"),
        ({"purpose": "assistants", "expires_after[anchor]": "now"}, {"file": b"x"}, "expires_after.anchor"),
        ({"purpose": "assistants", "expires_after[anchor]": "created_at"}, {"file": b"x"}, "expires_after.seconds"),
    ],
)
def test_an_upload_that_cannot_be_is_refused_with_the_field_that_is_wrong(site, fields, files, param):
    answer = httpx.post(f"{site.root}/v1/files", data=fields, files=files)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_a_container_has_files_keeps_them_and_is_deleted(client):
    file = client.files.create(file=("sales.csv", b"1"), purpose="assistants")
    container = client.containers.create(
        name="work", file_ids=[file.id], memory_limit="1g", expires_after={"anchor": "last_active_at", "minutes": 5}
    )

    assert (container.name, container.status, container.memory_limit) == ("work", "running", "1g")
    assert container.expires_after is not None
    assert container.expires_after.minutes == 5
    (mounted,) = client.containers.files.list(container.id)
    assert (mounted.path, mounted.source) == (f"/mnt/data/{file.id}-sales.csv", "user")
    put = client.containers.files.create(container.id, file=("a b.txt", b"hello"))
    assert put.path.endswith("-a b.txt")
    assert client.containers.files.content.retrieve(put.id, container_id=container.id).read() == b"hello"
    copied = client.containers.files.create(container.id, file_id=file.id)
    assert copied.id == mounted.id
    client.containers.files.delete(put.id, container_id=container.id)
    assert [each.id for each in client.containers.files.list(container.id)] == [mounted.id]
    with pytest.raises(openai.NotFoundError):
        client.containers.files.retrieve(put.id, container_id=container.id)
    assert container.id in [each.id for each in client.containers.list()]
    client.containers.delete(container.id)
    with pytest.raises(openai.NotFoundError):
        client.containers.retrieve(container.id)


@pytest.mark.parametrize(
    "asked, param",
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "memory_limit": "2g"}, "memory_limit"),
        ({"name": "x", "memory_limit": "64g"}, "memory_limit"),
        ({"name": "x", "expires_after": {"anchor": "last_active_at", "minutes": 100_000}}, "expires_after.minutes"),
        ({"name": "x", "network_policy": {"type": "allowlist", "allowed_domains": ["a.com"]}}, "network_policy"),
        ({"name": "x", "file_ids": ["file-nope"]}, "id"),
        ({"name": "x", "skills": [{}]}, "skills"),
        ({"name": "x", "foo": 1}, "foo"),
    ],
)
def test_a_container_that_cannot_be_is_refused(site, asked, param):
    answer = httpx.post(f"{site.root}/v1/containers", json=asked)

    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("given", ["..", ".", "é" * 400 + ".csv"])
def test_a_file_has_a_name_that_any_folder_can_have(client, given):
    uploaded = client.files.create(file=(given, b"1"), purpose="assistants")
    container = client.containers.create(name="names", file_ids=[uploaded.id])
    put = client.containers.files.create(container.id, file=(given, b"22"))

    assert uploaded.filename.strip(".")
    assert sorted(file.bytes for file in client.containers.files.list(container.id)) == [1, 2]
    assert len(put.path.rpartition("/")[2].encode()) <= 255
    assert not put.path.endswith("-.." if given == ".." else "-.")


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/v1/nope"), ("PUT", "/v1/files"), ("GET", "/nothing"), ("POST", "/v1/files/file-1/content")],
)
def test_what_is_not_served_is_said_in_the_wire_s_own_shape(site, method, path):
    answer = httpx.request(method, site.root + path)

    assert answer.status_code in (404, 405)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


def test_the_page_of_the_endpoints_may_load_and_run_nothing(site):
    answer = httpx.get(f"{site.root}/reference")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "POST /v1/responses" in answer.text


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"name":' * 5_000, b"{", b"\xff", b"[]", b"null"])
def test_bodies_that_are_no_json_objects_are_refused(site, body):
    answer = httpx.post(f"{site.root}/v1/containers", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(site):
    answer = httpx.post(f"{site.root}/v1/containers", content=b" " * (33 << 20))

    assert answer.status_code == 413


def test_json_that_calls_itself_a_form_may_be_no_larger(site):
    answer = httpx.post(
        f"{site.root}/v1/containers",
        content=(b" " * (1 << 20) for _ in range(33)),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )

    assert answer.status_code == 413


def test_a_text_without_an_end_is_refused_in_time_that_grows_with_its_length(site):
    body = b"[" * 201 + b'"' + b'\\"' * (4 << 20)  # hours, where each quote is where a text could begin

    answer = httpx.post(f"{site.root}/v1/containers", content=body, timeout=30)

    assert answer.status_code == 400


@pytest.mark.parametrize("values", [b"{},", b'"",', b"1,", b'[1,"a"],'], ids=["objects", "texts", "numbers", "arrays"])
def test_more_values_than_anybody_needs_are_refused_before_they_are_made(site, values):
    body = b'{"x":[' + values * (2_000_000 // len(values)) + b"0]}"

    answer = httpx.post(f"{site.root}/v1/containers", content=body, timeout=30)

    assert answer.status_code == 400
    assert "more than 200,000 values" in answer.json()["error"]["message"]


def test_lists_can_be_emptied_while_they_are_read(closed_site):
    with closed_site.client(closed_site.key("paging")) as client:
        for number in range(3):
            client.files.create(file=(f"{number}.txt", b"x"), purpose="assistants")
        for order in ("desc", "asc"):
            kept = client.files.create(file=("kept.txt", b"x"), purpose="assistants")
            seen = []
            for file in client.files.list(limit=1, order=order):
                seen.append(file.id)
                if file.id != kept.id:
                    client.files.delete(file.id)
            assert len(seen) == len(set(seen)) == (4 if order == "desc" else 2)
        with pytest.raises(openai.BadRequestError):
            client.files.list(after="cntr_" + "0" * 32)


def test_an_error_of_ours_has_the_id_by_which_the_log_knows_it(site, monkeypatch, caplog):
    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(models, "_model", broken)

    answer = httpx.get(f"{site.root}/v1/models")

    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "broken" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /v1/models HTTP/1.1\r\nhost: local",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /he",
        b"POST /v1/containers HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=["nothing", "part of a head", "part of a second head", "part of a body"],
)
def test_who_begins_a_request_and_says_no_more_is_not_waited_for(site, monkeypatch, sent):
    monkeypatch.setattr(Connection, "head_s", 0.2)
    monkeypatch.setattr(Connection, "body_s", 0.2)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as slow:
        slow.sendall(sent)
        with suppress(ConnectionResetError):
            while slow.recv(1 << 16):
                pass  # until it is closed; a time-out is an error


def test_a_body_that_comes_byte_by_byte_has_its_time_in_all(site, monkeypatch):
    monkeypatch.setattr(Connection, "body_s", 0.3)
    with socket.create_connection(("127.0.0.1", site.port), timeout=0.05) as slow:
        slow.sendall(b"POST /v1/containers HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                try:
                    if not slow.recv(1 << 16):
                        break
                except TimeoutError:
                    slow.sendall(b"x")


def test_what_is_left_of_a_body_after_its_answer_is_not_waited_for(closed_site, monkeypatch):
    monkeypatch.setattr(Connection, "linger_s", 0.2)
    with socket.create_connection(("127.0.0.1", closed_site.port), timeout=20) as slow:
        slow.sendall(b"POST /v1/containers HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 401")
        with suppress(ConnectionError):
            while slow.recv(1 << 16):
                slow.sendall(b"x")


def test_one_connection_more_than_there_may_be_is_closed(site, monkeypatch):
    monkeypatch.setattr(Connection, "most", 0)
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as one, suppress(ConnectionError):
        assert one.recv(1) == b""


def test_large_bodies_are_taken_a_few_at_a_time_and_small_ones_beside_them(closed_site):
    key = closed_site.key("many")
    head = f"POST /v1/containers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: "
    with ExitStack() as held:
        begun = [held.enter_context(socket.create_connection(("127.0.0.1", closed_site.port), 20)) for _ in range(5)]
        for connection in begun:  # 155 MiB together, where one key may have 128
            connection.sendall(f"{head}{31 << 20}\r\n\r\n{{".encode())
        answered, *_ = select.select(begun, [], [], 20)[0]
        told = answered.recv(1 << 16)
        assert told.startswith(b"HTTP/1.1 429")
        assert b"retry-after" in told
        assert httpx.post(f"{closed_site.root}/v1/containers", json={}, headers={"api-key": key}).status_code == 400


def test_a_file_above_the_quota_is_refused_before_it_is_sent(closed_site):
    key = closed_site.key("full")

    async def limit() -> None:
        async with open_repository(closed_site.database) as repository:
            await repository.tenants.set_policy("full", Policy(quota_bytes=1 << 20))

    anyio.run(limit)
    head = f"host: localhost\r\napi-key: {key}\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", closed_site.port), timeout=20) as connection:
        connection.sendall(f"POST /v1/files HTTP/1.1\r\n{head}content-length: 100000000\r\n\r\n".encode())

        answer = b""
        while b"}}" not in answer:
            answer += connection.recv(1 << 16)

    assert answer.startswith(b"HTTP/1.1 4")
    assert b"raise the quota" in answer


@pytest.mark.parametrize("coding", ["utf-16", "utf-32-le", "latin-1"])
def test_json_comes_in_utf_8_alone(site, coding):
    answer = httpx.post(f"{site.root}/v1/containers", content='{"name": "ä"}'.encode(coding))

    assert answer.status_code == 400


def test_who_takes_nothing_of_an_answer_is_not_waited_for(site, client, monkeypatch):
    file = client.files.create(file=("large", b"x" * (24 << 20)), purpose="assistants")
    monkeypatch.setattr(Connection, "answer_s", 0.2)
    ended = threading.Event()
    lost = Connection.connection_lost
    monkeypatch.setattr(Connection, "connection_lost", lambda self, exc: (lost(self, exc), ended.set())[0])
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as slow:
        slow.sendall(f"GET /v1/files/{file.id}/content HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

        assert ended.wait(20)


def test_azure_s_clients_find_the_same_things(site, client):
    with openai.AzureOpenAI(
        azure_endpoint=site.root, api_key="anything", api_version="2024-10-21", max_retries=0
    ) as azure:
        file = azure.files.create(file=("a.txt", b"x"), purpose="assistants")

    assert client.files.retrieve(file.id).filename == "a.txt"


def test_pages_of_other_sites_and_other_names_of_this_machine_are_kept_out(site):
    for headers in (
        {"Host": "evil.example"},
        {"Host": "[::1"},
        {"Host": "[localhost]"},
        {"Origin": "http://["},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert httpx.get(f"{site.root}/v1/models", headers=headers).status_code == 403
    own = {"Origin": site.root, "Sec-Fetch-Site": "same-origin"}
    answer = httpx.get(f"{site.root}/v1/models", headers=own)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_server_that_others_reach_lets_nobody_in_without_a_good_key_and_tenants_see_their_own(closed_site):
    with pytest.raises(openai.AuthenticationError) as refused:
        closed_site.client().models.list()
    assert refused.value.code == "invalid_api_key"
    assert httpx.get(f"{closed_site.root}/v1/models").status_code == 401
    ann, bob = closed_site.client(closed_site.key("ann")), closed_site.client(closed_site.key("bob"))

    file = ann.files.create(file=("a.txt", b"ann's"), purpose="assistants")
    container = ann.containers.create(name="ann's", file_ids=[file.id])

    assert list(bob.files.list()) == []
    assert list(bob.containers.list()) == []
    (inner,) = ann.containers.files.list(container.id)
    for call in (
        lambda: bob.files.retrieve(file.id),
        lambda: bob.files.content(file.id),
        lambda: bob.files.delete(file.id),
        lambda: bob.containers.retrieve(container.id),
        lambda: bob.containers.delete(container.id),
        lambda: bob.containers.files.list(container.id),
        lambda: bob.containers.files.create(container.id, file=("x", b"")),
        lambda: bob.containers.files.content.retrieve(inner.id, container_id=container.id),
        lambda: bob.containers.create(name="x", file_ids=[file.id]),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    ann.containers.delete(container.id)


def test_a_key_that_has_expired_opens_nothing(closed_site):
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(openai.AuthenticationError):
        closed_site.client(closed_site.key("ann", expires_at=past)).models.list()
    for header in ({"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {"api-key": "x" * 10_000}):
        assert httpx.get(f"{closed_site.root}/v1/models", headers=header).status_code == 401


def test_the_state_of_the_server_needs_no_key_and_tells_how_strong_its_walls_are(closed_site):
    health = httpx.get(f"{closed_site.root}/healthz").json()

    assert health["status"] == "ok"
    assert httpx.get(f"{closed_site.root}/readyz").json() == {"status": "ready"}


def test_a_key_that_asks_for_too_much_is_told_when_to_come_back(tmp_path, bare_settings):
    settings = replace(_own(bare_settings(), tmp_path), key_requests_per_minute=5, key_requests_at_once=3)
    with _site(settings) as busy:
        answers = [httpx.get(f"{busy.root}/v1/models") for _ in range(7)]

        assert [answer.status_code for answer in answers[:4]] == [200] * 4
        assert answers[0].headers["x-ratelimit-limit-requests"] == "5"
        refused = answers[-1]
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{busy.root}/healthz").status_code == 200
