"""`bichat db`: the version of the database's tables."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import anyio
import typer

from bichat.cli import terminal
from bichat.names import printable
from bichat.repository import default_address
from bichat.repository.opening import SchemaState, examine, upgrade_schema

app = typer.Typer(help="The database that chats, executions and files are recorded in.", no_args_is_help=True)


@app.command()
def upgrade(as_json: bool = typer.Option(False, "--json", help="Print a JSON document.")) -> None:
    """Bring the tables to this program's version, making them where there are none.  Make a backup first."""
    with terminal.errors_in_words(as_json=as_json):
        before, after = anyio.run(upgrade_schema, _address())
        if as_json:
            sys.stdout.write(json.dumps({"before": before, "after": after}) + "\n")
        elif before == after:
            typer.echo(f"The database has the version {after} already.")
        else:
            typer.echo(f"The database has the version {after} now; before it had {before or 'no tables'}.")


@app.command()
def current(as_json: bool = typer.Option(False, "--json", help="Print a JSON document.")) -> None:
    """The version that the tables have, and the one that this program needs."""
    with terminal.errors_in_words(as_json=as_json):
        state = anyio.run(examine, _address())
        if as_json:
            sys.stdout.write(json.dumps(asdict(state)) + "\n")
        else:
            _show(state)


@app.command()
def check(as_json: bool = typer.Option(False, "--json", help="Print a JSON document.")) -> None:
    """Whether the database answers, and its tables are as this program needs them; exit code 1 when they are not."""
    with terminal.errors_in_words(as_json=as_json):
        state = anyio.run(examine, _address())
        is_good = state.version == state.newest and not state.differences
        if as_json:
            sys.stdout.write(json.dumps({"ok": is_good, **asdict(state)}) + "\n")
        else:
            _show(state)
            for difference in state.differences:
                typer.echo(f"different: {printable(difference)}")
            typer.echo(
                "Everything is as it should be." if is_good else "The tables are not as this program needs them."
            )
    raise typer.Exit(0 if is_good else 1)


def _show(state: SchemaState) -> None:
    typer.echo(f"database: {printable(state.place)}")
    typer.echo(f"version:  {state.version or 'no tables yet'}; this program needs {state.newest}")


def _address() -> str:
    from bichat.settings.settings import load_settings

    settings = load_settings()
    return settings.database_url or default_address(settings.data_dir)
