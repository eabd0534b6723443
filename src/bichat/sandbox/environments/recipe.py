"""What an environment is made from, before anything is built."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bichat.errors import UserInputError

BUILDER_VERSION: Final = 5
"""Raised when a build puts something else into the folder: every environment is then built again when next needed."""

BUILT_IN: Final = ("data",)
"""Names of the environments that ship with bichat, the default first."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_REQUIRED = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A name and the exact requirements to install under it."""

    name: str
    lock: str
    """Text of a requirements file in which everything is pinned and hashed."""
    base: str = ""
    requested: tuple[str, ...] = ()
    """Distributions that were asked for by name on top of the base, normalised."""

    @property
    def lock_hash(self) -> str:
        """SHA-256 of the lock."""
        return hashlib.sha256(self.lock.encode()).hexdigest()

    @property
    def key(self) -> str:
        """Name of the folder that a build of this recipe stands in: lock, Python's minor version and builder, hashed."""
        return folder_key(self.lock_hash)


def folder_key(lock_hash: str) -> str:
    """Name of the folder for a lock of this hash, for the running Python and this builder."""
    text = f"{BUILDER_VERSION} {sys.version_info[0]}.{sys.version_info[1]} {lock_hash}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def built_in_recipe(name: str) -> Recipe:
    """The recipe that ships under `name`, one of `BUILT_IN`."""
    return Recipe(name=name, lock=(Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8"))


def check_name(name: str) -> str:
    """`name`, once it is known to be one that an environment can have.

    Raises:
        UserInputError: it is not 1 to 40 of a-z, 0-9, `-` and `_`, beginning with a letter.
    """
    if not _NAME.fullmatch(name):
        raise UserInputError(
            f"{name!r} cannot name an environment",
            remedy="Use 1 to 40 lower-case letters, digits, - and _, beginning with a letter.",
        )
    return name


def pinned_versions(lock: str) -> dict[str, str]:
    """The distributions that a compiled requirements text pins, by normalised name."""
    return {normalise(match[1]): match[2] for match in _PINNED.finditer(lock)}


def required_names(requirements: str) -> tuple[str, ...]:
    """The distributions that a hand-written requirements text asks for, normalised, in its order."""
    lines = (line.split("#")[0] for line in requirements.splitlines() if not line.lstrip().startswith(("-", ".", "/")))
    return tuple(dict.fromkeys(normalise(match[1]) for line in lines if (match := _REQUIRED.match(line))))


def unhashed_requirements(lock: str) -> tuple[str, ...]:
    """The requirements of a compiled text that stand there without a hash: folders, editable ones, repositories."""
    lines = lock.replace("\\\n", " ").splitlines()
    return tuple(
        line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#") and "--hash=" not in line
    )


def normalise(name: str) -> str:
    """A distribution's name as package indexes compare it: `Foo_Bar.baz` is `foo-bar-baz`."""
    return re.sub(r"[-_.]+", "-", name).lower()
