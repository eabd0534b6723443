"""`bichat prune`: what is past its time is deleted, and so are the bytes of what was deleted before."""

from __future__ import annotations

import json
import sys

import typer

from bichat.cli import terminal
from bichat.sizes import format_size


def command(
    dry_run: bool = typer.Option(False, "--dry-run", help="Delete nothing; say what would be."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
) -> None:
    """Delete outputs and files that are past their expiry or their tenant's retention, and bytes that no row needs.

    A server does the same by itself once an hour.
    """
    with terminal.errors_in_words(as_json=as_json):
        import anyio

        from bichat.archive.opening import open_places
        from bichat.archive.upkeep import Upkeep
        from bichat.settings.settings import load_settings

        async def prune() -> dict[str, int]:
            async with open_places(load_settings()) as (storage, repository):
                upkeep = Upkeep(storage, repository)
                if not dry_run:
                    await upkeep.sweep()
                pruned = await upkeep.prune(dry_run=dry_run)
                removed = 0 if dry_run else await upkeep.delete()
                waiting = len(await repository.outbox.waiting())
            return {
                "outputs": pruned.outputs,
                "files": pruned.files,
                "size_bytes": pruned.size_bytes,
                "runs": pruned.runs,
                "removed": removed,
                "waiting": waiting,
            }

        done = anyio.run(prune)
        if as_json:
            sys.stdout.write(json.dumps({"dry_run": dry_run, **done}) + "\n")
            return
        would = "would be" if dry_run else "were"
        size = format_size(done["size_bytes"])
        typer.echo(f"{done['outputs']:,} outputs and {done['files']:,} uploads of {size} {would} deleted.")
        if done["runs"]:
            typer.echo(f"What streams of {done['runs']:,} answers are made of {would} deleted.")
        if not dry_run:
            typer.echo(f"The bytes of {done['removed']:,} files were removed from the storage.")
        if done["waiting"]:
            typer.echo(f"{done['waiting']:,} are still to be removed: run it again, or see the server's log.")
