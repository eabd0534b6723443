"""What a provider's failure means, in words that hold no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import httpx2
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UserError,
)

from bichat.conversation.planner import PlannerError
from bichat.conversation.planners.provider_transport import NoAnswerError

#: Characters of what a provider says of its error.
_MOST_SAID: Final = 500
#: What looks like a key, whole or half masked.
_SECRETS: Final = re.compile(
    r"(?i)(bearer\s+\S+|\b(?:sk|pk|key|api)[-_][\w*.-]{6,}|x-api-key\s*[:=]\s*\S+|//[^/\s@]+@)"
)
_CONTEXT: Final = re.compile(r"(?i)context[ _](length|window|size)|maximum context|too many tokens|prompt is too long")
_REQUEST_TIMEOUT: Final = 408
_SERVER_ERRORS: Final = 500
_UNREADABLE: Final = (json.JSONDecodeError, UnicodeDecodeError)


class _Meaning(NamedTuple):
    reason: str
    what: str
    remedy: str = ""
    may_retry: bool = False


_TIMEOUT: Final = _Meaning("timeout", "the model did not answer in time")
_CUT_OFF: Final = _Meaning("cut_off", "the model's answer broke off")
_MALFORMED: Final = _Meaning("malformed", "what the provider sent is no answer")
_REFUSED: Final = _Meaning("refused", "the provider does not take the request")
_UNAVAILABLE: Final = _Meaning("unavailable", "the provider cannot be reached or has failed", may_retry=True)
_TOO_LONG: Final = _Meaning(
    "context_too_long",
    "what was said so far is too long for the model",
    "Say less, or begin a new conversation.",
)
_TIMEOUTS: Final = (ModelTimeoutError, ModelRequestTimeout, httpx2.TimeoutException)
#: The first that fits.
_MEANINGS: Final[Sequence[tuple[tuple[type[Exception], ...], _Meaning]]] = (
    (
        (ModelAuthenticationError,),
        _Meaning("unauthorized", "the provider refuses the key", "See that BICHAT_MODEL_API_KEY holds a valid key."),
    ),
    (
        (ModelQuotaExceededError,),
        _Meaning("quota_exceeded", "the provider's quota is used up", "Raise it with the provider."),
    ),
    (
        (ModelRateLimitError,),
        _Meaning("rate_limited", "the provider limits our rate", "Come back later.", may_retry=True),
    ),
    ((ModelContextWindowExceededError,), _TOO_LONG),
    (
        (ModelNotFoundError,),
        _Meaning("refused", "the provider does not know the model", "See BICHAT_MODEL and BICHAT_MODEL_BASE_URL."),
    ),
    ((ModelServerError, ModelUnavailableError, ModelConnectionError, httpx2.TransportError), _UNAVAILABLE),
    ((UserError,), _REFUSED),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A `PlannerError`, and whether the same request may go well a moment later."""

    error: PlannerError
    may_retry: bool = False


def failure(error: Exception, *, has_begun: bool, key: str) -> Failure:
    """What an exception of a provider's client means.

    Args:
        error: as it came.
        has_begun: whether something of the answer had come before.
        key: the provider's key, which stands in no message.
    """
    said = _said(error, key)
    is_http = isinstance(error, ModelHTTPError)
    if _is_no_answer(error):
        meaning = _MALFORMED
    elif isinstance(error, _TIMEOUTS) and not _is_connect(error.__cause__):
        meaning = _TIMEOUT
    elif has_begun and not is_http and not _is_unreadable(error):
        meaning = _CUT_OFF
    elif is_http and _CONTEXT.search(said):
        meaning = _TOO_LONG
    else:
        meaning = next((known for kinds, known in _MEANINGS if isinstance(error, kinds)), None) or _other(error)
    return Failure(
        PlannerError(
            f"{meaning.what}: {said}" if said else meaning.what,
            reason=meaning.reason,
            retry_after_s=error.retry_after if isinstance(error, ModelAPIError) else None,
            remedy=meaning.remedy,
        ),
        meaning.may_retry,
    )


def _other(error: Exception) -> _Meaning:
    """Of what has no category of its own."""
    if isinstance(error, ModelHTTPError):
        if error.status_code == _REQUEST_TIMEOUT:
            return _TIMEOUT
        return _UNAVAILABLE if error.status_code >= _SERVER_ERRORS else _REFUSED
    is_cut = isinstance(error, ModelAPIError) and not _is_unreadable(error)
    return _CUT_OFF if is_cut else _MALFORMED


def _is_connect(cause: BaseException | None) -> bool:
    """Whether it took too long to connect: then nothing was asked yet."""
    while cause is not None:
        if isinstance(cause, httpx2.ConnectTimeout):
            return True
        cause = cause.__cause__
    return False


def _is_no_answer(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, NoAnswerError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_unreadable(error: Exception) -> bool:
    return isinstance(error, _UNREADABLE) or isinstance(error.__cause__, _UNREADABLE)


def _said(error: Exception, key: str) -> str:
    """The provider's own sentence, bounded, without anything that looks like a key."""
    body: object = error.body if isinstance(error, ModelAPIError) else None
    text = _sentence(body) or ("" if isinstance(error, ModelHTTPError) else str(error))
    text = " ".join(text[: 20 * _MOST_SAID].split())
    if key:
        text = text.replace(key, "***")
    return _SECRETS.sub("***", text)[:_MOST_SAID]


def _sentence(body: object) -> str:
    if isinstance(body, Mapping):
        values = cast("Mapping[str, Any]", body)
        inner = values.get("error")
        said = values.get("message") or (_sentence(inner) if inner else "")
        return said if isinstance(said, str) else ""
    return body if isinstance(body, str) else ""
