"""What the failures of the official client and of its transport mean."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from bichat.clients.answers import mapping_in, senseless
from bichat.errors import RemoteServiceError

if TYPE_CHECKING:
    from openai import APIError

#: Statuses below 500 that pass by themselves.
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_TRANSPORTS: Final = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio")


def is_lost(error: RemoteServiceError) -> bool:
    """Whether what was to be made may be there all the same: only the answer to it was lost."""
    return error.status_code is None or error.status_code >= 500 or 200 <= error.status_code < 300


@contextmanager
def translated(stage: str, where: str) -> Generator[None]:
    """Within, what the official client and its transport raise becomes ours."""
    from openai import OpenAIError

    try:
        yield
    except (OpenAIError, ValueError) as error:
        raise _translation(error, stage, where) from error
    except Exception as error:
        if not _is_transports(error):
            raise
        raise _translation(error, stage, where) from error


def _is_transports(error: Exception) -> bool:
    """Whether it is of the library below the official client, of which there are two generations."""
    return type(error).__module__.partition(".")[0] in _TRANSPORTS


def _translation(error: BaseException, stage: str, where: str) -> RemoteServiceError:
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        return _refused(error, stage)
    if isinstance(error, ValueError):
        return senseless(f"{where} is no JSON", stage)
    is_silent = isinstance(error, APITimeoutError) or "Timeout" in type(error).__name__
    how = "did not answer in time" if is_silent else "could not be reached, or broke off"
    cause = error.__cause__ if isinstance(error, APIConnectionError) and error.__cause__ else error
    return RemoteServiceError(
        f"the server {how}: {cause or type(cause).__name__}"[:300],
        stage=stage,
        remedy="Check the client's base_url and the network; try again later.",
        is_retryable=True,
    )


def _refused(error: APIError, stage: str) -> RemoteServiceError:
    status = int(getattr(error, "status_code", 0))
    code = str(error.code or "")
    told = mapping_in(error.body).get("message")
    is_passing = (status in _TRANSIENT or status >= 500) and code != "insufficient_quota"
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", {})
    if headers.get("x-should-retry") == "false":
        is_passing = False
    remedies = {
        401: "Check the client's api_key.",
        403: "Check what the client's api_key may do.",
        404: "Check the client's base_url, and whether that server serves what is asked for.",
    }
    return RemoteServiceError(
        f"the server refused ({status}{' ' + code if code else ''}): {told or error.message}"[:500],
        stage=stage,
        remedy=remedies.get(status, "Try again later." if is_passing else "Look at what the server says."),
        is_retryable=is_passing,
        status_code=status,
        # What is refused has not been done; what failed on the way may have.
        ran=False if 400 <= status < 500 else None,
        retry_after_s=_asked_s(headers),
    )


def _asked_s(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit)
        except ValueError:
            continue
    return None
