"""`bichat serve` and `bichat key` as an operator uses them: started, refused, stopped, killed."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import openai
import pytest

pytestmark = [pytest.mark.sandbox]


@pytest.fixture
def bichat(own_data_dir, monkeypatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    monkeypatch.setenv("BICHAT_DATA_DIR", str(own_data_dir))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bichat", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return call


def _code(seconds: float) -> dict[str, Any]:
    return {
        "model": "local-python",
        "input": f"print('begun', flush=True)\nimport time; time.sleep({seconds})\nprint('ended')",
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
    }


def test_a_server_that_is_ended_lets_what_runs_come_to_its_end_and_the_next_one_knows_it(serve):
    with serve() as server, server.client() as client:
        client.responses.create(**_code(0))
        response = client.responses.create(**_code(1), background=True)
        with client.responses.retrieve(response.id, stream=True) as events:
            for event in events:
                if event.type == "response.code_interpreter_call.interpreting":
                    break
        assert server.end() == 0
    with serve() as server, server.client() as client:
        after = client.responses.retrieve(response.id)
        assert server.end() == 0

    assert (after.status, after.output_text) == ("completed", "begun\nended\n")
    assert "begun" not in server.log.read_text()


def test_a_server_that_is_ended_ends_what_takes_too_long_with_a_word(serve):
    with serve("--patience", "0.2") as server, server.client() as client:
        seen = []
        with client.responses.create(**_code(600), stream=True) as events:
            for event in events:
                seen.append(event.type)
                if event.type == "response.code_interpreter_call.interpreting":
                    server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0

    assert seen[-1] == "response.failed"


def test_a_server_that_is_killed_leaves_responses_that_the_next_one_can_tell_of(serve):
    with serve() as server, server.client() as client:
        response = client.responses.create(**_code(600), background=True)
        with client.responses.retrieve(response.id, stream=True) as events:
            for event in events:
                if event.type == "response.code_interpreter_call.interpreting":
                    break
        server.process.kill()
        server.process.wait()
    with serve() as server, server.client() as client:
        assert client.responses.retrieve(response.id).status == "in_progress"  # its lease has not run out
        assert client.responses.cancel(response.id).status in ("in_progress", "cancelled")
        assert server.end() == 0


@pytest.mark.parametrize(
    "words, said",
    [
        (("--host", "0.0.0.0"), "bichat key create"),  # which it refuses
        (("--host", "192.0.2.1"), "bichat key create"),
        (("--behind-proxy", "127.0.0.1"), "bichat key create"),
    ],
)
def test_a_server_that_others_would_reach_refuses_to_start_without_keys(bichat, words, said):
    refused = bichat("serve", "--port", "0", *words)

    assert refused.returncode == 2
    assert said in refused.stderr


def _ask(server: Any, path: str) -> httpx.Response:
    return httpx.get(server.url.removesuffix("/v1") + path, timeout=30)


def test_sandboxes_are_made_ready_before_anybody_needs_one(serve):
    with serve() as server:
        while _ask(server, "/healthz").json()["isolation"] is None:
            assert server.process.poll() is None
        while (ready := _ask(server, "/readyz")).status_code != 200:
            assert ready.json() == {"status": "unready", "reasons": {"sandbox": "starting"}}
        assert server.end() == 0


def test_a_server_without_a_sandbox_is_not_ready_and_says_why(serve, monkeypatch):
    monkeypatch.setenv("BICHAT_ENVIRONMENT", "nowhere")
    with serve() as server, server.client() as client:
        ready = _ask(server, "/readyz")
        # What needs no sandbox goes on.
        file = client.files.create(file=("a.csv", b"1"), purpose="user_data")

        assert (ready.status_code, ready.json()["status"]) == (503, "unready")
        assert ready.json()["reasons"] == {"sandbox": "not_found"}
        assert client.files.content(file.id).read() == b"1"
        assert server.end() == 0


def test_links_to_files_lead_to_the_port_that_is_served(serve):
    with serve() as server, server.client() as client:
        asked = [{"role": "user", "content": "open('a.txt', 'w').write('a')"}]
        answer = client.chat.completions.create(model="local-python", messages=asked).choices[0].message.content

        assert f"]({server.url.removesuffix('v1')}" in (answer or "")
        assert server.end() == 0


def test_a_server_behind_a_proxy_answers_it_and_this_machine_alone(bichat, serve):
    assert bichat("key", "create").returncode == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        try:
            outward.connect(("192.0.2.77", 9))  # sends nothing: the kernel says which address it would send from
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = outward.getsockname()[0]
    with serve("--host", "0.0.0.0", "--behind-proxy", "203.0.113.7, 203.0.113.8/31") as server:
        here = urlsplit(server.url)
        assert httpx.get(f"http://127.0.0.1:{here.port}/healthz").status_code == 200
        refused = httpx.get(f"http://{own}:{here.port}/healthz", headers={"X-Forwarded-For": "127.0.0.1"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_the_proxy")
        assert server.end() == 0
    assert "BICHAT_PUBLIC_URL is not set" in server.log.read_text()


def test_a_server_that_others_would_reach_refuses_to_start_without_tls(bichat):
    assert bichat("key", "create").returncode == 0

    refused = bichat("serve", "--port", "0", "--host", "0.0.0.0")

    assert refused.returncode == 2
    assert "--tls-cert" in refused.stderr


def test_a_key_is_printed_once_opens_its_tenant_and_is_revoked(bichat, serve):
    made = bichat("key", "create", "--name", "ci", "--tenant", "acme", "--user", "ann", "--json")
    key = json.loads(made.stdout)
    listed = bichat("key", "list", "--tenant", "acme")

    assert key["key"].startswith("sk-bichat-")
    assert key["key"] not in listed.stdout
    assert key["prefix"] in listed.stdout
    with serve() as server:
        with server.client(key["key"]) as client, server.client("sk-bichat-wrong") as stranger:
            assert [model.id for model in client.models.list()] == ["local-python"]
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
            assert bichat("key", "revoke", key["id"], "--tenant", "other").returncode == 2
            assert bichat("key", "revoke", key["id"], "--tenant", "acme").returncode == 0
            for nobody in (client, stranger):  # though none is left, those without one are not let in again
                with pytest.raises(openai.AuthenticationError):
                    nobody.models.list()
        assert server.end() == 0
    refused = bichat("serve", "--port", "0")
    assert refused.returncode == 2
    assert "all revoked or have expired" in refused.stderr
    assert key["key"] not in server.log.read_text()
    assert key["id"] in bichat("key", "list", "--tenant", "acme", "--json").stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (("--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"), "the certificate cannot be used"),
        (("--tls-cert", "{text}"), "the certificate cannot be used"),
        (("--tls-key", "{text}"), "--tls-key is given without --tls-cert"),
        (("--behind-proxy", "the-proxy"), "--behind-proxy takes addresses"),
    ],
)
def test_what_a_server_cannot_use_is_said_in_words(bichat, tmp_path, words, said):
    text = tmp_path / "text"
    text.write_text("no certificate")

    refused = bichat("serve", "--port", "0", *(word.format(text=text) for word in words))

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_server_whose_port_is_taken_says_so_and_ends(bichat):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = bichat("serve", "--port", str(taken.getsockname()[1]))

    assert ended.returncode == 3
    assert "address already in use" in ended.stderr


def test_a_server_that_is_ended_takes_no_more_requests_on_connections_that_it_had(serve):
    with serve() as server, server.client() as client:
        response = client.responses.create(**_code(600), background=True)
        with client.responses.retrieve(response.id, stream=True) as events:
            for event in events:
                if event.type == "response.code_interpreter_call.interpreting":
                    break
        with closing(http.client.HTTPConnection(server.url.split("/")[2], timeout=30)) as kept:
            kept.request("GET", "/healthz")
            assert kept.getresponse().read()

            server.process.send_signal(signal.SIGTERM)

            assert kept.sock.recv(1) == b""  # closed, while what runs goes on
            assert server.process.poll() is None
