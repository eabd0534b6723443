"""The guest's own modules: read before the walls stand, imported behind them when they are needed.

A sandbox does not show where bichat is installed.  What every guest needs is imported before; the rest of this folder
needs IPython or costs time, so that only its files are read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import cache_from_source, spec_from_file_location
from types import ModuleType
from typing import Any, Final

_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))
_PACKAGE: Final = "bichat.sandbox.guest"


class Library:
    """A finder for `sys.meta_path` that has this folder's files in memory."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._stats: dict[str, dict[str, Any]] = {}
        for folder, folders, names in os.walk(_FOLDER):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                if name.endswith(".py"):
                    self._read(os.path.join(folder, name))

    def _read(self, path: str) -> None:
        with open(path, "rb") as file:
            self._files[path] = file.read()
        status = os.stat(path)
        self._stats[path] = {"mtime": status.st_mtime, "size": status.st_size}
        try:
            with open(cache_from_source(path), "rb") as file:
                self._files[file.name] = file.read()
        except OSError:
            pass  # not compiled yet: it is compiled from its source

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How to load the module `name`, if it is one of ours."""
        if not name.startswith(f"{_PACKAGE}."):
            return None
        stem = os.path.join(_FOLDER, *name.removeprefix(f"{_PACKAGE}.").split("."))
        for path, folders in ((f"{stem}.py", None), (os.path.join(stem, "__init__.py"), [stem])):
            if path in self._files:
                loader = _Loader(name, path, self._files, self._stats)
                return spec_from_file_location(name, path, loader=loader, submodule_search_locations=folders)
        return None


class _Loader(SourceFileLoader):
    """Python's own loader, with these files instead of the disk's."""

    def __init__(self, name: str, path: str, files: dict[str, bytes], stats: dict[str, dict[str, Any]]) -> None:
        super().__init__(name, path)
        self._files = files
        self._stats = stats

    def get_data(self, path: str) -> bytes:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def path_stats(self, path: str) -> dict[str, Any]:
        return self._stats[path]


def open_library() -> None:
    """Let the modules of this folder be imported from now on, wherever this process and its children are."""
    sys.meta_path.insert(0, Library())
