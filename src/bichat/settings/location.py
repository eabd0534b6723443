"""Where bichat keeps what it builds and stores.  Standard library only: `bichat run` asks before all else."""

from __future__ import annotations

import os
from pathlib import Path

from bichat.errors import StorageError, UserInputError

DATA_DIR_VARIABLE = "BICHAT_DATA_DIR"


def data_dir() -> Path:
    """The data directory: `BICHAT_DATA_DIR`, or the platform's user data directory (`~/.local/share/bichat`).

    It is not made here, see `make_data_dir`.

    Raises:
        UserInputError: the variable holds a relative path.
    """
    chosen = os.environ.get(DATA_DIR_VARIABLE)
    if chosen:
        path = Path(chosen).expanduser()
        if not path.is_absolute():
            raise UserInputError(
                f"{DATA_DIR_VARIABLE} must be an absolute path, got {chosen!r}",
                stage="settings",
                remedy="Write the path from the root, such as /srv/bichat.",
            )
        return path
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share") / "bichat"


def default_environment() -> str:
    """Name of the package set that code sees when it names none: `BICHAT_ENVIRONMENT`, or `data`."""
    return os.environ.get("BICHAT_ENVIRONMENT") or "data"


def make_data_dir(path: Path) -> Path:
    """`path`, made with mode 0700 where it did not exist.

    Raises:
        StorageError: it cannot be made, is no folder, or cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)  # whatever the umask
    except OSError as error:
        raise StorageError(
            f"the data directory {path} cannot be made: {error.strerror}",
            stage="settings",
            remedy=f"Set {DATA_DIR_VARIABLE} to a folder that this user can write to.",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageError(
            f"the data directory {path} cannot be written to",
            stage="settings",
            remedy=f"Set {DATA_DIR_VARIABLE} to a folder that this user can write to.",
        )
    return path
