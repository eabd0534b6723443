"""Whose data it is: the rule for a tenant's name, which becomes part of keys, rows and log lines."""

from __future__ import annotations

import re
from typing import Final

from bichat.errors import UserInputError
from bichat.names import printable

#: What the one tenant of an installation without tenants is called.
LOCAL: Final = "local"
MAX_TENANT_CHARS: Final = 64
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_TENANT_CHARS - 1}}}", re.ASCII)


def check_tenant(tenant: str) -> str:
    """`tenant` itself, once it is known to be a name: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or a digit.

    Nothing else is ever part of a key: no separator, no `..`, nothing that two file systems would spell in two ways.

    Raises:
        UserInputError: it is empty, or not such a name.
    """
    if not isinstance(tenant, str) or not _NAME.fullmatch(tenant):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may not check types
        shown = printable(str(tenant))[:80]
        raise UserInputError(
            f"{shown!r} is no tenant" if tenant else "the tenant has no name",
            stage="tenant",
            remedy=f"Name whose data it is: 1 to {MAX_TENANT_CHARS} letters, digits, '.', '_' and '-', "
            "the first a letter or a digit.",
        )
    return tenant
