"""`bichat serve`: OpenAI's wire on this machine."""

from __future__ import annotations

from dataclasses import replace

import typer

from bichat.cli import terminal


def command(
    host: str = typer.Option(
        "127.0.0.1", "--host", help="Where to listen; anything but this machine needs keys and TLS."
    ),
    port: int = typer.Option(8400, "--port", min=0, max=65535),
    behind_proxy: str = typer.Option(
        "", "--behind-proxy", help="Address of the proxy that speaks TLS before the server; several with commas."
    ),
    tls_cert: str = typer.Option("", "--tls-cert", help="The server's certificate, a file."),
    tls_key: str = typer.Option("", "--tls-key", help="The certificate's key, a file."),
    patience: float = typer.Option(
        60.0, "--patience", min=0.0, help="Seconds that answers may go on for once the server is to end."
    ),
) -> None:
    """Serve OpenAI's Files, Containers, Responses and Conversations API: point a client's base_url at it."""
    with terminal.errors_in_words():
        import anyio

        try:
            from bichat.repository import default_address
            from bichat.server.serving import Address, Server, check_address, has_keys, name_service, set_up_logs
        except ImportError as error:
            from bichat.errors import UserInputError

            raise UserInputError(
                f"the server needs a package that is not installed: {error.name}",
                stage="serve",
                remedy="pip install 'bichat[all]'",
            ) from error
        from bichat.settings.location import make_data_dir
        from bichat.settings.settings import DEFAULT_PUBLIC_URL, load_settings

        settings = load_settings()
        address = Address(host=host, port=port, certificate=tls_cert, key=tls_key, proxy=behind_proxy)
        if settings.public_url == DEFAULT_PUBLIC_URL and address.is_local and port:
            # Links to files lead to where they are served.
            settings = replace(settings, public_url=address.url.removesuffix("/v1"))

        async def check() -> bool:
            database = settings.database_url or default_address(make_data_dir(settings.data_dir))
            keys = await has_keys(database)
            await check_address(address, has_keys=keys)
            return keys

        keys = anyio.run(check)
        set_up_logs()
        name_service()
        who = "with an API key" if keys else "without a key, for programs on this machine alone"
        typer.echo(f"bichat serves {address.url} {who}; Ctrl-C ends it.", err=True)
        if settings.public_url == DEFAULT_PUBLIC_URL and not address.is_local:
            typer.echo(
                "Warning: BICHAT_PUBLIC_URL is not set.  Links to files in chat completions begin with the Host that a "
                "request names, and lead nowhere where a proxy does not pass that on.  Set it to where the server is "
                "reached, such as https://bi.example.com.",
                err=True,
            )
        server = Server(settings, address, patience_s=patience)
        server.run()
        if not server.started:
            raise typer.Exit(3)
