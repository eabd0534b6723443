"""`bichat doctor`: what this host gives, layer by layer, and what to do about what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from bichat.cli import terminal
from bichat.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bichat.sandbox.diagnosis import Diagnosis
    from bichat.sandbox.environments import Environment
    from bichat.settings.settings import Settings


def command(
    as_json: bool = typer.Option(False, "--json", help="Print a JSON document."),
    attack: bool = typer.Option(False, "--attack", help="Attack this host's own sandbox, and say what held."),
    level: str = typer.Option("", "--level", help="With --attack: namespaces or landlock; both by default."),
) -> None:
    """Try this host: kernel, isolation level, each layer on or off, limits, environments.

    Exit code: 0 every layer is on, 3 code cannot be run here as it should be.
    With --attack: 0 everything held, 1 an attack got through, 3 there was no sandbox to attack.
    """
    with terminal.errors_in_words(as_json=as_json):
        _require_linux()
        if attack or level:
            from bichat.cli import attacks

            raise typer.Exit(attacks.run(level, as_json=as_json, is_asked=attack))
        import anyio

        from bichat.sandbox.diagnosis import diagnose
        from bichat.sandbox.environments import EnvironmentStore
        from bichat.sandbox.host import Remark
        from bichat.sandbox.isolation.layers import Level
        from bichat.settings.doubts import contradictions, misspelt
        from bichat.settings.location import make_data_dir
        from bichat.settings.settings import load_settings

        settings = load_settings()
        environments = EnvironmentStore(settings.data_dir).list()
        data_dir, minimum = make_data_dir(settings.data_dir), Level(settings.isolation)
        diagnosis = anyio.run(diagnose, data_dir, minimum, settings.caps.memory_bytes)
        asked = (Remark(**asdict(doubt)) for doubt in (*misspelt(), *contradictions(settings)))
        diagnosis = replace(diagnosis, remarks=(*diagnosis.remarks, *asked))
        show = _print_json if as_json else _print_tables
        show(diagnosis, settings, environments)
        raise typer.Exit(0 if diagnosis.ok else terminal.EXIT_PLATFORM)


def _require_linux() -> None:
    if sys.platform != "linux":
        raise SandboxUnavailableError(
            f"the sandbox needs the Linux kernel, and this is {sys.platform}",
            stage="platform",
            remedy="Run bichat on Linux 5.13 or later: a virtual machine or WSL 2 will do.",
        )


def _print_json(diagnosis: Diagnosis, settings: Settings, environments: Sequence[Environment]) -> None:
    document = asdict(diagnosis) | {
        "ok": diagnosis.ok,
        "data_dir": str(settings.data_dir),
        "limits": asdict(settings.limits),
        "bounds": asdict(settings.bounds),
        "environments": [
            {"name": built.name, "python_version": built.python_version, "packages": dict(built.packages)}
            for built in environments
        ],
    }
    sys.stdout.write(json.dumps(document) + "\n")


def _print_tables(diagnosis: Diagnosis, settings: Settings, environments: Sequence[Environment]) -> None:
    facts = [
        ("Kernel", f"{diagnosis.kernel} ({diagnosis.architecture})"),
        ("Python", diagnosis.python),
        ("User", f"uid {diagnosis.uid}"),
        ("Landlock", f"ABI {diagnosis.landlock_abi}" if diagnosis.landlock_abi else "absent"),
        ("Control groups", diagnosis.control_groups or "none: a watchdog alone holds memory"),
        ("Data directory", str(settings.data_dir)),
        ("Isolation level", diagnosis.level or "none: code cannot be run here"),
        *(("Lacks", lack) for lack in diagnosis.lacks),
    ]
    terminal.table(("Host", ""), facts, stream=sys.stdout)
    layers = [
        (check.meaning, "on" if check.on else "OFF", f"{check.detail}\n{check.remedy}".strip())
        for check in diagnosis.checks
    ]
    terminal.table(("Layer", "", "What was seen"), layers, stream=sys.stdout)
    if diagnosis.remarks:
        remarkable = [(remark.what, remark.follows) for remark in diagnosis.remarks]
        terminal.table(("Remarkable", "What follows"), remarkable, stream=sys.stdout)
    bounds = asdict(settings.bounds)
    limits = [(name, f"{value:,}", f"{bounds[name]:,}") for name, value in asdict(settings.limits).items()]
    terminal.table(("Limit", "Default", "Bound"), limits, stream=sys.stdout)
    built = [
        (environment.name, f"Python {environment.python_version}", f"{len(environment.packages)} packages")
        for environment in environments
    ]
    terminal.table(
        ("Environment", "Python", "Packages"), built or [("none built yet", "", "bichat env build")], stream=sys.stdout
    )
