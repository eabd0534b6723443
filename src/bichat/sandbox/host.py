"""What is remarkable about a host: how it is set up in ways of its own, what follows from that, and what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bichat.settings.memory import own_memory_limit
from bichat.sizes import format_size

#: Processors from which on somebody may wonder how many of them code has.
_MANY: Final = 64
_NOT_HIDDEN: Final = ("hidepid=0", "hidepid=off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is not as on most hosts."""

    name: str
    """Stable, for programs."""
    what: str
    follows: str
    """What it means for code, and what to do if anything."""


def remarks(memory_cap: int) -> tuple[Remark, ...]:
    """What is remarkable here, where all sandboxes may have `memory_cap` bytes together."""
    looks: tuple[Callable[[], Remark | None], ...] = (
        _processes_are_hidden,
        _no_shared_memory,
        _no_programs_in_temporary_folder,
        _process_1,
        _home_is_read_only,
        _no_swap,
        _many_processors,
        lambda: _less_memory_than(memory_cap),
    )
    return tuple(remark for remark in (look() for look in looks) if remark is not None)


def _processes_are_hidden() -> Remark | None:
    for mount_point, kind, options in _mounts():
        hidden = [option for option in options if option.startswith("hidepid=") and option not in _NOT_HIDDEN]
        if mount_point == "/proc" and kind == "proc" and hidden:
            return Remark(
                name="hidepid",
                what=f"/proc hides processes of other users ({hidden[0]})",
                follows="Nothing is to be done: bichat looks at sandboxes of its own alone.",
            )
    return None


def _no_shared_memory() -> Remark | None:
    if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):  # noqa: S108  # looked at, not written to
        return None
    return Remark(
        name="no_shared_memory",
        what="there is no /dev/shm that can be written to",
        follows="Nothing is to be done: at the level namespaces sandboxes have one of their own, at landlock none needs it.",
    )


def _no_programs_in_temporary_folder() -> Remark | None:
    folder = tempfile.gettempdir()
    if not os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return None
    return Remark(
        name="noexec_temporary_folder",
        what=f"programs in {folder} cannot be started (noexec)",
        follows="At the level landlock code cannot start programs that it has made; let TMPDIR name another folder if it must.",
    )


def _process_1() -> Remark | None:
    if os.getpid() != 1:
        return None
    return Remark(
        name="process_1",
        what="this is process 1, to which orphans fall",
        follows="Start it under an init where other programs run beside it: `docker run --init`, or tini.",
    )


def _home_is_read_only() -> Remark | None:
    with suppress(RuntimeError):
        home = Path.home()
        if os.access(home, os.W_OK):
            return None
        return Remark(
            name="read_only_home",
            what=f"the home folder {home} cannot be written to",
            follows="Let BICHAT_DATA_DIR name a folder that can.",
        )
    return None


def _no_swap() -> Remark | None:
    if int((_field("/proc/meminfo", "SwapTotal") or "0 kB").split()[0]):
        return None
    return Remark(
        name="no_swap",
        what="there is no swap",
        follows="Limits of memory hold as they are said; caps above what there is let the kernel kill.",
    )


def _many_processors() -> Remark | None:
    count = os.cpu_count() or 1
    if count < _MANY:
        return None
    return Remark(
        name="many_processors",
        what=f"{count:,} processors",
        follows="Code sees as many as the limit `cpus` gives a session; the caps let more sessions run at once.",
    )


def _less_memory_than(memory_cap: int) -> Remark | None:
    limit = own_memory_limit()
    if limit is None or limit >= memory_cap:
        return None
    return Remark(
        name="less_memory_than_the_cap",
        what=f"this process's control group has {format_size(limit)} of memory, sandboxes may have {format_size(memory_cap)}",
        follows="Set BICHAT_CAP_MEMORY_BYTES below it, or the kernel kills where bichat would have let a request wait.",
    )


def _mounts() -> Iterator[tuple[str, str, list[str]]]:
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            yield before.split()[4], kind, [*before.split()[5].split(","), *options.split(",")]


def _field(path: str, name: str) -> str:
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
    return ""
