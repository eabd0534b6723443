"""All settings, read from `BICHAT_*` environment variables once, checked, and given out as values."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from bichat.domain import Limits
from bichat.errors import BichatError, UserInputError
from bichat.settings.location import data_dir, default_environment
from bichat.sizes import GIB, MIB, parse_size

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


class Settings(BaseSettings):
    """What the operator has chosen.  Every variable is in `docs/reference/settings.md`."""

    model_config = SettingsConfigDict(env_prefix="BICHAT_", frozen=True)

    data_dir: Path = Field(default_factory=data_dir)
    """`BICHAT_DATA_DIR`: where environments and files live; made with mode 0700."""
    environment: str = Field(default_factory=default_environment)
    """`BICHAT_ENVIRONMENT`: the package set that code sees when it does not name one."""
    limits: Limits = Limits()
    """`BICHAT_DEFAULT_*`: what a session gets that asks for nothing."""
    bounds: Limits = DEFAULT_BOUNDS
    """`BICHAT_MAX_*`: what a session may ask for."""


def load_settings() -> Settings:
    """The settings as the environment gives them now.

    Raises:
        UserInputError: a variable has a bad value; names it, the rule and the value.
    """
    bounds = _read(_limit_settings("BICHAT_MAX_", DEFAULT_BOUNDS), "BICHAT_MAX_")
    limits = _read(_limit_settings("BICHAT_DEFAULT_", Limits()), "BICHAT_DEFAULT_")
    try:
        settings = Settings(data_dir=data_dir(), bounds=bounds, limits=limits)
    except ValidationError as error:
        raise _bad_value(error, "BICHAT_") from error
    settings.limits.within(settings.bounds)
    return settings


def _read(kind: type[BaseSettings], prefix: str) -> Limits:
    try:
        return Limits(**kind().model_dump())
    except ValidationError as error:
        raise _bad_value(error, prefix) from error


def _bad_value(error: ValidationError, prefix: str) -> UserInputError:
    first = error.errors()[0]
    variable = prefix + "_".join(str(part) for part in first["loc"]).upper()
    return UserInputError(
        f"{variable}: {first['msg']}, got {first['input']!r}",
        stage="settings",
        remedy="Correct the variable or unset it; docs/reference/settings.md lists them all.",
    )


def describe(limits: Limits) -> dict[str, float | int]:
    """The limits by name, as `bichat doctor` shows them."""
    return asdict(limits)
