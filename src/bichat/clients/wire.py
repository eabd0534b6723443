"""Calls to a server that speaks OpenAI's wire, through the official client: what is tried again, and what failures mean.

Paths are called as they are written, not by the client's methods: those of assistants warn that they are deprecated, and
their types hide what another server leaves out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from bichat.clients.answers import Json, objects_in, senseless
from bichat.clients.refusals import translated
from bichat.errors import RemoteServiceError, UserInputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from bichat.clients.options import ClientOptions

#: Pages of one list that are read: a server that has always one more is not followed for ever.
MOST_PAGES: Final = 200
_PAGE: Final = 100
_LONGEST_WAIT_S: Final = 5.0
#: What a server may ask for with `retry-after`; who must wait longer is told so.
_MOST_ASKED_S: Final = 60.0
#: What the official client's own pollers send: servers of ours answer them as soon as there is something new.
_POLLER: Final = {"X-Stainless-Poll-Helper": "true"}
_PATIENT_S: Final = 5.0
_HEADERS: Final = {"OpenAI-Beta": "assistants=v2"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object, and how long to wait before it is asked for again; None where the server does not say."""

    body: Json
    poll_after_s: float | None = None


class Server:
    """One, as a client's calls see it."""

    def __init__(self, client: AsyncOpenAI, options: ClientOptions) -> None:
        """`client` stays its owner's to close."""
        self._client = client.with_options(max_retries=0, timeout=options.request_timeout_s)
        self._is_patient = options.request_timeout_s >= _PATIENT_S
        self._retries = options.retries
        self._first_wait_s = options.retry_wait_s
        self.name = (options.server_name or _plain(client.base_url))[:255]

    def wait_s(self, attempt: int) -> float:
        """How long to wait before something is tried for this time more, where the server does not say."""
        return min(self._first_wait_s * 2 ** min(attempt, 16), _LONGEST_WAIT_S)

    async def get(
        self, where: str, *, stage: str, params: Json | None = None, until: float | None = None, waits: bool = False
    ) -> Answer:
        """What lies there.

        Args:
            where: see `path`.
            stage: for errors.
            params: the query.
            until: a moment of anyio's clock: up to then it is asked for again however often that fails.
            waits: whether the server may hold its answer back until there is something new, a second perhaps.

        Raises:
            RemoteServiceError: it cannot be had.
        """
        headers = _POLLER if waits and self._is_patient else {}
        return await self._again("GET", where, stage, params=params, until=until, headers=headers)

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
            fresh = [each for each in objects_in(cast("list[Any]", entries)) if str(each.get("id")) not in seen]
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

        with translated("download", where):
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
        headers: Mapping[str, str] | None = None,
        body: Json | None = None,
        file: tuple[str, Any, str] | None = None,
    ) -> Answer:
        from openai import AsyncAPIResponse

        options: Any = {"headers": {**_HEADERS, **(headers or {})}, "params": dict(params or {})}
        kind = AsyncAPIResponse[object]
        with translated(stage, where):
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


def _hint_s(header: str | None) -> float | None:
    try:
        milliseconds = float(header or "")
    except ValueError:
        return None
    if not milliseconds >= 0:  # nor a number that is none
        return None
    return min(max(milliseconds / 1000, 0.01), _MOST_ASKED_S)


async def _pieces(response: Any, where: str) -> AsyncGenerator[bytes]:
    with translated("download", where):
        async for piece in response.iter_bytes(1 << 20):
            yield piece
