"""Values of JSON as a request must have them; what is wrong is said with the name of the field."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

from bichat.server.problems import FieldError

Json = Mapping[str, Any]

#: Of metadata: pairs, and characters of their names and values.
MOST_PAIRS: Final = 16
MOST_KEY_CHARS: Final = 64
MOST_VALUE_CHARS: Final = 512


def text(value: Any, param: str, *, most: int | None = None) -> str:
    """Text of at most so many characters."""
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if most is not None and len(value) > most:
        raise FieldError(
            f"Invalid '{param}': string too long. At most {most} characters are taken, these are {len(value)}.",
            param=param,
            wire_code="string_above_max_length",
        )
    return value


def mapping(value: Any, param: str) -> Json:
    """An object."""
    if not isinstance(value, Mapping):
        raise wrong_type(param, "an object", value)
    return cast("Json", value)


def array(value: Any, param: str, *, most: int | None = None) -> Sequence[Any]:
    """A list of at most so many."""
    if not isinstance(value, list):
        raise wrong_type(param, "an array", value)
    found = cast("list[Any]", value)
    if most is not None and len(found) > most:
        raise FieldError(
            f"Invalid '{param}': array too long. At most {most} are taken, these are {len(found)}.",
            param=param,
            wire_code="array_above_max_length",
        )
    return found


def compact(value: Any, param: str, *, most: int) -> None:
    """Nothing, where a value is no longer than so many characters as JSON: it is kept, and read again, with each run."""
    size = len(json.dumps(value, ensure_ascii=False))
    if size > most:
        raise FieldError(
            f"Invalid '{param}': too long. At most {most:,} characters of JSON are taken, these are {size:,}.",
            param=param,
            wire_code="string_above_max_length",
        )


def flag(value: Any, param: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong_type(param, "a boolean", value)
    return value


def integer(value: Any, param: str, *, least: int, most: int) -> int:
    """A whole number between two."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    _between(value, param, least, most, "integer")
    return value


def number(value: Any, param: str, *, least: float, most: float) -> float:
    """A number between two."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(param, "a number", value)
    _between(value, param, least, most, "decimal")
    return float(value)


def _between(value: float, param: str, least: float, most: float, kind: str) -> None:
    if not least <= value <= most:
        side = "below_min" if value < least else "above_max"
        raise FieldError(
            f"Invalid '{param}': {value} is not between {least} and {most}.",
            param=param,
            wire_code=f"{kind}_{side}_value",
        )


def one_of(value: Any, param: str, allowed: Collection[str]) -> str:
    """One of some words."""
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if value not in allowed:
        raise FieldError(
            f"Invalid value: {value[:100]!r}. Supported values are: {', '.join(map(repr, allowed))}.", param=param
        )
    return value


def metadata(value: Any, param: str = "metadata") -> dict[str, str]:
    """At most 16 pairs of text, keys up to 64 and values up to 512 characters; none for null."""
    if value is None:
        return {}
    pairs = mapping(value, param)
    if len(pairs) > MOST_PAIRS:
        raise FieldError(
            f"Invalid '{param}': too many properties. At most {MOST_PAIRS} are taken, these are {len(pairs)}.",
            param=param,
            wire_code="object_above_max_properties",
        )
    return {
        text(key, f"{param} key", most=MOST_KEY_CHARS): text(pair, f"{param}.{key[:64]}", most=MOST_VALUE_CHARS)
        for key, pair in pairs.items()
    }


def wrong_type(param: str, wanted: str, value: Any) -> FieldError:
    """Another kind of value than is wanted."""
    kinds: dict[type, str] = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
        type(None): "null",
    }
    got = kinds.get(type(value), "something else")  # pyright: ignore[reportUnknownArgumentType]
    return FieldError(
        f"Invalid type for '{param}': expected {wanted}, but got {got} instead.", param=param, wire_code="invalid_type"
    )


def missing(param: str) -> FieldError:
    """A field that must be there is not."""
    return FieldError(f"Missing required parameter: '{param}'.", param=param, wire_code="missing_required_parameter")
