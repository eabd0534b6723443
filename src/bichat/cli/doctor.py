"""`bichat doctor`: what this host gives, layer by layer, and what to do about what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer

from bichat.cli import terminal


def command(as_json: bool = typer.Option(False, "--json", help="Print a JSON document.")) -> None:
    """Try this host: kernel, isolation level, each layer on or off, limits, environments.

    Exit code: 0 every layer is on, 3 code cannot be run here as it should be.
    """
    with terminal.errors_in_words(as_json=as_json):
        import anyio

        from bichat.sandbox.diagnosis import diagnose
        from bichat.sandbox.environments import EnvironmentStore
        from bichat.settings.settings import load_settings

        _require_linux()
        settings = load_settings()
        diagnosis = anyio.run(diagnose)
        environments = {
            environment.name: environment.python_version for environment in EnvironmentStore(settings.data_dir).list()
        }
        document = asdict(diagnosis) | {
            "ok": diagnosis.ok,
            "data_dir": str(settings.data_dir),
            "limits": asdict(settings.limits),
            "bounds": asdict(settings.bounds),
            "environments": environments,
        }
        if as_json:
            sys.stdout.write(json.dumps(document) + "\n")
        else:
            _print(document)
        raise typer.Exit(0 if diagnosis.ok else terminal.EXIT_PLATFORM)


def _require_linux() -> None:
    if sys.platform != "linux":
        from bichat.errors import SandboxUnavailableError

        raise SandboxUnavailableError(
            f"the sandbox needs the Linux kernel, and this is {sys.platform}",
            stage="platform",
            remedy="Run bichat on Linux 5.13 or later: a virtual machine or WSL 2 will do.",
        )


def _print(document: dict[str, object]) -> None:
    checks = document["checks"]
    facts = [
        ("Kernel", f"{document['kernel']} ({document['architecture']})"),
        ("Python", str(document["python"])),
        ("User", f"uid {document['uid']}"),
        ("Landlock", f"ABI {document['landlock_abi']}" if document["landlock_abi"] else "absent"),
        ("Data directory", str(document["data_dir"])),
        ("Isolation level", str(document["level"] or "none: code cannot be run here")),
        *(("Lacks", lack) for lack in document["lacks"]),  # type: ignore[attr-defined]
    ]
    terminal.table(("Host", ""), facts, stream=sys.stdout)
    rows = [
        (check["meaning"], "on" if check["on"] else "OFF", f"{check['detail']}\n{check['remedy']}".strip())
        for check in checks  # type: ignore[attr-defined]
    ]
    terminal.table(("Layer", "", "What was seen"), rows, stream=sys.stdout)
    limits, bounds = document["limits"], document["bounds"]
    rows = [(name, f"{value:,}", f"{bounds[name]:,}") for name, value in limits.items()]  # type: ignore[index,attr-defined]
    terminal.table(("Limit", "Default", "Bound"), rows, stream=sys.stdout)
    environments = document["environments"]
    rows = [(name, f"Python {version}") for name, version in environments.items()]  # type: ignore[attr-defined]
    terminal.table(("Environment", ""), rows or [("none built yet", "`bichat env build`")], stream=sys.stdout)
