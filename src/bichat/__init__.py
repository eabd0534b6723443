"""BI chat with a code interpreter that runs at home: model-written Python, isolated, without root or containers."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bichat.domain import (
        Artifact,
        CodeError,
        ExecutionResult,
        IsolationReport,
        Limits,
        RefusedFile,
        Result,
        SessionFile,
        Status,
        Timings,
    )
    from bichat.errors import (
        BichatError,
        CapacityError,
        ConflictError,
        DatabaseError,
        EnvironmentBuildError,
        LimitError,
        NamespacesForbiddenError,
        NotFoundError,
        SandboxLostError,
        SandboxUnavailableError,
        SessionEndedError,
        SessionLostError,
        StorageError,
        UserInputError,
    )
    from bichat.events import Completed, Displayed, Event, FileChanged, Stderr, Stdout
    from bichat.interpreter import CodeInterpreter, ExecutionOptions, RunOptions, SessionOptions, run
    from bichat.session import Session
    from bichat.settings.settings import Caps, Settings, load_settings

    __version__: str

__all__ = [
    "Artifact",
    "BichatError",
    "CapacityError",
    "Caps",
    "CodeError",
    "CodeInterpreter",
    "Completed",
    "ConflictError",
    "DatabaseError",
    "Displayed",
    "EnvironmentBuildError",
    "Event",
    "ExecutionOptions",
    "ExecutionResult",
    "FileChanged",
    "IsolationReport",
    "LimitError",
    "Limits",
    "NamespacesForbiddenError",
    "NotFoundError",
    "RefusedFile",
    "Result",
    "RunOptions",
    "SandboxLostError",
    "SandboxUnavailableError",
    "Session",
    "SessionEndedError",
    "SessionFile",
    "SessionLostError",
    "SessionOptions",
    "Settings",
    "Status",
    "Stderr",
    "Stdout",
    "StorageError",
    "Timings",
    "UserInputError",
    "__version__",
    "load_settings",
    "run",
]

#: Where each name lives.  They are imported on first use: the command line starts a sandbox before it loads the rest.
_HOMES = {
    "bichat.domain": (
        "Artifact",
        "CodeError",
        "ExecutionResult",
        "IsolationReport",
        "Limits",
        "RefusedFile",
        "Result",
        "SessionFile",
        "Status",
        "Timings",
    ),
    "bichat.errors": (
        "BichatError",
        "CapacityError",
        "ConflictError",
        "DatabaseError",
        "EnvironmentBuildError",
        "LimitError",
        "NamespacesForbiddenError",
        "NotFoundError",
        "SandboxLostError",
        "SandboxUnavailableError",
        "SessionEndedError",
        "SessionLostError",
        "StorageError",
        "UserInputError",
    ),
    "bichat.events": ("Completed", "Displayed", "Event", "FileChanged", "Stderr", "Stdout"),
    "bichat.interpreter": ("CodeInterpreter", "ExecutionOptions", "RunOptions", "SessionOptions", "run"),
    "bichat.session": ("Session",),
    "bichat.settings.settings": ("Caps", "Settings", "load_settings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bichat")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'bichat' has no attribute {name!r}")
    if home in ("bichat.interpreter", "bichat.session") and sys.platform != "linux":
        from bichat.errors import SandboxUnavailableError

        raise SandboxUnavailableError(
            f"the sandbox needs the Linux kernel, and this is {sys.platform}",
            stage="platform",
            remedy="Run bichat on Linux 5.13 or later: a virtual machine or WSL 2 will do.",
        )
    return getattr(importlib.import_module(home), name)
