"""Which of the kernel's calls guests really make, by program: what the filter's allow-list is drawn up from.

    python scripts/trace_calls.py [--json FILE] [WHAT ...]

Needs root and strace.  WHAT: `packages` (the scripts that use each package of the environment `data`),
`differential` (the notebooks' cells), `guest` (the tests of the guest), or Python files; all of the three by default.
Each is run from outside under strace, and counted is what its guests do after their filter has been installed, with
everything that they start; the filter itself is in force, so that a call that it refuses is seen with its errno.

Prints, per call, how often it was made, how often refused, and who made it; for calls whose arguments are checked,
the values of the checked ones; then the calls that the policy allows and nobody made.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bichat.sandbox.isolation.calls import NUMBERS
from bichat.sandbox.isolation.policy import ALLOWED, CHECKED, COLUMN

ROOT: Final = Path(__file__).parents[1]
#: Options of strace: numbers raw, so that arguments can be compared; pids as the tracer sees them.
STRACE: Final = ("strace", "-f", "-q", "-X", "raw", "-s", "0", "--signal=none", "--pidns-translation")
_LINE: Final = re.compile(r"^(\d+)\s+(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)$")
_GONE: Final = re.compile(r"^(\d+)\s+\+\+\+ ")
_RESULT: Final = re.compile(r"= (\?|-?\w+)(?: (E[A-Z0-9]+))?[^=]*$")
_OUTER_PID: Final = re.compile(r"= \d+ /\* (\d+) in strace's PID NS \*/")


@dataclass
class Uses:
    """Of one call."""

    made: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    programs: Counter[str] = field(default_factory=Counter[str])
    values: Counter[str] = field(default_factory=Counter[str])


def calls_of_guests(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Name, arguments and errno of each finished call by a guest, from strace's lines.

    A guest is who has entered a room by `setns` and then put up a filter; other programs, `man` for one, have filters too.
    """
    entered: set[str] = set()
    filtered: set[str] = set()
    pending: dict[str, str] = {}
    early: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for line in lines:
        if gone := _GONE.match(line):
            filtered.discard(gone.group(1))  # its number may be another's soon
            entered.discard(gone.group(1))
            early.pop(gone.group(1), None)
        if (match := _LINE.match(line)) is None:
            continue
        pid, name, kind, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            pending[pid] = rest.removesuffix("<unfinished ...>")
            continue
        arguments = pending.pop(pid, "") + rest if kind != "(" else rest
        result = _RESULT.search(arguments)
        if result is None:
            continue
        code, error = result.groups()
        call = (name, arguments[: result.start()].rstrip().removesuffix(")"), error or "")
        if pid in filtered:
            yield call
        else:
            early[pid].append(call)  # a child may be heard of before the return of the call that made it
        if name == "setns" and code == "0":
            entered.add(pid)
        if name == "seccomp" and code == "0" and pid in entered:
            filtered.add(pid)
            early.pop(pid, None)
        if name in ("clone", "fork", "vfork") and pid in filtered and not error:
            outer = _OUTER_PID.search(arguments)
            child = outer.group(1) if outer else code
            filtered.add(child)
            yield from early.pop(child, ())


def trace(label: str, command: list[str], uses: defaultdict[str, Uses]) -> None:
    """Run `command` under strace and add up what its guests do."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace", suffix=".strace") as log:
        done = subprocess.run(
            [*STRACE, "-o", log.name, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        total = 0
        for name, arguments, error in calls_of_guests(log):
            total += 1
            use = uses[name]
            use.made += 1
            use.programs[label] += 1
            if error in ("EPERM", "ENOSYS", "EACCES"):
                use.refused[error] += 1
            if rule := CHECKED.get(name):
                parts = [part.strip() for part in re.sub(r"child_stack=\w+, ", "", arguments).split(",")]
                at = dict.fromkeys(condition.argument for condition in rule.conditions)
                checked = [parts[argument] if argument < len(parts) else "?" for argument in at]
                use.values[f"{' '.join(checked)}{f' ({error})' if error else ''}"] += 1
    print(f"{label}: {total} calls, exit {done.returncode}", file=sys.stderr)
    if done.returncode:
        print((done.stdout + done.stderr)[-1500:], file=sys.stderr)


def programs(what: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A label and a command for each thing to trace."""
    bichat = [sys.executable, "-m", "bichat"]
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "3000"]
    for item in what:
        if item == "packages":
            folder = ROOT / "tests/integration/packages"
            data = [option for path in sorted(folder.rglob("*.csv")) for option in ("--file", str(path))]
            for script in sorted(folder.glob("*.py")):
                yield script.stem, [*bichat, "run", str(script), *data, "-o", tempfile.gettempdir() + "/trace-calls"]
        elif item == "differential":
            yield item, [*tests, "tests/differential"]
        elif item == "guest":
            yield item, [*tests, "tests/integration/guest"]
        else:
            yield Path(item).stem, [*bichat, "run", item, "-o", tempfile.gettempdir() + "/trace-calls"]


def report(uses: dict[str, Uses]) -> None:
    """Print what was found."""
    for name, use in sorted(uses.items(), key=lambda item: -item[1].made):
        refused = " ".join(f"{error} {count}" for error, count in use.refused.items())
        who = ", ".join(label for label, _ in use.programs.most_common(4))
        more = f" and {len(use.programs) - 4} more" if len(use.programs) > 4 else ""
        print(f"{name:22} {use.made:8}  {refused:14}  {who}{more}")
        for value, count in use.values.most_common(40):
            print(f"    {value:40} {count}")
    column = COLUMN[platform.machine()]
    allowed = {name for names in ALLOWED.values() for name in names.split()} | CHECKED.keys()
    unused = sorted(name for name in allowed - uses.keys() if NUMBERS[name][column] is not None)
    print("\nallowed, and made by nobody:", ", ".join(unused))


def main() -> None:
    """Trace what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=["packages", "differential", "guest"])
    parser.add_argument("--json", type=Path, help="also write the counts there")
    options = parser.parse_args()
    uses: defaultdict[str, Uses] = defaultdict(Uses)
    for label, command in programs(options.what):
        trace(label, command, uses)
    report(uses)
    if options.json:
        counts = {
            name: {"made": use.made, "refused": use.refused, "programs": use.programs, "values": use.values}
            for name, use in uses.items()
        }
        options.json.write_text(json.dumps(counts, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
