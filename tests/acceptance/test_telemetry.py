"""What an operator's collector gets of `bichat serve`: which steps took how long, and nothing of what was said."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bichat.testing.loopback import Handler, Loopback

pytestmark = [pytest.mark.sandbox]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


Tree = list[tuple[str, "Tree"]]


class Taking(Handler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            self.owner.take(body)
        self.reply(200, b"", "application/x-protobuf")


class Collector(Loopback):
    """Speaks OTLP over HTTP."""

    handler = Taking

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.sent = b""
        self.services: set[str] = set()

    def take(self, body: bytes) -> None:
        self.sent += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                each.value.string_value for each in of_resource.resource.attributes if each.key == "service.name"
            }
            for of_scope in of_resource.scope_spans:
                self.spans += of_scope.spans

    def of(self, span: Span | None) -> Tree:
        """The names of the spans below one of those that the caller's trace has, with what is below them."""
        parent = bytes.fromhex(PARENT) if span is None else span.span_id
        below = [each for each in self.spans if each.trace_id.hex() == TRACE and each.parent_span_id == parent]
        return [(each.name, self.of(each)) for each in sorted(below, key=lambda each: each.start_time_unix_nano)]


def test_a_response_is_a_tree_of_spans_below_the_callers_with_nothing_of_what_was_said(serve, monkeypatch):
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.root)
        with serve() as server, server.client() as client:
            client.responses.create(
                model="local-python",
                input="said = 'among us'\n1 / 0",
                tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
                extra_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            )
            assert server.end() == 0, server.log.read_text()

    calls = [("model", []), ("tool", [("execution", [])]), ("model", [])]
    assert collector.of(None) == [("POST /v1/responses", [("run", calls)])]
    assert collector.services == {"bichat"}
    [request] = [span for span in collector.spans if span.trace_id.hex() == TRACE and span.name.startswith("POST")]
    attributes = {each.key: each.value for each in request.attributes}
    assert attributes["http.route"].string_value == "/v1/responses"
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["bichat.request.id"].string_value.startswith("req_")
    [execution] = [span for span in collector.spans if span.name == "execution"]
    assert execution.status.code == Status.STATUS_CODE_ERROR
    assert {each.key: each.value.string_value for each in execution.attributes}["error.type"] == "error"
    assert b"among us" not in collector.sent
    assert b"ZeroDivision" not in collector.sent


def test_without_a_collector_there_are_no_spans_and_no_word_of_them(serve, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)

    with serve() as server:
        assert server.end() == 0

    assert "telemetry" not in server.log.read_text().lower()
