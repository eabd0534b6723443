"""Spans of OpenTelemetry: what took how long and how it ended; nothing of what was said, run or raised.

They go nowhere until the program has an SDK; `bichat serve` has FastAPI set one up, and trace requests (`server.app`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from bichat.errors import BichatError

_tracer: Final = trace.get_tracer("bichat")


@contextmanager
def span(
    name: str, *, attributes: Mapping[str, str], kind: SpanKind = SpanKind.INTERNAL, is_current: bool = True
) -> Generator[Span]:
    """Of a block of code; an exception that leaves it is named in `error.type`.

    Args:
        name: what is done.
        attributes: ids and names; never what people said.
        kind: as OpenTelemetry has it.
        is_current: whether spans that begin in the block belong below it.  False in generators, which may be closed
            where nobody knows of it.
    """
    begun = _tracer.start_span(name, kind=kind, attributes=attributes)
    token = context.attach(trace.set_span_in_context(begun)) if is_current else None
    try:
        yield begun
    except Exception as error:
        fail(begun, error.code if isinstance(error, BichatError) else type(error).__name__)
        raise
    finally:
        if token is not None:
            context.detach(token)
        begun.end()


def fail(begun: Span, error_type: Any) -> None:
    """Let a span say that it ended badly; `error_type`: a stable name for why."""
    begun.set_attribute("error.type", str(error_type))
    begun.set_status(Status(StatusCode.ERROR))
