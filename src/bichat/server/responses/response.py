"""The response object of OpenAI's wire, as it is made of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bichat.repository.records import Run, RunState
from bichat.server import checks, naming
from bichat.server.problems import remedy_of

Json = Mapping[str, Any]

_STATUSES: Final = {
    RunState.QUEUED: "queued",
    RunState.RUNNING: "in_progress",
    RunState.WAITING: "in_progress",
    RunState.CANCELLING: "in_progress",
    RunState.COMPLETED: "completed",
    RunState.INCOMPLETE: "incomplete",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
    RunState.EXPIRED: "failed",
}
#: What the wire calls the limits that a run can come to.
_LIMITS: Final = {"max_turns": "max_messages", "content_filter": "content_filter"}
#: What it calls a failure, by the planner's reason or the error's code; all others are `server_error`.
_ERRORS: Final = {
    "rate_limited": "rate_limit_exceeded",
    "quota_exceeded": "rate_limit_exceeded",
    "no_code": "invalid_prompt",
    "not_configured": "invalid_prompt",
    "context_too_long": "invalid_prompt",
    "refused": "invalid_prompt",
    "invalid_input": "invalid_prompt",
    "limit_exceeded": "invalid_prompt",
}

#: Fields that a response tells as they were asked for, and what they are where they were not.
ECHOED: Final[Json] = {
    "background": False,
    "conversation": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": (),
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def response_object(run: Run, output: Sequence[Json], *, status: str | None = None) -> dict[str, Any]:
    """The whole object, every field of it.

    Args:
        run: as it is on record.
        output: its items.
        status: what is said in place of the run's own state; it has no error and no usage then.
    """
    echoed: Json = {**ECHOED, **run.request.get("view", {}).get("echo", {})}
    is_own = status is None
    # What is said before the end is the same whenever it is said: notes on what happened come with the end.
    own: Json = run.request.get("metadata", {})
    metadata = {**own, **run.metadata} if is_own else own
    if len(metadata) > checks.MOST_PAIRS:  # what no request may have, no answer has: the notes go
        metadata = own
    status = status or _STATUSES[run.state]
    return {
        "id": naming.on_wire(naming.RESPONSE, run.id),
        "object": "response",
        "created_at": int(run.created_at.timestamp()),
        "status": status,
        "completed_at": int(run.ended_at.timestamp()) if run.ended_at and status == "completed" else None,
        "error": error_of(run) if status == "failed" else None,
        "incomplete_details": incomplete_details(run.error) if status == "incomplete" else None,
        "model": run.model,
        "output": [*output],
        "usage": usage(run.usage) if is_own and run.state.is_final else None,
        "metadata": {key: value for key, value in metadata.items() if isinstance(value, str)},
        **echoed,
        "tools": [*map(_tool, echoed["tools"])],
    }


def _tool(given: Json) -> Json:
    """As it was given; typed clients want all that a function has."""
    if given.get("type") != "function":
        return given
    return {"description": None, "parameters": None, **given, "strict": bool(given.get("strict"))}


def usage(counted: Json) -> dict[str, Any]:
    """What was counted, in the wire's names."""
    return {
        "input_tokens": counted.get("input_tokens", 0),
        "input_tokens_details": {"cached_tokens": counted.get("cached_tokens", 0), "cache_write_tokens": 0},
        "output_tokens": counted.get("output_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": counted.get("reasoning_tokens", 0)},
        "total_tokens": counted.get("total_tokens", 0),
    }


def incomplete_details(error: Json | None) -> dict[str, Any]:
    """Which limit a run came to."""
    reason = (error or {}).get("reason", "")
    return {"reason": _LIMITS.get(reason, "max_output_tokens")}


def error_of(run: Run) -> dict[str, Any]:
    """Why a run failed: `code` as the wire knows it, `type` as we do, and what can be done about it in the message."""
    error: Json = run.error or {}
    ours = error.get("reason") or error.get("code") or run.state.value
    message = error.get("message") or ("the time for this answer ran out" if run.state is RunState.EXPIRED else ours)
    remedy = remedy_of(error)
    return {
        "code": _ERRORS.get(ours) or _ERRORS.get(error.get("code", ""), "server_error"),
        "message": f"{message}. {remedy}" if remedy else message,
        "type": ours,
    }
