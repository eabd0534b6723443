"""Requests that are made up from the OpenAPI document: whatever they are, the server answers, and never with a 5xx."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from .test_files_and_containers import _own, _site

pytestmark = [pytest.mark.sandbox]


@pytest.fixture(scope="module")
def document(tmp_path_factory, bare_settings):
    """Of a server that runs."""
    options = bare_settings()
    with _site(_own(options, tmp_path_factory.mktemp("made-up"))) as site:
        yield schemathesis.openapi.from_url(f"{site.root}/openapi.json")


def test_no_request_makes_the_server_fail(document):
    failed: list[str] = []
    tried = 0
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            database=None,
            derandomize=True,
        )
        def ask(case):
            nonlocal tried
            tried += 1
            answer = case.call(timeout=30)
            if answer.status_code >= 500:
                failed.append(f"{case.operation.label}: {answer.status_code} {answer.text[:200]}")

        ask()

    assert failed == []
    assert tried > 200
