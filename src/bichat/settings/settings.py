"""All settings, read from `BICHAT_*` environment variables once, checked, and given out as values."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from bichat.domain import Limits
from bichat.errors import BichatError, LimitError, UserInputError
from bichat.settings.location import data_dir, default_environment
from bichat.sizes import GIB, MIB, parse_size

_MAX = "BICHAT_MAX_"
_DEFAULT = "BICHAT_DEFAULT_"

#: What a caller may ask for at most, unless the operator says otherwise (`BICHAT_MAX_*`).
DEFAULT_BOUNDS = Limits(
    timeout_s=3600.0,
    memory_bytes=16 * GIB,
    disk_bytes=16 * GIB,
    inodes=200_000,
    cpus=64,
    pids=4096,
    output_bytes=16 * MIB,
    output_kill_bytes=GIB,
    artifact_bytes=4 * GIB,
    artifacts=2000,
    idle_s=24 * 3600.0,
    life_s=7 * 24 * 3600.0,
)


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except BichatError as error:
        raise ValueError(error.message) from error


def _limit_settings(prefix: str, defaults: Limits) -> type[BaseSettings]:
    """A settings class with one variable per limit: `prefix` and the field's name in capitals."""

    class Prefixed(BaseSettings):
        model_config = SettingsConfigDict(env_prefix=prefix)

    return create_model(
        prefix.strip("_"),
        __base__=Prefixed,
        **{name: _setting(name, value) for name, value in asdict(defaults).items()},
    )


def _setting(name: str, default: float) -> Any:
    if name.endswith("_bytes"):
        return (Annotated[int, BeforeValidator(_size)], Field(default=default, gt=0))
    if isinstance(default, int):
        return (int, Field(default=default, gt=0))
    return (float, Field(default=default, gt=0, allow_inf_nan=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has chosen.  Every variable is in `docs/reference/settings.md`."""

    data_dir: Path = field(default_factory=data_dir)
    """`BICHAT_DATA_DIR`: where environments and files live; made with mode 0700."""
    environment: str = field(default_factory=default_environment)
    """`BICHAT_ENVIRONMENT`: the package set that code sees when it does not name one."""
    limits: Limits = field(default_factory=Limits)
    """`BICHAT_DEFAULT_*`: what a session gets that asks for nothing."""
    bounds: Limits = DEFAULT_BOUNDS
    """`BICHAT_MAX_*`: what a session may ask for."""


def load_settings() -> Settings:
    """The settings as the environment gives them now.  A default that nobody set gives way to a bound below it.

    Raises:
        UserInputError: a variable has a bad value, or a limit's name is unknown; names it, the rule and the value.
        LimitError: a default that was set is above its bound.
    """
    _check_names()
    bounds = _read(_MAX, DEFAULT_BOUNDS)[0]
    wanted, chosen = _read(_DEFAULT, Limits())
    for name in chosen:
        if getattr(wanted, name) > getattr(bounds, name):
            raise LimitError(
                f"{_DEFAULT}{name.upper()} is above {_MAX}{name.upper()}: "
                f"{getattr(wanted, name):,} against {getattr(bounds, name):,}",
                stage="settings",
                remedy="Lower the default or raise the bound.",
            )
    limits = {name: min(value, getattr(bounds, name)) for name, value in asdict(wanted).items()}
    return Settings(bounds=bounds, limits=Limits(**limits))


def _check_names() -> None:
    known = {name.upper() for name in Limits.__dataclass_fields__}
    for variable in os.environ:
        for prefix in (_MAX, _DEFAULT):
            if variable.startswith(prefix) and variable.removeprefix(prefix) not in known:
                raise UserInputError(
                    f"{variable} sets no limit that there is",
                    stage="settings",
                    remedy=f"After {prefix} comes one of: {', '.join(sorted(known))}.",
                )


def _read(prefix: str, defaults: Limits) -> tuple[Limits, set[str]]:
    """The limits that variables with `prefix` give, and the names of those that were set."""
    try:
        found = _limit_settings(prefix, defaults)()
    except ValidationError as error:
        raise _bad_value(error, prefix) from error
    return Limits(**found.model_dump()), found.model_fields_set


def _bad_value(error: ValidationError, prefix: str) -> UserInputError:
    first = error.errors()[0]
    variable = prefix + "_".join(str(part) for part in first["loc"]).upper()
    return UserInputError(
        f"{variable}: {first['msg']}, got {first['input']!r}",
        stage="settings",
        remedy="Correct the variable or unset it; docs/reference/settings.md lists them all.",
    )
