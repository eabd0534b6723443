"""`bichat env`: the package sets that code can see."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from bichat.cli import terminal
from bichat.sandbox.environments import Environment, EnvironmentStore
from bichat.settings.location import data_dir, make_data_dir
from bichat.sizes import format_size

app = typer.Typer(help="The package sets that code can see.", no_args_is_help=True)


@app.command("list")
def list_(as_json: bool = typer.Option(False, "--json", help="Print a JSON document.")) -> None:
    """The environments that are built, and those that can be."""
    with terminal.errors_in_words(as_json=as_json):
        store = EnvironmentStore(data_dir())
        built = store.list()
        if as_json:
            sys.stdout.write(json.dumps([_summary(environment) for environment in built]) + "\n")
            return
        rows = [
            (
                environment.name,
                f"Python {environment.python_version}",
                str(len(environment.packages)),
                format_size(environment.size_bytes),
                f"{environment.created_at:%Y-%m-%d %H:%M}",
            )
            for environment in built
        ]
        rows += [(name, "built when needed", "", "", "") for name in store.buildable()]
        terminal.table(("Environment", "Python", "Packages", "Size", "Built (UTC)"), rows, stream=sys.stdout)


@app.command()
def build(
    name: str = typer.Argument("data", help="Name of the environment."),
    requirements: Path | None = typer.Option(
        None, "--requirements", "-r", metavar="FILE", help="Requirements file of an environment of your own."
    ),
    base: str | None = typer.Option(None, "--base", metavar="NAME", help="Environment whose packages it has too."),
    force: bool = typer.Option(False, "--force", help="Build it anew even if it is there."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document; what is being done goes to stderr."),
) -> None:
    """Build an environment: `bichat env build finance -r finance.txt --base data`."""
    with terminal.errors_in_words(as_json=as_json):
        progress = terminal.Progress()
        try:
            store = EnvironmentStore(make_data_dir(data_dir()))
            environment = store.build(name, requirements=requirements, base=base, force=force, progress=progress)
        finally:
            progress.done()
        if as_json:
            sys.stdout.write(json.dumps(_summary(environment)) + "\n")
            return
        typer.echo(
            f"{environment.name}: {len(environment.packages)} packages, {format_size(environment.size_bytes)}, "
            f"in {environment.path}"
        )


@app.command()
def show(
    name: str = typer.Argument("data", help="Name of the environment."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
) -> None:
    """The packages of an environment with their versions, and what sandboxes find imported already."""
    with terminal.errors_in_words(as_json=as_json):
        environment = EnvironmentStore(data_dir()).get(name)
        if as_json:
            sys.stdout.write(json.dumps(environment.to_dict() | {"path": str(environment.path)}) + "\n")
            return
        typer.echo(f"{environment.name}  Python {environment.python_version}  {environment.path}")
        typer.echo(f"preloaded: {', '.join(environment.preload) or 'nothing'}")
        typer.echo(f"preloaded for code that names them: {', '.join(environment.on_demand) or 'nothing'}")
        for candidate in environment.refused:
            typer.echo(f"not preloaded: {candidate.module} ({candidate.refused})")
        terminal.table(("Package", "Version"), sorted(environment.packages.items()), stream=sys.stdout)


@app.command()
def remove(
    name: str = typer.Argument(..., help="Name of the environment."),
    old: bool = typer.Option(False, "--old", help="Keep the build in use, remove the ones before it."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
) -> None:
    """Remove an environment; a built-in one is built again when it is next needed."""
    with terminal.errors_in_words(as_json=as_json):
        count = EnvironmentStore(data_dir()).remove(name, old_only=old)
        if as_json:
            sys.stdout.write(json.dumps({"name": name, "builds_removed": count}) + "\n")
        else:
            typer.echo(f"{name}: {count} old builds are removed." if old else f"{name} is removed.")


def _summary(environment: Environment) -> dict[str, object]:
    return {
        "name": environment.name,
        "path": str(environment.path),
        "python_version": environment.python_version,
        "packages": len(environment.packages),
        "size_bytes": environment.size_bytes,
        "created_at": environment.created_at.isoformat(),
        "lock_hash": environment.lock_hash,
    }
