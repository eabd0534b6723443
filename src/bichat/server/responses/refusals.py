"""Why a request for a response is refused, in the words of its caller: ids, fields and remedies of the wire."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from bichat.conversation import parts
from bichat.conversation.request import RunRequest
from bichat.errors import BichatError, ConflictError, SessionEndedError, UserInputError
from bichat.server import naming
from bichat.server.problems import ANOTHER_CONTAINER, FieldError

Json = Mapping[str, Any]


def container_param(request: RunRequest) -> str:
    """The field that says where code is to run."""
    return next(f"tools[{number}].container" for number, _ in _code_tools(request))


def file_params(request: RunRequest) -> Generator[tuple[str, str]]:
    """The files that are asked for in a container, by the ids of their rows, and the fields that name them."""
    for number, tool in _code_tools(request):
        container: Any = tool.get("container")
        given: Sequence[str] = () if isinstance(container, str) else container.get("file_ids") or ()
        for place, file_id in enumerate(given):
            yield naming.row_id(file_id, naming.FILE), f"tools[{number}].container.file_ids[{place}]"


def told_to_caller(error: BichatError, request: RunRequest) -> BichatError:
    """The error that says the same to whoever asked for a response; `error` itself where it does."""
    match error:
        case ConflictError():
            return FieldError(
                "The conversation has a response that is not over. Wait until it is, or cancel it.",
                param="conversation",
                wire_code="conversation_locked",
            )
        case SessionEndedError():
            session_id = request.code.session_id if request.code is not None else ""
            given = naming.on_wire(naming.CONTAINER, session_id)
            which = f"Container with id '{given}'" if given else "The conversation's container"
            return FieldError(
                f"{which} has expired ({error.reason}). {ANOTHER_CONTAINER}",
                param=container_param(request),
                wire_code="container_expired",
            )
        case UserInputError() if error.stage == "input":
            return _unknown_call(error, request) or error
        case _:
            return error


def _unknown_call(error: BichatError, request: RunRequest) -> FieldError | None:
    for number, said in enumerate(request.inputs):
        call_id = said.parts[0].content["call_id"] if said.parts[0].kind == parts.TOOL_RESULT else None
        if call_id is not None and error.message.endswith(f"the call_id {call_id!r}"):
            return FieldError(
                f"No tool call found for function call output with call_id {call_id}.", param=f"input[{number}].call_id"
            )
    return None


def _code_tools(request: RunRequest) -> Generator[tuple[int, Json]]:
    tools: Sequence[Json] = request.view.get("echo", {}).get("tools") or ()
    for number, tool in enumerate(tools):
        if tool.get("type") == "code_interpreter":
            yield number, tool
