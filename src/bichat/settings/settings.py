"""All settings, read from `BICHAT_*` environment variables once, checked, and given out as values."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from bichat.domain import Limits
from bichat.errors import BichatError, LimitError, UserInputError
from bichat.settings.location import data_dir, default_environment
from bichat.settings.memory import available_memory
from bichat.sizes import GIB, MIB, parse_size

_MAX = "BICHAT_MAX_"
_DEFAULT = "BICHAT_DEFAULT_"
_CAP = "BICHAT_CAP_"

#: Where a server is reached of which nobody said anything.
DEFAULT_PUBLIC_URL = "http://127.0.0.1:8400"

#: Who may stand before the colon in `BICHAT_MODEL`.
MODEL_PROVIDERS = ("openai", "anthropic", "ollama")

#: In `BICHAT_MODEL`: no model, whatever else is set.
LOCAL_PYTHON = "local-python"

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
    grace_s=60.0,
    idle_s=24 * 3600.0,
    life_s=7 * 24 * 3600.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much may be going on at once, for all together and for one tenant.

    Memory is that of running code, at its limits of memory and disk, and that which idle sessions hold.
    """

    sessions: int = 200
    """Live sessions; above it the tenant's own longest idle one ends, or the request waits."""
    tenant_sessions: int = 100
    executions: int = 8
    """Pieces of code that run at the same moment."""
    tenant_executions: int = 6
    memory_bytes: int = 8 * GIB
    tenant_memory_bytes: int = 6 * GIB
    queue: int = 1000
    """Requests that wait; above it one is refused at once."""
    tenant_queue: int = 500
    queue_wait_s: float = 30.0
    """Longest wait; then the request is refused with a time to come back."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if not value > 0 or value == float("inf"):
                raise UserInputError(f"the cap {spec.name} must be above zero and finite, got {value!r}")


_Numbers = TypeVar("_Numbers", Limits, Caps)


def default_caps(limits: Limits) -> Caps:
    """Caps for this machine: its memory is given out once, and no tenant gets all of anything.

    Memory is what this process's own control group may have, where that is less than the machine's.  One execution with `limits` always fits.
    """
    executions = max(8, 4 * len(os.sched_getaffinity(0)))
    one = limits.memory_bytes + limits.disk_bytes
    memory = max(available_memory(), one)
    return Caps(
        executions=executions,
        tenant_executions=executions * 3 // 4,
        memory_bytes=memory,
        tenant_memory_bytes=max(memory * 3 // 4, one),
    )


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except BichatError as error:
        raise ValueError(error.message) from error


class _Engine(BaseSettings):
    """What is about no limit."""

    model_config = SettingsConfigDict(env_prefix="BICHAT_")
    ready_sandboxes: int = Field(default=2, ge=0)
    zygote_life_s: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    isolation: Literal["namespaces", "landlock"] = "landlock"
    storage_url: str = Field(default="", max_length=2000)
    database_url: str = ""
    strict_containers: bool = False
    key_requests_per_minute: int = Field(default=1200, gt=0, le=1_000_000)
    key_requests_at_once: int = Field(default=200, gt=0, le=100_000)
    public_url: str = Field(default=DEFAULT_PUBLIC_URL, pattern=r"^https?://[^\s?#]+$")
    model: str = Field(default="", max_length=300)
    model_base_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    model_api_key: SecretStr = SecretStr("")
    model_sees_images: bool | None = None


class _OpenAI(BaseSettings):
    """What programs for OpenAI's own service are told."""

    model_config = SettingsConfigDict(env_prefix="OPENAI_")
    api_key: SecretStr = SecretStr("")
    model: str = Field(default="gpt-4o", max_length=300)


def _limit_settings(prefix: str, defaults: Limits | Caps) -> type[BaseSettings]:
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
    caps: Caps = field(default_factory=lambda: default_caps(Limits()))
    """`BICHAT_CAP_*`: how much may be going on at once."""
    ready_sandboxes: int = 2
    """`BICHAT_READY_SANDBOXES`: sandboxes that are kept ready for the next sessions; 0 keeps none."""
    zygote_life_s: float = 3600.0
    """`BICHAT_ZYGOTE_LIFE_S`: age at which the process that sandboxes are forked from is replaced."""
    isolation: str = "landlock"
    """`BICHAT_ISOLATION`: the least level of isolation, `namespaces` or `landlock`; the best that the host gives is used."""
    storage_url: str = ""
    """`BICHAT_STORAGE_URL`: where files are kept (`bichat.storage.open_storage`); `files` in the data directory if empty."""
    database_url: str = field(default="", repr=False)
    """`BICHAT_DATABASE_URL`: the database (`bichat.repository.open_repository`); `bichat.db` in the data directory if empty."""
    strict_containers: bool = False
    """`BICHAT_STRICT_CONTAINERS`: whether a conversation whose container has expired is refused, as by OpenAI."""
    key_requests_per_minute: int = 1200
    """`BICHAT_KEY_REQUESTS_PER_MINUTE`: how many requests one API key may make; more are answered with 429."""
    key_requests_at_once: int = 200
    """`BICHAT_KEY_REQUESTS_AT_ONCE`: how many of its requests may be under way at a time, open streams among them."""
    public_url: str = DEFAULT_PUBLIC_URL
    """`BICHAT_PUBLIC_URL`: where browsers reach the server: download addresses begin with it."""
    model: str = ""
    """`BICHAT_MODEL`: the model that plans, `openai:gpt-4o`; one of `MODEL_PROVIDERS` stands before the colon.

    Empty if there is none.  With `OPENAI_API_KEY` alone it is `openai:` and `OPENAI_MODEL`, `gpt-4o` by default.
    """
    model_base_url: str = ""
    """`BICHAT_MODEL_BASE_URL`: where the model's provider is; its own address if empty."""
    model_api_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    """`BICHAT_MODEL_API_KEY`: the key for it; `OPENAI_API_KEY` where that is OpenAI itself, and nowhere else."""
    model_sees_images: bool | None = None
    """`BICHAT_MODEL_SEES_IMAGES`: whether it is shown images; None leaves it to what is known of the model."""


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
    limits = Limits(**{name: min(value, getattr(bounds, name)) for name, value in asdict(wanted).items()})
    caps, capped = _read(_CAP, default_caps(limits))
    for name in ("sessions", "executions", "memory_bytes", "queue"):
        # A tenant's cap that nobody set gives way to the one for all.
        if f"tenant_{name}" not in capped:
            caps = replace(caps, **{f"tenant_{name}": min(getattr(caps, f"tenant_{name}"), getattr(caps, name))})
    try:
        engine = _Engine()
    except ValidationError as error:
        raise _bad_value(error, "BICHAT_") from error
    return Settings(bounds=bounds, limits=limits, caps=caps, **engine.model_dump() | _model(engine))


def _model(engine: _Engine) -> dict[str, Any]:
    """Which model plans, and the key for it."""
    key, base_url = engine.model_api_key, engine.model_base_url
    openai = _OpenAI()
    if not engine.model and openai.api_key.get_secret_value() and not base_url:
        return {"model": f"openai:{openai.model}", "model_api_key": _first(key, openai.api_key)}
    if engine.model == LOCAL_PYTHON or not (engine.model or base_url):
        return {"model": ""}
    provider, colon, name = engine.model.partition(":")
    if not colon or provider not in MODEL_PROVIDERS:
        # A server of one's own may have models with any name.
        provider, name = ("openai" if base_url else ""), engine.model
    if not provider or not name:
        raise UserInputError(
            f"BICHAT_MODEL names no model of a provider that is known, got {engine.model!r}",
            stage="settings",
            remedy=f"Write one of {', '.join(MODEL_PROVIDERS)}, a colon, and the model's name; for any other server "
            "that speaks OpenAI's protocol set BICHAT_MODEL_BASE_URL and the model's name.",
        )
    if provider == "openai" and not base_url:
        key = _first(key, openai.api_key)
    if provider != "ollama" and not base_url and not key.get_secret_value():
        raise UserInputError(
            f"BICHAT_MODEL is {engine.model!r}, and there is no key for it",
            stage="settings",
            remedy="Set BICHAT_MODEL_API_KEY.",
        )
    return {"model": f"{provider}:{name}", "model_api_key": key}


def openai_model() -> str:
    """The model that programs for OpenAI's own service are told to use: `OPENAI_MODEL`, or `gpt-4o`.

    Raises:
        UserInputError: it can be no model's name.
    """
    try:
        return _OpenAI().model
    except ValidationError as error:
        raise _bad_value(error, "OPENAI_") from error


def _first(*keys: SecretStr) -> SecretStr:
    return next((key for key in keys if key.get_secret_value()), SecretStr(""))


def _check_names() -> None:
    for prefix, kind in ((_MAX, Limits), (_DEFAULT, Limits), (_CAP, Caps)):
        known = {spec.name.upper() for spec in fields(kind)}
        for variable in os.environ:
            if variable.startswith(prefix) and variable.removeprefix(prefix) not in known:
                raise UserInputError(
                    f"{variable} sets no limit that there is",
                    stage="settings",
                    remedy=f"After {prefix} comes one of: {', '.join(sorted(known))}.",
                )


def _read(prefix: str, defaults: _Numbers) -> tuple[_Numbers, set[str]]:
    """The limits that variables with `prefix` give, and the names of those that were set."""
    try:
        found = _limit_settings(prefix, defaults)()
    except ValidationError as error:
        raise _bad_value(error, prefix) from error
    return type(defaults)(**found.model_dump()), found.model_fields_set


def _bad_value(error: ValidationError, prefix: str) -> UserInputError:
    first = error.errors()[0]
    variable = prefix + "_".join(str(part) for part in first["loc"]).upper()
    return UserInputError(
        f"{variable}: {first['msg']}, got {first['input']!r}",
        stage="settings",
        remedy="Correct the variable or unset it; docs/reference/settings.md lists them all.",
    )
