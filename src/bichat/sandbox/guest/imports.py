"""Steps that are taken when a library is imported, at once where it is already."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

Step = Callable[[ModuleType], object]


class _Watcher:
    """Stands first in `sys.meta_path`; finds the modules that steps wait for where everybody finds them."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.steps:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self.steps[name])  # pyright: ignore[reportAttributeAccessIssue]  # all that one needs
                return spec
        return None


class _Loader:
    """Loads a module with its own loader, then takes the step."""

    def __init__(self, loader: Any, step: Step) -> None:
        self._loader = loader
        self._step = step

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # What asks the module for its source later gets it from the loader that has it.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _take(self._step, module)


_watcher: Final = _Watcher()


def after_import(name: str, step: Step) -> None:
    """Call `step` with the module `name` once that is imported.  A step that fails fails alone."""
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)  # pyright: ignore[reportArgumentType]  # has all that a finder needs
    module = sys.modules.get(name)
    if module is not None:
        _take(step, module)
    else:
        _watcher.steps[name] = step


def _take(step: Step, module: ModuleType) -> None:
    with contextlib.suppress(Exception):
        step(module)
