"""Keys: what a stored file is found by.  We make them; nothing that a guest or a user named is ever part of one."""

from __future__ import annotations

import re
import secrets
from typing import Final

from bichat.errors import UserInputError
from bichat.names import printable
from bichat.tenants import check_tenant

#: 128 random bits, in hexadecimal: nobody guesses one, and no two are the same.
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def new_key(tenant: str) -> str:
    """A key that nobody has yet: `tenant/<32 hexadecimal digits>`.

    Raises:
        UserInputError: no such tenant can be.
    """
    return f"{check_tenant(tenant)}/{secrets.token_hex(16)}"


def split_key(key: str) -> tuple[str, str]:
    """The tenant of a key, and the rest.

    Raises:
        UserInputError: `key` is none that `new_key` makes, such as an empty one, a path or an address.
    """
    tenant, _, rest = key.partition("/")
    if not _ID.fullmatch(rest):
        raise UserInputError(
            f"{printable(key)[:120]!r} is no key of a stored file",
            stage="storage",
            remedy="Keys come from new_key(); names and addresses are none.",
        )
    return check_tenant(tenant), rest
