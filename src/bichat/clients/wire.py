"""Calls to a server that speaks OpenAI's wire, through the official client: what is tried again, and what failures mean.

Paths are called as they are written, not by the client's methods: those of assistants warn that they are deprecated, and
their types hide what another server leaves out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast
from urllib.parse import quote

import anyio

from bichat.errors import RemoteServiceError, UserInputError

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

    from bichat.clients.options import ClientOptions

Json = Mapping[str, Any]

#: Pages of one list that are read: a server that has always one more is not followed for ever.
MOST_PAGES: Final = 200
_PAGE: Final = 100
_LONGEST_WAIT_S: Final = 5.0
#: What a server may ask for with `retry-after`; who must wait longer is told so.
_MOST_ASKED_S: Final = 60.0
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_HEADERS: Final = {"OpenAI-Beta": "assistants=v2"}
_TRANSPORTS: Final = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object, and how long to wait before it is asked for again; None where the server does not say."""

    body: Json
    poll_after_s: float | None = None


def path(*parts: str) -> str:
    """`/threads/thread_1` of its parts, each a word of ours or an id (`is_id`): nothing in them leads elsewhere."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def is_id(value: object) -> TypeGuard[str]:
    """Whether it can be the id of something: a word that is no step up or down in a path."""
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and bool(value.strip("."))


class Server:
    """One, as a client's calls see it."""

    def __init__(self, client: AsyncOpenAI, options: ClientOptions) -> None:
        """`client` stays its owner's to close."""
        self._client = client.with_options(max_retries=0, timeout=options.request_timeout_s)
        self._retries = options.retries
        self._first_wait_s = options.retry_wait_s
        self.name = (options.server_name or _plain(client.base_url))[:255]

    def wait_s(self, attempt: int) -> float:
        """How long to wait before something is tried for this time more, where the server does not say."""
        return min(self._first_wait_s * 2 ** min(attempt, 16), _LONGEST_WAIT_S)

    async def get(self, where: str, *, stage: str, params: Json | None = None, until: float | None = None) -> Answer:
        """What lies there.

        Args:
            where: see `path`.
            stage: for errors.
            params: the query.
            until: a moment of anyio's clock: up to then it is asked for again however often that fails.

        Raises:
            RemoteServiceError: it cannot be had.
        """
        return await self._again("GET", where, stage, params=params, until=until)

    async def create(
        self, where: str, *, stage: str, body: Json | None = None, file: tuple[str, Any, str] | None = None
    ) -> Json:
        """Make something.  It is tried again where the server says that it has made nothing (429), and never else.

        Args:
            where: see `path`.
            stage: for errors.
            body: what is sent; with `file`, fields of a form.
            file: name, bytes and type.

        Raises:
            RemoteServiceError: it was not made, or nobody knows (`is_lost`).
        """
        return (await self._again("POST", where, stage, body=body, file=file)).body

    async def ask(self, where: str, *, stage: str) -> Json:
        """Ask for something that may be asked for twice, such as that a run is cancelled.

        Raises:
            RemoteServiceError: it cannot be.
        """
        return (await self._again("POST", where, stage, is_safe=True)).body

    async def delete(self, where: str, *, stage: str = "cleanup") -> None:
        """Have it there no longer; what is not there is no error.

        Raises:
            RemoteServiceError: it may be there still.
        """
        try:
            await self._again("DELETE", where, stage)
        except RemoteServiceError as error:
            if error.status_code not in (404, 410):
                raise

    async def everything(self, where: str, *, stage: str, params: Json | None = None) -> AsyncGenerator[Json]:
        """Each entry of a list, page by page.

        Raises:
            RemoteServiceError: a page cannot be had, or is none.
        """
        seen: set[str] = set()
        after: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            page = (await self.get(where, stage=stage, params={"limit": _PAGE, **(params or {}), **after})).body
            entries: Any = page.get("data")
            if not isinstance(entries, list):
                raise senseless(f"{where} is no list", stage)
            fresh = [each for each in _objects(cast("list[Any]", entries)) if str(each.get("id")) not in seen]
            for each in fresh:
                seen.add(str(each.get("id")))
                yield each
            if not page.get("has_more") or not fresh:
                return
            after = {"after": str(fresh[-1].get("id"))}
        raise senseless(f"{where} does not come to an end", stage)

    @asynccontextmanager
    async def content(self, where: str) -> AsyncGenerator[AsyncGenerator[bytes]]:
        """The bytes of a file, as they come; the connection is closed with the block.

        Raises:
            RemoteServiceError: they cannot be had, or break off.  What the block raises itself passes.
        """
        from openai import AsyncAPIResponse

        with _translated("download", where):
            response = await self._client.get(
                where,
                cast_to=AsyncAPIResponse[bytes],
                options={"headers": {**_HEADERS, "Accept": "application/binary", "X-Stainless-Raw-Response": "stream"}},
                stream=False,
            )
        try:
            yield _pieces(response, where)
        finally:
            with anyio.CancelScope(shield=True):
                await response.close()

    async def _again(
        self,
        method: str,
        where: str,
        stage: str,
        *,
        until: float | None = None,
        is_safe: bool = False,
        **sent: Any,
    ) -> Answer:
        """One call, made again as long as its failures pass by themselves."""
        attempt = 0
        while True:
            try:
                return await self._once(method, where, stage, **sent)
            except RemoteServiceError as error:
                wait = self.wait_s(attempt) if error.retry_after_s is None else error.retry_after_s
                is_left = attempt < self._retries if until is None else anyio.current_time() + wait < until
                may_be = is_safe or method != "POST" or error.status_code == 429
                if not (error.is_retryable and may_be and is_left) or wait > _MOST_ASKED_S:
                    raise
                logger.info("%s %s failed and is tried again: %s", method, stage, error)
            attempt += 1
            await anyio.sleep(wait)

    async def _once(
        self,
        method: str,
        where: str,
        stage: str,
        *,
        params: Json | None = None,
        body: Json | None = None,
        file: tuple[str, Any, str] | None = None,
    ) -> Answer:
        from openai import AsyncAPIResponse

        options: Any = {"headers": dict(_HEADERS), "params": dict(params or {})}
        kind = AsyncAPIResponse[object]
        with _translated(stage, where):
            match method:
                case "GET":
                    response = await self._client.get(where, cast_to=kind, options=options)
                case "DELETE":
                    response = await self._client.delete(where, cast_to=kind, options=options)
                case _ if file is not None:
                    options["headers"]["Content-Type"] = "multipart/form-data"
                    response = await self._client.post(
                        where, cast_to=kind, body=dict(body or {}), files={"file": file}, options=options
                    )
                case _:
                    response = await self._client.post(where, cast_to=kind, body=dict(body or {}), options=options)
            found: Any = await response.json()
        if not isinstance(found, dict):
            raise senseless(f"{where} is no object", stage)
        return Answer(cast("Json", found), _hint_s(response.headers.get("openai-poll-after-ms")))


def objects_in(value: Any) -> list[Json]:
    """The objects in a list of JSON's; none where it is no list."""
    return _objects(cast("list[Any]", value)) if isinstance(value, list) else []


def mapping_in(value: Any) -> Json:
    """An object of JSON's; an empty one where it is none."""
    return cast("Json", value) if isinstance(value, dict) else {}


def id_of(made: Json, stage: str) -> str:
    """The id of what was made.

    Raises:
        RemoteServiceError: it has none.
    """
    found = made.get("id")
    if not is_id(found):
        raise senseless("what was made has no id", stage)
    return found


def is_lost(error: RemoteServiceError) -> bool:
    """Whether what was to be made may be there all the same: only the answer to it was lost."""
    return error.status_code is None or error.status_code >= 500 or 200 <= error.status_code < 300


def senseless(what: str, stage: str) -> RemoteServiceError:
    """The server's answer is not as the wire has it."""
    return RemoteServiceError(
        f"the server's answer makes no sense: {what}"[:300],
        stage=stage,
        remedy="Check that the address is one of a server that speaks OpenAI's API.",
        is_retryable=True,
        status_code=200,
    )


def check_client(client: Any) -> None:
    """Nothing, when `client` is one that waits without blocking.

    Raises:
        UserInputError: it is the synchronous one, or none at all.
    """
    from openai import AsyncOpenAI

    if not isinstance(client, AsyncOpenAI):
        raise UserInputError(
            f"the client must be an openai.AsyncOpenAI, and is {type(client).__name__}",
            stage="settings",
            remedy="Make it with openai.AsyncOpenAI(...) or AsyncAzureOpenAI(...): a call that blocks its thread can be "
            "neither cancelled nor timed out, and its run would go on.",
        )


def _plain(address: Any) -> str:
    """Where a server is, without what somebody may have put in to be let in."""
    port = f":{address.port}" if address.port else ""
    return f"{address.scheme}://{address.host}{port}{address.path}".rstrip("/")


def _objects(values: Sequence[Any]) -> list[Json]:
    return [cast("Json", each) for each in values if isinstance(each, dict)]


def _hint_s(header: str | None) -> float | None:
    try:
        milliseconds = float(header or "")
    except ValueError:
        return None
    return min(max(milliseconds / 1000, 0.01), _MOST_ASKED_S)


async def _pieces(response: Any, where: str) -> AsyncGenerator[bytes]:
    with _translated("download", where):
        async for piece in response.iter_bytes(1 << 20):
            yield piece


@contextmanager
def _translated(stage: str, where: str) -> Generator[None]:
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


__all__ = [
    "Answer",
    "Server",
    "check_client",
    "id_of",
    "is_id",
    "is_lost",
    "mapping_in",
    "objects_in",
    "path",
    "senseless",
]
