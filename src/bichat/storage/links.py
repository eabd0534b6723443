"""Download addresses for storages that have no servers of their own: signed, and good for a time.

Whoever has such an address may load that one file until it expires, and nobody can make another from it: the signature
is over key and expiry, with a secret that never leaves the server.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from base64 import urlsafe_b64encode
from typing import Final
from urllib.parse import urlencode

from bichat.errors import NotFoundError, UserInputError
from bichat.storage.keys import split_key

#: As long as S3 signs for.
MAX_EXPIRY_S: Final = 7 * 24 * 3600
#: Distinguishes these signatures from everything else that is ever signed with the same secret.
_PURPOSE: Final = b"bichat download 1\0"


class DownloadLinks:
    """Makes and checks them."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        """`secret`: 32 random bytes.  `base_url`: where the server is reached, such as `https://bi.example.com`."""
        self._secret = secret
        self._base_url = base_url.rstrip("/")

    def url(self, key: str, expires_in_s: float) -> str:
        """`<base_url>/files/<key>?expires=<seconds since 1970>&signature=<43 characters>`.

        Raises:
            UserInputError: no key, or a time that is not above 0 and at most 7 days.
        """
        split_key(key)
        expires = math.ceil(time.time() + check_expiry(expires_in_s))
        query = urlencode({"expires": expires, "signature": self._signature(key, expires)})
        return f"{self._base_url}/files/{key}?{query}"

    def check(self, key: str, expires: str, signature: str) -> None:
        """Return when the address with these parts was made by `url`, and has not expired.

        Raises:
            NotFoundError: it was not, or it has; which of the two is not said.
        """
        try:
            split_key(key)
            until = int(expires) if expires.isascii() and expires.isdigit() and len(expires) <= 12 else 0
            is_ours = hmac.compare_digest(self._signature(key, until).encode(), signature.encode())
        except (UserInputError, UnicodeEncodeError):
            is_ours, until = False, 0
        if not is_ours or time.time() >= until:
            raise NotFoundError(
                "there is no such download",
                stage="download",
                remedy="Addresses expire: ask for a fresh one.",
            )

    def _signature(self, key: str, expires: int) -> str:
        message = _PURPOSE + f"{expires}\0{key}".encode()
        return urlsafe_b64encode(hmac.digest(self._secret, message, hashlib.sha256)).rstrip(b"=").decode()


def check_expiry(expires_in_s: float) -> float:
    """`expires_in_s` itself, once it is known to be a time for which addresses are signed.

    Raises:
        UserInputError: it is not above 0 and at most 7 days.
    """
    if not 0 < expires_in_s <= MAX_EXPIRY_S:
        raise UserInputError(
            f"an address cannot be good for {expires_in_s!r} s",
            stage="download",
            remedy=f"Ask for more than 0 and at most {MAX_EXPIRY_S:,} s.",
        )
    return expires_in_s
