"""The environments of one data directory: found, listed, built and removed.

They lie in `<data_dir>/environments/<name>/<key>/`, where the key is a hash of the lock, Python's minor version and
the builder's version: an upgrade builds beside the old one and then finds the new one.  An operator's own is built
again from the lock that its last build has kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bichat.errors import NotFoundError, UserInputError
from bichat.sandbox.environments.environment import Environment, Progress, read_manifest
from bichat.sandbox.environments.recipe import BUILT_IN, built_in_recipe, check_name, folder_key


class EnvironmentStore:
    """Reads the data directory; `build` alone writes to it."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "environments"

    def find(self, name: str) -> Environment | None:
        """The environment `name` as it would be used now; None when `build(name)` has to build it first.

        That is so for what ships with bichat, and for an operator's own that another Python or builder has built.

        Raises:
            NotFoundError: no environment of this name was ever built, and none of it ships with bichat.
            UserInputError: it cannot be a name.
        """
        check_name(name)
        if name in BUILT_IN:
            return self._built(name, built_in_recipe(name).key)
        newest = self._newest(name)
        if newest is None and self._outdated(name) is None:
            known = ", ".join(sorted({*self.buildable(), *(built.name for built in self.list())}))
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
        found = map(self._current, self._names())
        return [environment for environment in found if environment is not None]

    def buildable(self) -> tuple[str, ...]:
        """Names that `find` answers with None: they are built when they are first needed."""
        own = (name for name in self._names() if name not in BUILT_IN and self._outdated(name))
        return tuple(name for name in (*BUILT_IN, *own) if self._current(name) is None)

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
            name: a built-in one, one of the operator's own that was built before, or a new one with `requirements`.
            requirements: a requirements file of an environment of the operator's own; without one, that is built
                again from the very versions of its last build.
            base: the built-in environment whose packages, in its very versions, it has too.
            force: build it anew; sandboxes that use the old one keep it.
            progress: told what is being done.

        Raises:
            UserInputError: requirements for a built-in one, none for a new one, or an unusable file.
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
        last = None if name in BUILT_IN or requirements else self._newest(name) or self._outdated(name)
        if name not in BUILT_IN and requirements is None and last is None:
            raise UserInputError(
                f"{name!r} needs a requirements file",
                stage="environment",
                remedy=f"`bichat env build {name} -r requirements.txt --base data`.",
            )
        with Builder(self._folder / name, progress or _silent) as builder:
            if last is not None:
                recipe = builder.recipe_of(last)
            else:
                recipe = (
                    built_in_recipe(name) if requirements is None else builder.resolve(name, requirements, base or "")
                )
            built = None if force else self._built(name, recipe.key)
            if built is None:
                return builder.build(recipe, reuse=not force)
            return built if built == self._current(name) else builder.choose(built)

    def remove(self, name: str, *, old_only: bool = False) -> int:
        """Remove every build of `name`, once nobody is building it; sandboxes that use one lose what they have not read.

        With `old_only` the build that `find` gives stays.  Returns how many builds are gone.

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
            if old_only:
                return builder.remove_others(self._current(name))
            count = len(self._builds(name))
            builder.remove()
            return count

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _current(self, name: str) -> Environment | None:
        return self._built(name, built_in_recipe(name).key) if name in BUILT_IN else self._newest(name)

    def _built(self, name: str, key: str) -> Environment | None:
        return read_manifest(self._folder / name / key)

    def _newest(self, name: str) -> Environment | None:
        """The build of an operator's own environment that was made last, for the running Python."""
        return _last(built for built in self._builds(name) if _fits(built))

    def _outdated(self, name: str) -> Environment | None:
        """The build that was made last for another Python or by another builder."""
        return _last(built for built in self._builds(name) if not _fits(built))

    def _builds(self, name: str) -> list[Environment]:
        try:
            entries = [Path(entry.path) for entry in os.scandir(self._folder / name) if not entry.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [built for folder in entries if (built := read_manifest(folder))]


def _last(builds: Iterable[Environment]) -> Environment | None:
    return max(builds, key=lambda built: built.created_at, default=None)


def _fits(built: Environment) -> bool:
    """Whether it was made by this builder for this Python."""
    return built.path.name == folder_key(built.lock_hash)


def _silent(_stage: str, _detail: str) -> None:
    pass
