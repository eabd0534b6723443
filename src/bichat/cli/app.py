"""The `bichat` command and its subcommands."""

from __future__ import annotations

import typer

from bichat.cli import database, doctor, environments, keys, prune, run, serve, shell

app = typer.Typer(
    name="bichat",
    help="Run Python that a model wrote, in a real sandbox on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.command)
app.command("shell")(shell.command)
app.command("serve")(serve.command)
app.command("doctor")(doctor.command)
app.command("prune")(prune.command)
app.add_typer(environments.app, name="env")
app.add_typer(database.app, name="db")
app.add_typer(keys.app, name="key")


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Run Python that a model wrote, in a real sandbox on this machine."""
    if version:
        import bichat

        typer.echo(f"bichat {bichat.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
