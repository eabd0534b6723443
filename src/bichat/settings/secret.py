"""The installation's secret: 32 random bytes in the data directory, from which download addresses are signed."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from bichat.errors import StorageError
from bichat.settings.location import make_data_dir

SECRET_BYTES: Final = 32
_NAME: Final = "secret"


def load_secret(data_dir: Path) -> bytes:
    """The secret of the installation whose data lies in `data_dir`, made now where there is none; mode 0600.

    Processes that start at the same moment get the same one.  Who deletes the file voids every address that was given
    out, and nothing else.

    Raises:
        StorageError: it cannot be read or made, has a wrong length, or others may read it.
    """
    path = make_data_dir(data_dir) / _NAME
    with suppress(FileNotFoundError):
        return _read(path)
    partial = path.with_name(f".{_NAME}-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, secrets.token_bytes(SECRET_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):  # another process was first: its secret is the one
            os.link(partial, path)
    except OSError as error:
        raise _failed(path, os.strerror(error.errno or 0)) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return _read(path)


def _read(path: Path) -> bytes:
    """The secret in `path`; FileNotFoundError where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            secret = file.read(SECRET_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _failed(path, os.strerror(error.errno or 0)) from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise _failed(path, "others may read it", f"chmod 600 {path}, or delete it: a new one is made then.")
    if len(secret) != SECRET_BYTES:
        raise _failed(path, f"it has not {SECRET_BYTES} bytes", "Delete it: a new one is made then.")
    return secret


def _failed(path: Path, reason: str, remedy: str = "") -> StorageError:
    return StorageError(
        f"the installation's secret {path}: {reason}",
        stage="settings",
        remedy=remedy or "See that this user may read and write there.",
    )
