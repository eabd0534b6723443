"""Objects of the Assistants API, as they are made of our rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from bichat.agent.toolbox import TOOLS
from bichat.conversation import parts
from bichat.conversation.scribe import ENDED_AT
from bichat.repository.records import Conversation, Definition, Run, RunState
from bichat.server import naming
from bichat.server.assistants.requests import METADATA
from bichat.server.assistants.run_requests import LIVES_S

Json = Mapping[str, Any]

#: In a conversation's metadata: what tools have to work with, as it is told.
RESOURCES: Final = "tool_resources"
STATUSES: Final = {
    RunState.QUEUED: "queued",
    RunState.RUNNING: "in_progress",
    RunState.WAITING: "requires_action",
    RunState.CANCELLING: "cancelling",
    RunState.COMPLETED: "completed",
    RunState.INCOMPLETE: "incomplete",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
    RunState.EXPIRED: "expired",
}
#: What the wire calls the limits that a run can come to; it has no words for others.
_LIMITS: Final = {"max_output_tokens": "max_completion_tokens", "max_input_tokens": "max_prompt_tokens"}
#: Why a message is not whole, by the end of its run.
_CUT: Final = {
    RunState.CANCELLED: "run_cancelled",
    RunState.EXPIRED: "run_expired",
    RunState.FAILED: "run_failed",
    RunState.INCOMPLETE: "max_tokens",
}
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
    "capacity": "rate_limit_exceeded",
}
#: What programs for the first version send in `OpenAI-Beta`.
_FIRST_VERSION: Final = "assistants=v1"
_SAID: Final = (parts.TEXT, parts.REFUSAL, parts.IMAGE, parts.FILE)


def seconds(moment: datetime | None) -> int | None:
    """A moment as the wire has it."""
    return None if moment is None else int(moment.timestamp())


def for_version(told: dict[str, Any], beta: str) -> dict[str, Any]:
    """An assistant or a message as a program reads it that says `beta` in `OpenAI-Beta`: the first version's has `file_ids`."""
    if _FIRST_VERSION not in beta:
        return told
    if told["object"] == "assistant":
        files = told["tool_resources"].get("code_interpreter", {}).get("file_ids", [])
    else:
        files = [attached["file_id"] for attached in told["attachments"]]
    return {**told, "file_ids": list(files)}


def assistant_object(definition: Definition) -> dict[str, Any]:
    """An assistant."""
    content = definition.content
    resources = dict(content.get(RESOURCES) or {})
    if any(tool["type"] == "code_interpreter" for tool in content.get("tools", ())):
        resources.setdefault("code_interpreter", {"file_ids": []})
    return {
        "id": naming.on_wire(naming.ASSISTANT, definition.id),
        "object": "assistant",
        "created_at": seconds(definition.created_at),
        "name": content.get("name"),
        "description": content.get("description"),
        "model": content["model"],
        "instructions": content.get("instructions"),
        "tools": content.get("tools", []),
        "top_p": _or(content.get("top_p"), 1.0),
        "temperature": _or(content.get("temperature"), 1.0),
        "reasoning_effort": content.get("reasoning_effort"),
        "tool_resources": resources,
        "metadata": content.get("metadata", {}),
        "response_format": content.get("response_format") or "auto",
    }


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def thread_object(conversation: Conversation) -> dict[str, Any]:
    """A thread."""
    return {
        "id": naming.on_wire(naming.THREAD, conversation.id),
        "object": "thread",
        "created_at": seconds(conversation.created_at),
        "metadata": conversation.metadata.get(METADATA, {}),
        "tool_resources": conversation.metadata.get(RESOURCES, {}),
    }


# ------------------------------------------------------------------------------------------------------------ messages


def is_message(payload: Json) -> bool:
    """Whether an item (`run_events.item_payload`) is a message of its thread, and nothing that was done."""
    return payload["kind"] in _SAID and not payload["metadata"].get("internal")


def message_object(payload: Json, conversation_id: str, run: Run | None, *, is_input: bool = False) -> dict[str, Any]:
    """A message, of what `run_events.item_payload` gives of it; `run`: which it belongs to.

    One that has only begun is in progress, and has no content, as long as its run goes on.
    """
    status = payload["status"]
    if status not in ("completed", "in_progress"):
        status = "incomplete"
    if status == "in_progress" and run is not None and run.state.is_final:
        status = "incomplete"
    ended_at = payload["metadata"].get(ENDED_AT) or payload["created_at"]
    ended = seconds(datetime.fromisoformat(ended_at))
    whose = run if not is_input else None
    return {
        "id": naming.on_wire(naming.MESSAGE, payload["id"]),
        "object": "thread.message",
        "created_at": seconds(datetime.fromisoformat(payload["created_at"])),
        "assistant_id": whose.request.get("view", {}).get("assistant_id") if whose is not None else None,
        "thread_id": naming.on_wire(naming.THREAD, conversation_id),
        "run_id": naming.on_wire(naming.RUN, whose.id) if whose is not None else None,
        "status": status,
        "incomplete_details": {"reason": _reason(run)} if status == "incomplete" else None,
        "incomplete_at": ended if status == "incomplete" else None,
        "completed_at": ended if status == "completed" else None,
        "role": "assistant" if payload["role"] == "assistant" else "user",
        "content": [] if status == "in_progress" else content_of(payload),
        "attachments": [] if status == "in_progress" else _attachments(payload),
        "metadata": dict(payload["metadata"].get(METADATA, {})),
    }


def _reason(run: Run | None) -> str:
    if run is None:
        return "run_failed"
    if (run.error or {}).get("reason") == "content_filter":
        return "content_filter"
    return _CUT.get(run.state, "max_tokens")


def content_of(payload: Json) -> list[dict[str, Any]]:
    """Blocks of a message: images that were displayed before it stand before its text."""
    blocks: list[dict[str, Any]] = []
    for part in payload["parts"]:
        content: Json = part["content"]
        match part["kind"]:
            case parts.TEXT:
                blocks += [image_block(image) for image in content.get("shown") or ()]
                blocks.append({"type": "text", "text": {"value": content["text"], "annotations": file_links(content)}})
            case parts.REFUSAL:
                blocks.append({"type": "refusal", "refusal": content["text"]})
            case parts.IMAGE if content.get("file_id"):
                image = {"file_id": naming.on_wire(naming.FILE, content["file_id"]), "detail": _detail(content)}
                blocks.append({"type": "image_file", "image_file": image})
            case parts.IMAGE:
                image = {"url": content.get("url", ""), "detail": _detail(content)}
                blocks.append({"type": "image_url", "image_url": image})
            case _:
                pass
    return blocks


def _detail(content: Json) -> str:
    detail = content.get("detail")
    return detail if detail in ("auto", "low", "high") else "auto"


def image_block(image: Json) -> dict[str, Any]:
    """An image that code displayed: `bichat.conversation.parts.Citation` as JSON."""
    return {"type": "image_file", "image_file": {"file_id": naming.on_wire(naming.FILE, image["output_id"])}}


def file_links(content: Json) -> list[dict[str, Any]]:
    """A link for each place of a text that names a file; `text` is what stands there, letter for letter."""
    return [
        {
            "type": "file_path",
            "text": cited["text"],
            "start_index": cited["start"],
            "end_index": cited["end"],
            "file_path": {"file_id": naming.on_wire(naming.FILE, cited["output_id"])},
        }
        for cited in content.get("citations") or ()
        if cited["text"]
    ]


def _attachments(payload: Json) -> list[dict[str, Any]]:
    """Files that were given with it; of an answer those that it left behind, named in its text or not."""
    found: dict[str, list[str]] = {}
    for part in payload["parts"]:
        content: Json = part["content"]
        if part["kind"] == parts.FILE and content.get("file_id"):
            found.setdefault(content["file_id"], content.get(TOOLS, ["code_interpreter"]))
        for cited in content.get("citations") or () if part["kind"] == parts.TEXT else ():
            if not cited["is_shown"]:
                found.setdefault(cited["output_id"], ["code_interpreter"])
    return [
        {"file_id": naming.on_wire(naming.FILE, file_id), "tools": [{"type": tool} for tool in tools]}
        for file_id, tools in found.items()
    ]


# ---------------------------------------------------------------------------------------------------------------- runs


def run_object(run: Run, *, awaited: Sequence[Json] = (), status: str | None = None) -> dict[str, Any]:
    """A run, every field of it.

    Args:
        run: as it is on record.
        awaited: the calls that it waits for, as `Core.awaited` gives them.
        status: what is said in place of its own state; it has neither error nor usage then.
    """
    view: Json = run.request.get("view", {})
    echo: Json = view.get("echo", {})
    is_own = status is None
    told = status or STATUSES[run.state]
    is_final = is_own and run.state.is_final
    ended = seconds(run.ended_at) if is_final else None
    started = run.started_at or (run.created_at if told != "queued" else None)
    return {
        "id": naming.on_wire(naming.RUN, run.id),
        "object": "thread.run",
        "created_at": seconds(run.created_at),
        "assistant_id": view.get("assistant_id", ""),
        "thread_id": naming.on_wire(naming.THREAD, run.conversation_id),
        "status": told,
        "started_at": None if told == "queued" else seconds(started),
        "expires_at": None if is_final else seconds(run.created_at + timedelta(seconds=LIVES_S)),
        "cancelled_at": ended if told == "cancelled" else None,
        "failed_at": ended if told == "failed" else None,
        "completed_at": ended if told in ("completed", "incomplete") else None,
        "required_action": _required(awaited) if told == "requires_action" else None,
        "last_error": last_error(run) if told == "failed" and is_own else None,
        "model": run.model,
        # OpenAI sent null where there are none, which its own client refuses in its strict mode.
        "instructions": echo.get("instructions", ""),
        "tools": list(echo.get("tools", ())),
        "tool_resources": echo.get("tool_resources", {}),
        "metadata": {key: value for key, value in run.metadata.items() if isinstance(value, str)},
        "temperature": echo.get("temperature", 1.0),
        "top_p": echo.get("top_p", 1.0),
        "reasoning_effort": echo.get("reasoning_effort"),
        "max_completion_tokens": echo.get("max_completion_tokens"),
        "max_prompt_tokens": echo.get("max_prompt_tokens"),
        "truncation_strategy": echo.get("truncation_strategy", {"type": "auto", "last_messages": None}),
        "incomplete_details": _incomplete(run) if told == "incomplete" else None,
        "usage": usage(run.usage) if is_final else None,
        "response_format": echo.get("response_format", "auto"),
        "tool_choice": echo.get("tool_choice", "auto"),
        "parallel_tool_calls": echo.get("parallel_tool_calls", True),
    }


def _required(awaited: Sequence[Json]) -> dict[str, Any]:
    calls = [
        {
            "id": call["call_id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in awaited
    ]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}


def _incomplete(run: Run) -> dict[str, Any]:
    return {"reason": _LIMITS.get((run.error or {}).get("reason", ""))}


def last_error(run: Run) -> dict[str, Any]:
    """Why it failed: `code` as the wire knows it, what can be done about it in the message."""
    error: Json = run.error or {}
    ours = error.get("reason") or error.get("code") or run.state.value
    message, remedy = error.get("message") or ours, error.get("remedy")
    code = _ERRORS.get(ours) or _ERRORS.get(error.get("code", ""), "server_error")
    return {"code": code, "message": f"{message}. {remedy}" if remedy else message}


def usage(counted: Json) -> dict[str, Any]:
    """What was counted, in the wire's names."""
    prompt, completion = counted.get("input_tokens", 0), counted.get("output_tokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_token_details": {"cached_tokens": counted.get("cached_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": counted.get("reasoning_tokens", 0)},
    }
