"""The server as a process: what it listens on, what it refuses to, how it ends."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import uvicorn

from bichat.errors import UserInputError
from bichat.repository import open_repository
from bichat.server.app import create_app
from bichat.server.connection import Connection
from bichat.server.door import is_loopback
from bichat.server.opening import open_services
from bichat.settings.settings import Settings

#: Idle connections are closed after this.
_KEEP_ALIVE_S: Final = 75
#: What is left of the patience once runs have been ended: their streams are told so.
_AFTERWARDS_S: Final = 10
_FIELDS: Final = ("request", "method", "route", "status", "ms", "tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens, and who stands before it."""

    host: str
    port: int
    certificate: str = ""
    """A file, with its key's in `key`, for a server that speaks TLS itself."""
    key: str = ""
    proxy: str = ""
    """Addresses of the proxies that speak TLS in its place, whose word is taken for where a request came from."""

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach it."""
        return is_loopback(self.host) and not self.proxy

    @property
    def url(self) -> str:
        """Where clients' `base_url` points."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.certificate else ''}://{host}:{self.port}/v1"


async def check_address(address: Address, *, has_keys: bool) -> None:
    """Nothing, when a server may listen there.

    Raises:
        UserInputError: others than this machine reach it, and it has no keys or nobody speaks TLS; or its certificate
            cannot be used, or its proxy has no address.
    """
    _check_certificate(address)
    _check_proxy(address)
    if address.is_local:
        return
    if not has_keys:
        raise UserInputError(
            f"a server that others reach needs API keys, and there are none ({address.host})",
            stage="serve",
            remedy="Make one with `bichat key create`, or listen on 127.0.0.1.",
        )
    if not address.certificate and not address.proxy:
        raise UserInputError(
            f"a server that others reach needs TLS ({address.host})",
            stage="serve",
            remedy="Give --tls-cert and --tls-key, or name the proxy that speaks TLS with --behind-proxy ADDRESS.",
        )


def _check_certificate(address: Address) -> None:
    if not address.certificate and not address.key:
        return
    if not address.certificate:
        raise UserInputError(
            "--tls-key is given without --tls-cert", stage="serve", remedy="Give both, or neither of them."
        )
    try:
        # A key with a pass phrase would be asked for on the terminal: nobody sits there.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            address.certificate, address.key or None, password=lambda: ""
        )
    except (OSError, ValueError) as error:
        raise UserInputError(
            f"the certificate cannot be used: {getattr(error, 'strerror', None) or error}",
            stage="serve",
            remedy="--tls-cert and --tls-key name PEM files that belong together, the key without a pass phrase.",
        ) from error


def _check_proxy(address: Address) -> None:
    """Names would be taken for ones that never come: nobody would be believed where a request came from."""
    for each in address.proxy.split(",") if address.proxy else ():
        try:
            ipaddress.ip_network(each.strip(), strict=False)
        except ValueError as error:
            raise UserInputError(
                f"--behind-proxy takes addresses such as 10.0.0.1 or 10.0.0.0/24, not {each.strip()[:100]!r}",
                stage="serve",
            ) from error


async def has_keys(address: str) -> bool:
    """Whether the database has keys.

    Raises:
        UserInputError: it has some, and none of them lets anybody in.
    """
    async with open_repository(address) as repository:
        is_any_good = await repository.keys.exist(good_at=datetime.now(UTC))
        if not is_any_good and await repository.keys.exist():
            raise UserInputError(
                "nobody could use the server: its API keys are all revoked or have expired",
                stage="serve",
                remedy="Make one with `bichat key create`.",
            )
        return is_any_good


class Server(uvicorn.Server):
    """Lets runs come to their end before it ends itself, and ends those that take too long with a word."""

    def __init__(self, settings: Settings, address: Address, *, patience_s: float, preload: bool = True) -> None:
        """`patience_s`: how long runs may go on once the server is to end."""
        self._application = create_app(lambda: open_services(settings, preload=preload), is_local=address.is_local)
        self._patience_s = patience_s
        config = uvicorn.Config(
            self._application,
            host=address.host,
            port=address.port,
            ssl_certfile=address.certificate or None,
            ssl_keyfile=address.key or None,
            proxy_headers=bool(address.proxy),
            forwarded_allow_ips=address.proxy or None,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_AFTERWARDS_S,
            http=Connection,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        for listening in self.servers:
            listening.close()
        # Those that are kept open without a request would bring more of them while others come to their end.
        for connection in tuple(self.server_state.connections):
            if not connection.transport.is_closing():
                connection.shutdown()
        # Before what they stand on is closed, which the base class does once no connection is left.
        await self._drain()
        await super().shutdown(sockets)
        # It would die of the signal that it was asked to end by: that it has ended well is said by its exit code.
        self._captured_signals.clear()

    async def _drain(self) -> None:
        services = getattr(self._application.state, "services", None)
        if services is not None:
            await services.core.drain(self._patience_s)
            services.core.stop()


class JsonLines(logging.Formatter):
    """One JSON object for each line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "at": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logs() -> None:
    """JSON lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpx2", "openai", "alembic", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def name_service() -> None:
    """Let OpenTelemetry's SDK call this program `bichat`, unless the operator calls it otherwise."""
    if "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", "bichat")
