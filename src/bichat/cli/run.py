"""`bichat run`: programs in one session, their output as it comes, their files saved."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import typer

from bichat.cli import arguments, terminal
from bichat.cli.arguments import Program
from bichat.cli.showing import Screen
from bichat.domain import ExecutionResult, Timings
from bichat.names import printable
from bichat.sizes import format_size

if TYPE_CHECKING:
    from bichat.interpreter import CodeInterpreter, SessionOptions
    from bichat.sandbox.denials import Denials
    from bichat.sandbox.launch import Launched

#: How long the addresses are good that `--save` prints.
_ADDRESS_S: Final = 24 * 3600.0
Addresses: TypeAlias = Mapping[str, str]


def command(  # one parameter per option
    context: typer.Context,
    sources: list[str] = typer.Argument(
        default_factory=list,
        show_default=False,
        metavar="[FILE... | -]",
        help="Python files, run in order in one session; - reads stdin.",
    ),
    code: str | None = typer.Option(None, "-c", metavar="CODE", help="Code to run instead of a file."),
    file: list[Path] = typer.Option([], "--file", "-f", metavar="PATH", help="File to put into /mnt/data; repeatable."),
    output_dir: Path = typer.Option(
        arguments.DEFAULT_OUTPUT, "--output-dir", "-o", metavar="DIR", help="Where files that come out are saved."
    ),
    timeout: float | None = typer.Option(
        None, "--timeout", metavar="S", help="Wall-clock seconds, for each file; 300 by default."
    ),
    memory: str | None = typer.Option(None, "--memory", metavar="SIZE", help="Such as 512m or 2g; 1g by default."),
    environment: str | None = typer.Option(
        None, "--environment", "-e", metavar="NAME", help="Package set to run with; see `bichat env list`."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    timings: bool = typer.Option(False, "--timings", help="Print how long each stage took."),
    save: bool = typer.Option(
        False, "--save", help="Keep the run and its files in the storage and the database; prints ids and addresses."
    ),
    explain_denials: bool = typer.Option(
        False, "--explain-denials", help="Name the system calls that the sandbox refused, and what to do about each."
    ),
) -> None:
    """Run Python in a sandbox: output as it comes, new and changed files saved and listed.

    Several files share one session: each finds the variables and files of those before it, and the first one that
    fails is the last that runs.

    Exit code: 0 the code completed, 1 the code raised, 2 bad usage, 3 the platform failed, 124 timeout,
    130 interrupted with Ctrl-C, 137 killed at a limit.
    """
    with terminal.errors_in_words(as_json=as_json):
        options: SessionOptions = {
            "files": arguments.inputs(file),
            "timeout_s": timeout,
            "memory": memory,
            "environment": environment,
        }
        programs = arguments.programs(sources, code)
        with _denials() if explain_denials else nullcontext() as denials:
            exit_code = run(
                programs,
                options,
                context.obj,
                None if save else output_dir,
                as_json=as_json,
                timings=timings,
                denials=denials,
            )
        raise typer.Exit(exit_code)


def run(
    programs: tuple[Program, ...],
    options: SessionOptions,
    launched: Launched | None,
    output_dir: Path | None,
    *,
    as_json: bool = False,
    timings: bool = False,
    denials: Denials | None = None,
) -> int:
    """Run `programs` in one session until one fails, print what there is to print, save their files; the exit code.

    `launched` is a launcher on its way, if there is one; `denials` hears of the calls that are refused meanwhile.
    Without an `output_dir` runs and files are kept in the storage and the database instead.
    """
    if output_dir is not None:
        arguments.check_output(output_dir)
    screen = Screen(quiet=as_json)
    described: list[dict[str, Any]] = []

    def ended(program: Program, result: ExecutionResult, addresses: Addresses) -> None:
        saved = result.save_artifacts(output_dir) if result.artifacts and output_dir is not None else ()
        if as_json:
            document = _describe(result, saved, addresses)
            described.append(document | ({"name": program.name} if len(programs) > 1 else {}))
            return
        screen.failure(result)
        if output_dir is None:
            _print_kept(result, addresses)
        else:
            _print_files(result, saved)
        if timings:
            _print_timings(result.timings)

    last = _execute(programs, options, launched, screen, ended, denials, keep=output_dir is None)
    if denials is not None and not as_json:
        _print_denials(denials)
    if as_json:
        document = {"status": last.status.value, "executions": described} if len(programs) > 1 else described[0]
        if denials is not None:
            document["denials"] = [denial.to_dict() for denial in denials.found]
        sys.stdout.write(json.dumps(document) + "\n")
    return terminal.exit_code(last)


def _execute(
    programs: tuple[Program, ...],
    options: SessionOptions,
    launched: Launched | None,
    screen: Screen,
    ended: Callable[[Program, ExecutionResult, Addresses], None],
    denials: Denials | None,
    *,
    keep: bool,
) -> ExecutionResult:
    """The result of the last program that ran; `ended` is told of each."""
    import anyio

    from bichat.interpreter import CodeInterpreter
    from bichat.session import check_code

    progress = terminal.Progress()

    async def go() -> ExecutionResult:
        async with AsyncExitStack() as exits:
            storage = repository = None
            if keep:
                from bichat.archive.opening import open_places
                from bichat.settings.settings import load_settings

                storage, repository = await exits.enter_async_context(open_places(load_settings()))
            interpreter = await exits.enter_async_context(
                CodeInterpreter(
                    preload=False,
                    progress=progress,
                    launched=launched,
                    denials=denials,
                    storage=storage,
                    repository=repository,
                )
            )
            try:
                session = await interpreter.open_session(**options)
            finally:
                progress.done()
            for number, program in enumerate(programs[:-1], 1):
                result = await screen.follow(session.stream(program.code, name=program.name))
                ended(program, result, await _addresses(interpreter, result))
                if not result.ok:
                    screen.tell(f"not run any more: {', '.join(one.name for one in programs[number:])}")
                    return result
            last = programs[-1]
            result = await screen.follow(session.stream(last.code, name=last.name, final=True))
            ended(last, result, await _addresses(interpreter, result))
            return result

    for program in programs:
        check_code(program.code)
    return anyio.run(go)


async def _addresses(interpreter: CodeInterpreter, result: ExecutionResult) -> Addresses:
    """By the id of each output, where anybody may load it for a day."""
    if interpreter.archive is None:
        return {}
    storage = interpreter.archive.storage
    return {
        artifact.id: await storage.url(artifact.storage_key, expires_in_s=_ADDRESS_S)
        for artifact in result.artifacts
        if artifact.id
    }


def _describe(result: ExecutionResult, saved: tuple[Path, ...], addresses: Addresses) -> dict[str, Any]:
    document = result.to_dict()
    for described, path in zip(document["artifacts"], saved, strict=bool(saved)):
        described["path"] = str(path)
    for described in document["artifacts"]:
        if described["id"] in addresses:
            described["download_url"] = addresses[described["id"]]
    return document


def _print_kept(result: ExecutionResult, addresses: Addresses) -> None:
    """The execution's id, and of each file its own and where it can be loaded, or why it was not kept."""
    typer.echo(
        f"execution {result.id}" + (f", not recorded: {result.not_recorded}" if result.not_recorded else ""), err=True
    )
    for artifact in result.artifacts:
        name = printable(artifact.name)
        if artifact.id:
            typer.echo(f"{name}  {artifact.id}\n  {addresses[artifact.id]}", err=True)
        else:
            typer.echo(f"{name}  not kept: {printable(artifact.not_kept)}", err=True)
    _print_refused(result)


def _print_files(result: ExecutionResult, saved: tuple[Path, ...]) -> None:
    if result.artifacts:
        rows = [
            (artifact.name, artifact.mime_type, format_size(artifact.size_bytes), str(path))
            for artifact, path in zip(result.artifacts, saved, strict=True)
        ]
        terminal.table(("File", "Type", "Size", "Saved as"), rows, stream=sys.stderr)
    _print_refused(result)


def _print_refused(result: ExecutionResult) -> None:
    if result.refused:
        terminal.table(
            ("Not saved", "Reason"), [(file.name, file.reason) for file in result.refused], stream=sys.stderr
        )


def _denials() -> Denials:
    from bichat.sandbox.denials import Denials

    return Denials()


def _print_denials(denials: Denials) -> None:
    """A table of what was refused; those that libraries do without by themselves come last."""
    found = sorted(denials.found, key=lambda denial: denial.advice.startswith("Nothing"))
    if not found:
        terminal.say("no system call was refused")
        return
    rows = [
        (f"{denial.call}\n{denial.error}, {denial.times} x, {', '.join(denial.programs)}", denial.advice)
        for denial in found
    ]
    terminal.table(("Refused", "What to do"), rows, stream=sys.stderr)


def _print_timings(timings: Timings) -> None:
    stages = (
        ("sandbox ready", timings.sandbox_s),
        ("input files in", timings.input_s),
        ("code run", timings.run_s),
        ("files out", timings.capture_s),
        ("total", timings.total_s),
    )
    terminal.table(("Stage", "ms"), [(name, f"{1000 * taken:.1f}") for name, taken in stages], stream=sys.stderr)
