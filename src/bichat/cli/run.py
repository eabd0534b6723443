"""`bichat run`: one piece of code, its output as it comes, its files saved."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bichat.cli import terminal
from bichat.domain import ExecutionResult, Timings
from bichat.errors import UserInputError
from bichat.sizes import format_size

if TYPE_CHECKING:
    from bichat.interpreter import RunOptions
    from bichat.sandbox.launch import Launched

_DEFAULT_OUTPUT = Path("bichat-output")


def command(  # one parameter per option
    context: typer.Context,
    source: str | None = typer.Argument(None, metavar="[FILE | -]", help="Python file to run; - reads stdin."),
    code: str | None = typer.Option(None, "-c", metavar="CODE", help="Code to run instead of a file."),
    file: list[Path] = typer.Option([], "--file", "-f", metavar="PATH", help="File to put into /mnt/data; repeatable."),
    output_dir: Path = typer.Option(
        _DEFAULT_OUTPUT, "--output-dir", "-o", metavar="DIR", help="Where files that come out are saved."
    ),
    timeout: float | None = typer.Option(None, "--timeout", metavar="S", help="Wall-clock seconds; 300 by default."),
    memory: str | None = typer.Option(None, "--memory", metavar="SIZE", help="Such as 512m or 2g; 1g by default."),
    environment: str | None = typer.Option(
        None, "--environment", "-e", metavar="NAME", help="Package set to run with; see `bichat env list`."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    timings: bool = typer.Option(False, "--timings", help="Print how long each stage took."),
) -> None:
    """Run Python in a sandbox: output as it comes, new and changed files saved and listed.

    Exit code: 0 the code completed, 1 the code raised, 2 bad usage, 3 the platform failed, 124 timeout,
    137 killed at a limit.
    """
    with terminal.errors_in_words(as_json=as_json):
        text, name = _code(source, code)
        _check_output(output_dir)
        options: RunOptions = {
            "files": _inputs(file),
            "timeout_s": timeout,
            "memory": memory,
            "environment": environment,
            "name": name,
        }
        result = _execute(text, options, context.obj, quiet=as_json)
        saved = result.save_artifacts(output_dir) if result.artifacts else ()
        if as_json:
            _print_json(result, saved)
        else:
            _print_rest(result, saved, timings=timings)
        raise typer.Exit(terminal.exit_code(result))


def _code(source: str | None, code: str | None) -> tuple[str, str]:
    """The code and what tracebacks call it."""
    if (source is None) == (code is None):
        raise UserInputError(
            "there is no code to run" if code is None else "a file and -c were both given",
            stage="usage",
            remedy="Name a Python file, or -, or pass the code with -c.",
        )
    if code is not None:
        return code, "<command>"
    if source == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input"), "<stdin>"
    path = Path(source or "")
    try:
        return _decoded(path.read_bytes(), str(path)), path.name
    except OSError as error:
        raise UserInputError(
            f"{path} cannot be read: {error.strerror}", stage="usage", remedy="Name a Python file that exists."
        ) from error


def _check_output(folder: Path) -> None:
    """Before anything runs: a result that cannot be saved an hour later is lost."""
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserInputError(
            f"files cannot be saved in {folder}: {nearest} is no folder that can be written to",
            stage="usage",
            remedy="Name another folder with --output-dir.",
        )


def _decoded(content: bytes, origin: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserInputError(
            f"{origin} is not UTF-8 text (byte {error.start})", stage="usage", remedy="Save the file as UTF-8."
        ) from error


def _inputs(paths: list[Path]) -> dict[str, Path]:
    inputs: dict[str, Path] = {}
    for path in paths:
        if path.name in inputs:
            raise UserInputError(
                f"two input files are called {path.name}", stage="usage", remedy="Rename one: they go into one folder."
            )
        inputs[path.name] = path
    return inputs


def _execute(code: str, options: RunOptions, launched: Launched | None, *, quiet: bool) -> ExecutionResult:
    import anyio

    from bichat.events import Completed, Stderr, Stdout
    from bichat.interpreter import CodeInterpreter

    progress = terminal.Progress()

    async def go() -> ExecutionResult:
        result: ExecutionResult | None = None
        async with CodeInterpreter(preload=False, progress=progress, launched=launched) as interpreter:
            async for event in interpreter.stream(code, **options):
                progress.done()
                match event:
                    case Stdout(text) if not quiet:
                        terminal.show(text, sys.stdout)
                    case Stderr(text) if not quiet:
                        terminal.show(text, sys.stderr)
                    case Completed(completed):
                        result = completed
                    case _:
                        pass
        if result is None:
            raise AssertionError("a stream ends with Completed")
        return result

    return anyio.run(go)


def _print_json(result: ExecutionResult, saved: tuple[Path, ...]) -> None:
    document = result.to_dict()
    for described, path in zip(document["artifacts"], saved, strict=True):
        described["path"] = str(path)
    sys.stdout.write(json.dumps(document) + "\n")


def _print_rest(result: ExecutionResult, saved: tuple[Path, ...], *, timings: bool) -> None:
    """What was not shown while the code ran: its error, its files, where the time went."""
    for omitted, name in ((result.stdout_omitted_bytes, "stdout"), (result.stderr_omitted_bytes, "stderr")):
        if omitted:
            sys.stderr.write(
                f"bichat: {name} above the limit is shown but not kept in the result ({omitted:,} bytes)\n"
            )
    if result.error is not None:
        error = result.error
        terminal.show(error.traceback or f"{error.name}: {error.message}\n", sys.stderr)
        if result.status.value != "error":
            sys.stderr.write(f"bichat: status {result.status.value}\n")
    if result.artifacts:
        rows = [
            (artifact.name, artifact.mime_type, format_size(artifact.size_bytes), str(path))
            for artifact, path in zip(result.artifacts, saved, strict=True)
        ]
        terminal.table(("File", "Type", "Size", "Saved as"), rows, stream=sys.stderr)
    if result.refused:
        terminal.table(
            ("Not saved", "Reason"), [(file.name, file.reason) for file in result.refused], stream=sys.stderr
        )
    if timings:
        _print_timings(result.timings)


def _print_timings(timings: Timings) -> None:
    stages = (
        ("sandbox ready", timings.sandbox_s),
        ("input files in", timings.input_s),
        ("code run", timings.run_s),
        ("files out", timings.capture_s),
        ("total", timings.total_s),
    )
    terminal.table(("Stage", "ms"), [(name, f"{1000 * taken:.1f}") for name, taken in stages], stream=sys.stderr)
