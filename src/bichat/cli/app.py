"""The `bichat` command and its subcommands."""

from __future__ import annotations

import os

import typer

from bichat.cli import database, doctor, environments, keys, prune, run, serve, shell, tenants

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
app.add_typer(tenants.app, name="tenant")
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
    _name_misspelt_variables(context.invoked_subcommand)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def _name_misspelt_variables(command: str | None) -> None:
    """On stderr, once: who misspells BICHAT_ISOLATION runs weaker than he asked.  `doctor` has them among its remarks."""
    if command == "doctor" or not any(name.startswith("BICHAT_") for name in os.environ):
        return
    from bichat.cli import terminal
    from bichat.settings.doubts import misspelt

    for doubt in misspelt():
        terminal.say(f"{doubt.what}. {doubt.follows}")
