"""User namespaces: whose uid the guest runs under, seen from the host and from inside."""

from __future__ import annotations

import os
import pwd
import random
from collections.abc import Collection
from typing import Final

from bichat.sandbox.isolation import kernel

#: uid and gid that guest code sees itself as.
GUEST_ID: Final = 1000
#: Host uids that no distribution hands out: above containers' ranges (systemd's `UIDS-GIDS.md`), below 2**31.
_UNUSED_IDS: Final = range(1_879_048_192, 2_147_483_000)


def unused_host_id(taken: Collection[int] = ()) -> int:
    """A host uid that no account uses, nor any of those `taken`, for guests whose server is root; drawn anew each time.

    RLIMIT_NPROC does not hold for host uid 0, and a file mode is a boundary only between different uids.
    Inside a container that has few uids mapped, one from the top of the mapping that has no account.

    Raises:
        OSError: every mapped uid belongs to an account, or is taken.
    """
    mapped = _mapped_ids()
    candidates = [range(max(_UNUSED_IDS.start, part.start), min(_UNUSED_IDS.stop, part.stop)) for part in mapped]
    unused = max(candidates, key=len)
    draw = random.SystemRandom().choice
    while unused:
        candidate = draw(unused)
        if candidate not in taken:
            return candidate
    used = {entry.pw_uid for entry in pwd.getpwall()} | {0, 65534, *taken}
    for part in sorted(mapped, key=lambda ids: ids.stop, reverse=True):
        left = [candidate for candidate in part[-1000:] if candidate not in used]
        if left:
            return draw(left)
    raise OSError(22, "no uid without an account is mapped into this container", "unused_host_id")


def _mapped_ids() -> list[range]:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return [range(inside, inside + count) for inside, _, count in rows]


def become(host_id: int, *, keep: Collection[int] = ()) -> None:
    """Give up root for good: no groups, `host_id` as every uid and gid, and no capability but those to `keep`.

    Needs the capabilities SETUID and SETGID.
    """
    if keep:
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(host_id, host_id, host_id)
    os.setresuid(host_id, host_id, host_id)
    if keep:
        kernel.keep_capabilities(keep)
    # A change of uid makes the process undumpable, and then its /proc/self/uid_map belongs to root.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def map_identity(inside: int, outside_uid: int, outside_gid: int) -> None:
    """In a fresh user namespace: one uid and one gid, called `inside` here and `outside_*` in the parent."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {outside_uid} 1"),
        ("gid_map", f"{inside} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
