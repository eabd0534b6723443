"""Requests that cannot be carried out as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bichat.conversation.planner import PlannerError
from bichat.errors import (
    BichatError,
    CapacityError,
    ConflictError,
    NotFoundError,
    SandboxUnavailableError,
    SessionElsewhereError,
    SessionEndedError,
    UserInputError,
)

#: Statuses by a planner's reason, and by the code of what else makes a run fail; others are 500.
_STATUS: Final = {
    "not_configured": 400,
    "no_code": 400,
    "refused": 400,
    "context_too_long": 400,
    "rate_limited": 429,
    "quota_exceeded": 429,
    "unavailable": 503,
    "timeout": 503,
    "unauthorized": 500,
    "cut_off": 500,
    "malformed": 500,
    "invalid_input": 400,
    "limit_exceeded": 400,
    "not_found": 404,
    "session_ended": 400,
    "capacity": 503,
    "sandbox_unavailable": 503,
    "session_elsewhere": 503,
}

#: Reasons that last until the operator does something about them.
_LASTING: Final = frozenset({"unauthorized", "quota_exceeded"})
#: Fields that errors of planners are about, by their reason.
_PARAMS: Final = {"not_configured": "model", "no_code": "input", "context_too_long": "input"}
#: What can be done about a container that has ended, by callers who know containers and no sessions.
ANOTHER_CONTAINER: Final = 'Make another one with POST /containers, or ask for {"type": "auto"}.'


def remedy_of(error: Mapping[str, Any]) -> str:
    """What callers of the wire can do about an error as it stands in a run's row; empty where there is nothing."""
    return ANOTHER_CONTAINER if error.get("code") in ("session_ended", "session_lost") else error.get("remedy") or ""


class FailedError(BichatError):
    """A run failed before any code was started in it, told as an error of the request: all of it is forgotten."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(
            error.get("message", "the answer failed"), stage=error.get("stage", "run"), remedy=remedy_of(error)
        )
        self.reason = error.get("reason") or error.get("code", "")
        self.retry_after_s = error.get("retry_after_s")


class FieldError(UserInputError):
    """A field of a request is not as it must be, or asks for what is not served: status 400.

    `param` names the field as OpenAI's errors do (`tools[0].type`), `wire_code` is their `code`, None where they have none.
    """

    def __init__(self, message: str, *, param: str | None = None, wire_code: str | None = "invalid_value") -> None:
        super().__init__(message, stage="request")
        self.param = param
        self.wire_code = wire_code


class MissingError(NotFoundError):
    """What a request names is not there, in the words of OpenAI's wire: status 404."""

    def __init__(self, message: str, *, param: str | None = None, wire_code: str | None = None) -> None:
        super().__init__(message, stage="request")
        self.param = param
        self.wire_code = wire_code


class RefusedError(BichatError):
    """A request that is not let in, or is too large: its status is the answer."""

    def __init__(self, status: int, message: str, *, wire_code: str | None = None, remedy: str = "") -> None:
        super().__init__(message, stage="request", remedy=remedy)
        self.status = status
        self.wire_code = wire_code
        self.retry_after_s: float | None = None


def status_of(error: BichatError) -> int:
    """The status of an answer that is nothing but this error: 4xx other than 409 and 429 are never tried again by clients.

    Who asks again after 429, 500 and 503 runs no code twice: they are said only where none has run.
    """
    match error:
        case RefusedError():
            return error.status
        case PlannerError() | FailedError():
            return _STATUS.get(error.reason, 500)
        case NotFoundError():
            return 404
        case SessionElsewhereError() | CapacityError() | SandboxUnavailableError():
            return 503
        case UserInputError() | SessionEndedError() | ConflictError():
            return 400
        case _:
            return 500


def error_body(error: BichatError) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    status = status_of(error)
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    code = getattr(error, "wire_code", None) if hasattr(error, "wire_code") else getattr(error, "reason", error.code)
    message = f"{error.message}. {error.remedy}" if error.remedy else error.message
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": getattr(error, "param", None) or _PARAMS.get(getattr(error, "reason", "")),
            "code": code,
        }
    }


def error_headers(error: BichatError) -> dict[str, str]:
    """When to come back, and that it is no use where it is none."""
    wait_s = getattr(error, "retry_after_s", None)
    headers = {} if wait_s is None else {"retry-after": str(max(1, round(wait_s)))}
    # Clients ask again after 429 and 5xx: what is the same another time is not to be asked three times.
    return headers | ({"x-should-retry": "false"} if getattr(error, "reason", "") in _LASTING else {})
