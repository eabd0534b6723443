"""`bichat key`: API keys of the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import typer

from bichat.cli import terminal
from bichat.names import printable
from bichat.tenants import LOCAL

if TYPE_CHECKING:
    from bichat.repository import ChatRepository
    from bichat.repository.records import ApiKey

app = typer.Typer(help="API keys of `bichat serve`: who may come in, and whose data they see.", no_args_is_help=True)
_Value = TypeVar("_Value")
_TENANT = typer.Option(LOCAL, "--tenant", help="Whose data the key opens.")
_JSON = typer.Option(False, "--json", help="Print a JSON document.")


@app.command()
def create(
    name: str = typer.Option("", "--name", help="What the key is for."),
    tenant: str = _TENANT,
    user: str = typer.Option("", "--user", help="Whose within the tenant."),
    days: float = typer.Option(0.0, "--days", min=0.0, max=36_500.0, help="Days until it expires; 0 for never."),
    as_json: bool = _JSON,
) -> None:
    """Make a key, and print it: now and never again."""
    with terminal.errors_in_words(as_json=as_json):
        from bichat.server.keys import new_key

        expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
        key = new_key(tenant, user=user, name=name, expires_at=expires_at)
        record = _with(lambda repository: repository.keys.add(tenant, key.record))
        if as_json:
            sys.stdout.write(json.dumps({**_shown(record), "key": key.secret}) + "\n")
        else:
            sys.stdout.write(key.secret + "\n")
            typer.echo(f"Keep it: it is shown once. It opens the data of the tenant {tenant}.", err=True)


@app.command("list")
def list_keys(tenant: str = _TENANT, as_json: bool = _JSON) -> None:
    """The tenant's keys, by what they begin with."""
    with terminal.errors_in_words(as_json=as_json):
        found = _with(lambda repository: _all(repository, tenant))
        if as_json:
            sys.stdout.write(json.dumps([_shown(key) for key in found]) + "\n")
            return
        for key in found:
            state = "revoked" if key.revoked_at else f"last used {_day(key.last_used_at)}"
            words = [key.id, f"{key.prefix}...", printable(key.name) or "-", printable(key.user) or "-", state]
            typer.echo("  ".join(words))
        if not found:
            typer.echo(f"The tenant {tenant} has no keys. `bichat key create` makes one.", err=True)


@app.command()
def revoke(key_id: str = typer.Argument(help="The id that `bichat key list` prints."), tenant: str = _TENANT) -> None:
    """Let a key open nothing from now on."""
    with terminal.errors_in_words():
        key = _with(lambda repository: repository.keys.revoke(tenant, key_id, datetime.now(UTC)))
        typer.echo(f"{key.prefix}... opens nothing any more.")


async def _all(repository: ChatRepository, tenant: str) -> list[ApiKey]:
    found: list[ApiKey] = []
    cursor = ""
    while True:
        page = await repository.keys.page(tenant, limit=100, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if not cursor:
            return found


def _with(job: Callable[[ChatRepository], Awaitable[_Value]]) -> _Value:
    """What `job` makes of the configured database."""
    from bichat.archive.opening import open_places
    from bichat.settings.settings import load_settings

    async def work() -> _Value:
        async with open_places(load_settings()) as (_, repository):
            return await job(repository)

    return anyio.run(work)


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "user": key.user,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "never"
