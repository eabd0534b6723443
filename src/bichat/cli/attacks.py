"""`bichat doctor --attack`: the attack suite at each level, as tables or as one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bichat.cli import terminal
from bichat.errors import UserInputError

if TYPE_CHECKING:
    from bichat.attacks.report import Report, Result
    from bichat.sandbox.isolation.layers import Level

EXIT_GOT_THROUGH = 1


def run(name: str, *, as_json: bool, is_asked: bool) -> int:
    """Attack the level called `name`, or both when it is empty; the exit code of it all.

    Raises:
        UserInputError: there is no such level, or no attack was asked for.
    """
    levels = _levels(name, is_asked=is_asked)
    reports = [_attacked(level, progress=None if as_json else terminal.Progress()) for level in levels]
    got_through = any(report.got_through for report in reports)
    unused = [report.level for report in reports if not _is_used(report.level)]
    for level in unused:
        terminal.say(f"BICHAT_ISOLATION is {_minimum()}: here no code runs at the level {level}")
    if as_json:
        document = {"got_through": got_through, "levels": [report.to_dict() for report in reports]}
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        for report in reports:
            _print_tables(report)
    if got_through:
        return EXIT_GOT_THROUGH
    # Nothing is known of what was not tried, be it for a fault of the suite's own.
    counted = reports if name else [report for report in reports if report.level not in unused]
    is_known = any(report.available for report in counted) and not any(report.broken for report in reports)
    return 0 if is_known else terminal.EXIT_PLATFORM


def _minimum() -> str:
    from bichat.settings.settings import load_settings

    return load_settings().isolation


def _is_used(level: str) -> bool:
    """Whether the operator's settings let code run at this level."""
    from bichat.sandbox.isolation.layers import Level

    return not (level == Level.LANDLOCK and _minimum() == Level.NAMESPACES)


def _levels(name: str, *, is_asked: bool) -> tuple[Level, ...]:
    from bichat.sandbox.isolation.layers import Level

    if not is_asked:
        raise UserInputError(
            "--level says which level is attacked, and no attack was asked for",
            stage="usage",
            remedy="Add --attack.",
        )
    if not name:
        return tuple(Level)
    if name not in set(Level):
        raise UserInputError(
            f"there is no isolation level {name!r}", stage="usage", remedy=f"There are: {', '.join(Level)}."
        )
    return (Level(name),)


def _attacked(level: Level, *, progress: terminal.Progress | None) -> Report:
    import anyio

    from bichat.attacks.suite import run_suite
    from bichat.sandbox.diagnosis import bare_environment
    from bichat.settings.location import make_data_dir
    from bichat.settings.settings import load_settings

    def tell(result: Result) -> None:
        if progress is not None:
            progress(f"attacking {level}", result.attack.name)

    async def attack(folder: Path, spool_folder: Path) -> Report:
        return await run_suite(bare_environment(folder), spool_folder, level=level, progress=tell)

    data_dir = make_data_dir(load_settings().data_dir)
    with TemporaryDirectory(prefix="attack-", dir=data_dir) as place:
        folder, spool_folder = (Path(place, name) for name in ("environment", "spool"))
        for path in (folder, spool_folder):
            path.mkdir()
            path.chmod(0o700)  # whatever the umask
        for path in (Path(place), folder):
            path.chmod(0o755)  # as root, the guest is another user; there is nothing in it
        try:
            return anyio.run(attack, folder, spool_folder)
        finally:
            if progress is not None:
                progress.done()


def _print_tables(report: Report) -> None:
    if not report.available:
        terminal.table(("Level", ""), [(report.level, f"not attacked: {report.reason}")], stream=sys.stdout)
        return
    rows = [
        (result.attack.family.value, result.attack.name, result.outcome.value, result.observed, result.stopped_by)
        for result in report.results
    ]
    terminal.table(
        ("Family", "Attack", "Outcome", "Observed", "Stopped by"),
        rows,
        stream=sys.stdout,
        title=f"Level {report.level}",
    )
    if report.got_through:
        wrong = [
            (each.attack.name, each.attack.tries, each.attack.expected, each.observed) for each in report.got_through
        ]
        terminal.table(("Got through", "Tries", "Expected", "Observed"), wrong, stream=sys.stdout)
    counts = [(str(count), outcome) for outcome, count in report.counts.items()]
    terminal.table(("Attacks", ""), counts, stream=sys.stdout)
