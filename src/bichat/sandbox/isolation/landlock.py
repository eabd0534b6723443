"""Landlock: which files the guest may open, and that it may reach no port, abstract socket or process outside.

Access bits and their first ABI version are from the kernel's `Documentation/userspace-api/landlock.rst`.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from typing import Final

from bichat.sandbox.isolation.kernel import syscall

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
MAKE_CHAR: Final = 1 << 6
MAKE_BLOCK: Final = 1 << 11
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15

READ_ONLY: Final = EXECUTE | READ_FILE | READ_DIR
#: The rights that make sense on something that is not a folder; others are refused there with EINVAL.
FILE_RIGHTS: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

#: First version that keeps signals and abstract sockets inside.
SCOPES_ABI: Final = 6

_RULE_PATH_BENEATH: Final = 1
_CREATE_RULESET_VERSION: Final = 1


def abi_version() -> int:
    """Landlock's ABI version of this kernel; 0 where it is absent or switched off."""
    try:
        return require()
    except OSError:
        return 0


def require() -> int:
    """The version, which is at least 1.

    Raises:
        OSError: the kernel has no Landlock (ENOSYS), or it is switched off (EOPNOTSUPP).
    """
    return syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)


def handled_rights(abi: int) -> int:
    """Every file right that a kernel of ABI version `abi` can refuse."""
    if abi >= 5:
        return (1 << 16) - 1
    return {1: (1 << 13) - 1, 2: (1 << 14) - 1}.get(abi, (1 << 15) - 1)


def ruleset_attributes(abi: int, *, scoped: bool = True) -> bytes:
    """`struct landlock_ruleset_attr` that handles all that ABI version `abi` offers.

    Files always; bind and connect on TCP from 4; from 6, if `scoped`, abstract unix sockets and signals to outside.
    """
    network = 3 if abi >= 4 else 0
    scopes = 3 if abi >= SCOPES_ABI and scoped else 0
    packed = struct.pack("=QQQ", handled_rights(abi), network, scopes)
    return packed[: 8 if abi < 4 else 16 if abi < 6 else 24]


def restrict(
    read_only: Iterable[str], writable: Iterable[str], *, unlisted: Iterable[str] = (), scoped: bool = True
) -> int:
    """Confine this process and its children for good: read and execute `read_only`, all but devices below `writable`.

    Below `unlisted` files may be read, but no folder.
    `scoped` keeps them from signalling processes outside, where the kernel can.  Paths that do not exist, or that this process cannot reach, are left out.  Returns the ABI version used.  Needs no_new_privs.

    Raises:
        OSError: the kernel has no Landlock, or refused a rule.
    """
    abi = require()
    attributes = ruleset_attributes(abi, scoped=scoped)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        rights = handled_rights(abi)
        for path in read_only:
            _allow(ruleset, path, READ_ONLY & rights)
        for path in unlisted:
            _allow(ruleset, path, READ_FILE & rights)
        for path in writable:
            _allow(ruleset, path, rights & ~(MAKE_CHAR | MAKE_BLOCK))
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= FILE_RIGHTS
        syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
