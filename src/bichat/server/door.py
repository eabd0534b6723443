"""Who may come in: API keys, and on a server that only this machine reaches and that never had one, whoever is on it.

That the last key was revoked or has expired lets nobody in: who had none before would come to what others think closed.
"""

from __future__ import annotations

import ipaddress
import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from bichat.errors import BichatError, NotFoundError
from bichat.repository.chat_repository import ChatRepository
from bichat.repository.records import ApiKey
from bichat.server.keys import hash_of, is_good
from bichat.server.limiter import Limiter
from bichat.server.problems import RefusedError
from bichat.server.services import Caller, Services
from bichat.tenants import LOCAL

#: How exact the time of a key's last use is.
_USE_EVERY: Final = timedelta(minutes=1)
_NO_KEY: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)

logger = logging.getLogger(__name__)


class Door:
    """Of one server."""

    def __init__(self, repository: ChatRepository, *, is_local: bool) -> None:
        """`is_local`: only programs on this machine reach the server."""
        self._repository = repository
        self._is_local = is_local

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach the server."""
        return self._is_local

    async def caller(self, connection: HTTPConnection) -> Caller:
        """Whose request it is.

        Raises:
            RefusedError: nobody's who may come in: 401 or 403.
        """
        given = _given(connection)
        now = datetime.now(UTC)
        if given:
            try:
                key = await self._repository.keys.find(hash_of(given))
            except NotFoundError:
                key = None
            if key is not None and is_good(key, now):
                await self._note_use(key, now)
                return Caller(tenant=key.tenant, user=key.user, key_id=key.id)
            if key is not None:  # it is not let in as if it had come without one
                raise RefusedError(401, _wrong(given), wire_code="invalid_api_key")
        if not self._is_local or await self._repository.keys.exist():
            raise RefusedError(401, _wrong(given) if given else _NO_KEY, wire_code="invalid_api_key")
        _check_local(connection)
        return Caller(tenant=LOCAL)

    async def _note_use(self, key: ApiKey, now: datetime) -> None:
        if key.last_used_at is None or now - key.last_used_at > _USE_EVERY:
            try:
                await self._repository.keys.use(key.tenant, key.id, now)
            except BichatError as error:
                logger.warning("the use of a key could not be noted: %s", error)


async def caller_of(connection: HTTPConnection) -> Caller:
    """Whose request it is, for routes; it counts from now on until it is answered."""
    door: Door = connection.app.state.door
    caller = await door.caller(connection)
    connection.state.caller = caller
    limiter: Limiter = connection.app.state.limiter
    connection.state.ticket = limiter.enter(caller.name)
    return caller


async def services_of(connection: HTTPConnection) -> Services:
    """What the server stands on, for routes."""
    services: Services = connection.app.state.services
    return services


def own_address(connection: HTTPConnection) -> str:
    """Where whoever asks reaches the server, by his request, such as `https://bi.example.com`.

    Empty where a request from elsewhere names this machine: a proxy has put its own name for the server there.
    """
    door: Door = connection.app.state.door
    host = connection.headers.get("host", "")
    if not host or (not door.is_local and is_loopback(_host_of(f"//{host}"))):
        return ""
    return f"{connection.url.scheme}://{host}"


def is_loopback(host: str) -> bool:
    """Whether a name or an address, without a port, is this machine's own."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _given(connection: HTTPConnection) -> str:
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else connection.headers.get("api-key", "").strip()


def _wrong(given: str) -> str:
    shown = f"{given[:6]}...{given[-4:]}" if len(given) > 20 else "***"
    return f"Incorrect API key provided: {shown}. `bichat key list` shows those that there are."


def _host_of(address: str) -> str:
    """Nothing where it is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _place_of(address: str) -> str:
    """Host and port; nothing where it is no address."""
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _check_local(connection: HTTPConnection) -> None:
    """A page in a browser on this machine must not be able to speak for the person who sits before it.

    Raises:
        RefusedError: the request comes from such a page, or under a name that is not this machine's.
    """
    headers = connection.headers
    if not is_loopback(_host_of(f"//{headers.get('host', '')}")):
        raise RefusedError(
            403,
            "This server has no API keys and answers to names of this machine alone, such as localhost.",
            wire_code="wrong_host",
        )
    origin = headers.get("origin")
    if origin is not None and _place_of(origin) != headers.get("host", "").lower():
        raise RefusedError(403, "Pages of other sites may not use this server.", wire_code="wrong_origin")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise RefusedError(403, "Pages of other sites may not use this server.", wire_code="wrong_origin")
