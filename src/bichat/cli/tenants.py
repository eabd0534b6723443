"""`bichat tenant`: what a tenant keeps, how much it may keep, and for how long."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from bichat.cli import terminal
from bichat.errors import UserInputError
from bichat.sizes import format_size, parse_size

if TYPE_CHECKING:
    from bichat.repository.records import Policy, Usage

app = typer.Typer(help="What tenants keep, how much they may keep, and for how long.", no_args_is_help=True)

#: What takes a bound away.
_NONE: Final = "none"

_N = TypeVar("_N", int, float)


@app.command()
def show(
    name: str = typer.Argument(help="The tenant; `local` where there are none."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
) -> None:
    """What a tenant keeps, and what holds for it."""
    _told(name, lambda policy: policy, as_json=as_json)


@app.command(name="set")
def set_policy(
    name: str = typer.Argument(help="The tenant; it need not have anything yet."),
    quota_bytes: str | None = typer.Option(None, metavar="SIZE", help="Of all its files together: 500m, 20g, none."),
    quota_files: str | None = typer.Option(None, metavar="N", help="How many files it may keep: 1000, none."),
    retention_days: str | None = typer.Option(None, metavar="DAYS", help="Age at which files go: 90, 0.5, none."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
) -> None:
    """Change what holds for a tenant: what is named, from now on.  Files above a new quota stay."""

    def changed(policy: Policy) -> Policy:
        if quota_bytes is not None:
            policy = replace(policy, quota_bytes=_bound(quota_bytes, _size, "--quota-bytes"))
        if quota_files is not None:
            policy = replace(policy, quota_files=_bound(quota_files, int, "--quota-files"))
        if retention_days is not None:
            policy = replace(policy, retention_days=_bound(retention_days, float, "--retention-days"))
        return policy

    if (quota_bytes, quota_files, retention_days) == (None, None, None):
        raise typer.BadParameter("name --quota-bytes, --quota-files or --retention-days")
    _told(name, changed, as_json=as_json)


def _told(name: str, change: Callable[[Policy], Policy], *, as_json: bool) -> None:
    """Write the policy that `change` makes of the present one, where that is another, and show what holds then."""
    with terminal.errors_in_words(as_json=as_json):
        import anyio

        from bichat.repository import default_address, open_repository
        from bichat.settings.settings import load_settings

        async def changed() -> tuple[Policy, Usage]:
            settings = load_settings()
            async with open_repository(settings.database_url or default_address(settings.data_dir)) as repository:
                before = await repository.tenants.policy(name)
                policy = change(before)
                if policy != before:
                    await repository.tenants.set_policy(name, policy)
                return policy, await repository.tenants.usage(name)

        policy, usage = anyio.run(changed)
        sys.stdout.write(_document(name, policy, usage) if as_json else _table(policy, usage))


def _document(name: str, policy: Policy, usage: Usage) -> str:
    document = {
        "tenant": name,
        "size_bytes": usage.size_bytes,
        "files": usage.files,
        "row_bytes": usage.row_bytes,
        "quota_bytes": policy.quota_bytes,
        "quota_files": policy.quota_files,
        "retention_days": policy.retention_days,
    }
    return json.dumps(document) + "\n"


def _table(policy: Policy, usage: Usage) -> str:
    bytes_of = "" if policy.quota_bytes is None else f" of {format_size(policy.quota_bytes)}"
    files_of = "" if policy.quota_files is None else f" of {policy.quota_files:,}"
    days = "without end" if policy.retention_days is None else f"for {policy.retention_days:g} days"
    said = f", {format_size(usage.row_bytes)} of it said" if usage.row_bytes else ""
    kept = format_size(usage.size_bytes + usage.row_bytes)
    return f"bytes:  {kept}{bytes_of}{said}\nfiles:  {usage.files:,}{files_of}\nkept:   {days}\n"


def _bound(text: str, read: Callable[[str], _N], option: str) -> _N | None:
    """The number that `text` names; None where it is `none`.

    Raises:
        UserInputError: it is no number of the kind.
    """
    if text.strip().lower() == _NONE:
        return None
    try:
        number = read(text)
    except (ValueError, UserInputError) as error:
        raise _unusable(text, option) from error
    if not math.isfinite(number) or number < 0:
        raise _unusable(text, option)
    return number


def _size(text: str) -> int:
    return 0 if text.strip() == "0" else parse_size(text)


def _unusable(text: str, option: str) -> UserInputError:
    return UserInputError(
        f"{option} cannot be {text!r}", stage="usage", remedy="Write a number from 0, or none to take the bound away."
    )
