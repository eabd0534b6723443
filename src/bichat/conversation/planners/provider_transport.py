"""What a provider may send: as much as an answer can have, and never more than it says.

A client would unpack and gather whatever comes; one answer could take the memory of the whole process.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Final, cast

import httpx2

from bichat.sizes import MIB, format_size

#: Of one answer, all that surrounds each piece of it included: some 200,000 pieces.
MOST_ANSWER_BYTES: Final = 64 * MIB
#: Of one line of a stream, which clients gather.
MOST_LINE_BYTES: Final = 8 * MIB
#: Of an answer that is an error.
MOST_ERROR_BYTES: Final = MIB
#: Providers that send packed answers all the same are not believed about what is in them.
HEADERS: Final = {"accept-encoding": "identity"}
_ERRORS: Final = 400


class NoAnswerError(httpx2.RemoteProtocolError):
    """An answer is no answer of a model's."""


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Ends answers that are too long, and those that come packed."""

    def __init__(self, certificates: ssl.SSLContext, limits: httpx2.Limits) -> None:
        super().__init__(verify=certificates, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`."""
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise NoAnswerError("the provider sends packed answers, which were not asked for")
        is_error = response.status_code >= _ERRORS
        response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream), is_error=is_error)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, *, is_error: bool) -> None:
        self._stream = stream
        self._is_error = is_error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, line = 0, 0
        async for chunk in self._stream:
            size += len(chunk)
            end = chunk.rfind(b"\n")
            line = line + len(chunk) if end < 0 else len(chunk) - end
            if self._is_error and size > MOST_ERROR_BYTES:
                return  # its status says enough
            if size > MOST_ANSWER_BYTES or line > MOST_LINE_BYTES:
                most = MOST_ANSWER_BYTES if size > MOST_ANSWER_BYTES else MOST_LINE_BYTES
                raise NoAnswerError(f"the provider sends more than {format_size(most)} where there can be no more")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
