"""The environments of one data directory: found, listed, built and removed.

They lie in `<data_dir>/environments/<name>/<key>/`, where the key is a hash of the lock, Python's minor version and
the builder's version: an upgrade builds beside the old one and then finds the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

from bichat.errors import NotFoundError, UserInputError
from bichat.sandbox.environments.environment import Environment, Progress, read_manifest
from bichat.sandbox.environments.recipe import BUILT_IN, built_in_recipe, check_name, folder_key


class EnvironmentStore:
    """Reads the data directory; `build` alone writes to it."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "environments"

    def find(self, name: str) -> Environment | None:
        """The environment `name` as it would be used now; None when it has to be built first.

        Raises:
            NotFoundError: no environment of this name was ever built, and none of it ships with bichat.
            UserInputError: it cannot be a name.
        """
        check_name(name)
        if name in BUILT_IN:
            return self._built(name, built_in_recipe(name).key)
        newest = self._newest(name)
        if newest is None:
            known = ", ".join(sorted({*BUILT_IN, *(built.name for built in self.list())}))
            raise NotFoundError(
                f"there is no environment called {name!r}; there are: {known}",
                stage="environment",
                remedy=f"`bichat env build {name} -r requirements.txt --base data` makes one.",
            )
        return newest

    def get(self, name: str) -> Environment:
        """The environment `name`, built.

        Raises:
            NotFoundError: it is unknown, or not built yet.
            UserInputError: it cannot be a name.
        """
        found = self.find(name)
        if found is None:
            raise NotFoundError(
                f"the environment {name!r} is not built yet",
                stage="environment",
                remedy=f"`bichat env build {name}` builds it; running code with it does too.",
            )
        return found

    def list(self) -> list[Environment]:
        """Every environment that can be used now, one a name, in the order of their names."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = (
            self._built(name, built_in_recipe(name).key) if name in BUILT_IN else self._newest(name) for name in names
        )
        return [environment for environment in found if environment is not None]

    def built_in_names(self) -> tuple[str, ...]:
        """Names of the environments that ship with bichat and can be built at any time."""
        return BUILT_IN

    def build(
        self,
        name: str,
        *,
        requirements: Path | None = None,
        base: str | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Environment:
        """Build `name` and return it; one that is there already is returned as it is, unless `force`.

        Of two that build the same one at a time, the second waits and gets what the first has built.

        Args:
            name: a built-in one, or a new one with `requirements`.
            requirements: a requirements file of an environment of the operator's own.
            base: the built-in environment whose packages, in its very versions, it has too.
            force: build it anew; sandboxes that use the old one keep it.
            progress: told what is being done.

        Raises:
            UserInputError: requirements for a built-in one, none for another, or an unreadable file.
            EnvironmentBuildError: a package could not be fetched or installed; nothing half-built is left.
            StorageError: the data directory cannot be written to.
        """
        # Imported here: finding an environment is on the way of every `bichat run`, building one is not.
        from bichat.sandbox.environments.builder import Builder

        check_name(name)
        if name in BUILT_IN and requirements is not None:
            raise UserInputError(
                f"{name!r} ships with bichat and takes no requirements",
                stage="environment",
                remedy=f"Give your own another name: `bichat env build mine -r ... --base {name}`.",
            )
        if name not in BUILT_IN and requirements is None:
            raise UserInputError(
                f"{name!r} needs a requirements file",
                stage="environment",
                remedy=f"`bichat env build {name} -r requirements.txt --base data`.",
            )
        with Builder(self._folder / name, progress or _silent) as builder:
            recipe = built_in_recipe(name) if requirements is None else builder.resolve(name, requirements, base or "")
            built = None if force else self._built(name, recipe.key)
            return built or builder.build(recipe)

    def remove(self, name: str) -> None:
        """Remove every build of `name`, once nobody is building it; sandboxes that use one lose what they have not read.

        Raises:
            NotFoundError: there is none.
            StorageError: it cannot be removed.
        """
        # Imported here: see `build`.
        from bichat.sandbox.environments.builder import Builder

        folder = self._folder / check_name(name)
        if not folder.is_dir():
            raise NotFoundError(
                f"there is no environment called {name!r} to remove",
                stage="environment",
                remedy="`bichat env list` shows those that there are.",
            )
        with Builder(folder, _silent) as builder:
            builder.remove()

    def _built(self, name: str, key: str) -> Environment | None:
        return read_manifest(self._folder / name / key)

    def _newest(self, name: str) -> Environment | None:
        """The build of an operator's own environment that was made last, for the running Python."""
        try:
            entries = [Path(entry.path) for entry in os.scandir(self._folder / name) if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return None
        builds = [built for folder in entries if (built := read_manifest(folder)) and _fits(built)]
        return max(builds, key=lambda built: built.created_at, default=None)


def _fits(built: Environment) -> bool:
    """Whether it was made by this builder for this Python."""
    return built.path.name == folder_key(built.lock_hash)


def _silent(_stage: str, _detail: str) -> None:
    pass
