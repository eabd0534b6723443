"""What this host can give: found by making a sandbox on it and having its guest try the walls."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bichat.domain import IsolationReport, Limits, Status
from bichat.errors import BichatError, StorageError
from bichat.sandbox.environments.environment import Environment
from bichat.sandbox.host import Remark, remarks
from bichat.sandbox.isolation import landlock
from bichat.sandbox.isolation.layers import Level
from bichat.sandbox.sandbox import Ended
from bichat.sandbox.supervisor import Supervisor
from bichat.sizes import MIB

_FOLDER: Final = "doctor-"
_SELF_CHECK: Final = Path(__file__).parent / "guest" / "self_check.py"
#: What each answer of the self-check is about, in the order shown.
_MEANING: Final = {
    "private_root": "a root folder of its own",
    "read_only_root": "that root is read-only",
    "process_namespace": "no other process in sight",
    "network": "no network interface but its own loopback",
    "sockets": "no network socket",
    "user": "a user of its own",
    "capabilities": "no capability",
    "no_new_privileges": "no new privileges",
    "landlock": "Landlock",
    "seccomp": "system call filter",
    "namespaces_inside": "no namespaces made inside",
    "environment": "empty environment",
    "descriptors": "no descriptor but its streams and channel",
}
#: At the level `landlock`, where these differ.
_MEANING_OUTSIDE: Final = _MEANING | {
    "private_root": "no folder of other users'",
    "read_only_root": "nothing written outside of its own folder",
    "network": "no word of the network's interfaces",
    "signals": "no signal to processes outside",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One layer, tried."""

    name: str
    """Stable, for programs."""
    meaning: str
    on: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What this host gives."""

    kernel: str
    architecture: str
    python: str
    uid: int
    landlock_abi: int
    level: str | None
    """`namespaces` or `landlock`; None when no sandbox can be had."""
    lacks: tuple[str, ...]
    control_groups: str | None
    """`v1` or `v2` where the kernel holds the sandboxes' memory; None where a watchdog does alone."""
    checks: tuple[Check, ...]
    remarks: tuple[Remark, ...] = ()
    """How this host is set up in ways of its own."""

    @property
    def ok(self) -> bool:
        """Whether code can be run here with every layer on that its level has."""
        return self.level is not None and all(check.on for check in self.checks)


@contextmanager
def _bare_folder(data_dir: Path) -> Generator[Environment]:
    """A folder for one diagnosis, with the base Python's environment; those of killed doctors are removed on the way.

    Raises:
        StorageError: there is no room for it.
    """
    for left in data_dir.glob(f"{_FOLDER}*"):
        shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as undo:
        try:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix=_FOLDER, dir=data_dir)))
            folder.chmod(0o755)  # as root, the guest is another user; there is nothing in it
            environment = bare_environment(folder)
        except OSError as error:
            raise StorageError(
                f"nothing can be written to the data directory {data_dir}: {error.strerror}",
                stage="doctor",
                remedy="Make room there, or let BICHAT_DATA_DIR name another folder.",
            ) from error
        yield environment


async def diagnose(data_dir: Path, minimum: Level, memory_cap: int) -> Diagnosis:
    """Make one sandbox with nothing but the base Python in it, at the best level from `minimum` on, and ask its guest."""
    seen = _Seen()
    try:
        with _bare_folder(data_dir) as environment:
            seen = await _try_walls(environment, minimum)
    except BichatError as error:
        checks = (Check(name="sandbox", meaning="a sandbox", on=False, detail=error.message, remedy=error.remedy),)
        seen = _Seen(checks=checks)
    return Diagnosis(
        kernel=platform.release(),
        architecture=platform.machine(),
        python=f"{platform.python_version()} ({sys.executable})",
        uid=os.geteuid(),
        landlock_abi=landlock.abi_version(),
        level=seen.level,
        lacks=seen.lacks,
        control_groups=seen.control_groups,
        checks=seen.checks,
        remarks=remarks(memory_cap),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Of one sandbox."""

    level: str | None = None
    lacks: tuple[str, ...] = ()
    control_groups: str | None = None
    checks: tuple[Check, ...] = ()


async def _try_walls(environment: Environment, minimum: Level) -> _Seen:
    limits = Limits(timeout_s=30.0, memory_bytes=256 * MIB, disk_bytes=16 * MIB)
    async with Supervisor(environment, spool_folder=environment.path, minimum=minimum) as supervisor:
        sandbox = await supervisor.open(limits)
        try:
            code = _SELF_CHECK.read_text(encoding="utf-8")
            async for event in sandbox.execute(code, name="self_check.py", timeout_s=limits.timeout_s):
                if isinstance(event, Ended):
                    return _judged(event, sandbox.isolation, supervisor.control_groups)
        finally:
            await sandbox.close()
    raise AssertionError("Sandbox.execute ends with Ended")


def _judged(ended: Ended, isolation: IsolationReport, control_groups: str | None) -> _Seen:
    if ended.status is not Status.COMPLETED:
        detail = ended.error.message if ended.error else ended.status.value
        return _Seen(checks=(Check(name="self_check", meaning="the self-check", on=False, detail=detail),))
    answers = json.loads(ended.stdout.text)
    is_apart = isolation.level == Level.NAMESPACES
    meanings = _MEANING if is_apart else _MEANING_OUTSIDE
    checks = tuple(
        Check(
            name=name,
            meaning=meaning,
            on=bool(answers[name][0]),
            detail=str(answers[name][1]),
            remedy="" if answers[name][0] else "This is a fault of bichat on this host: please report it.",
        )
        for name, meaning in meanings.items()
        if is_apart or name != "user"  # who it runs as is said among what the level lacks
    )
    return _Seen(level=isolation.level, lacks=isolation.lacks, control_groups=control_groups, checks=checks)


def bare_environment(folder: Path) -> Environment:
    """An environment of the base Python alone, made in the empty `folder`: a link and the file that makes it one."""
    base = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    (folder / "bin").mkdir()
    (folder / "bin").chmod(0o755)  # whatever the umask
    (folder / "bin" / "python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    (folder / "pyvenv.cfg").chmod(0o644)
    return Environment(
        name="bare",
        path=folder,
        base_prefix=Path(sys.base_prefix),
        base_python=base,
        python_version=platform.python_version(),
        lock_hash="",
        created_at=datetime.now(UTC),
    )
