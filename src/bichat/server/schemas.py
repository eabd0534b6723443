"""What JSON on the wire may look like: one table that requests are checked against and the OpenAPI document is made of.

A schema is no more than its two uses: `check` refuses what does not fit it, with the name of the field, and `told` is
the same as JSON Schema.  What a table cannot say (that a file is there, that two fields fit together) readers look at
themselves, behind it.  Where a field of an object is not required, null is as good as nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from bichat.server import checks, naming
from bichat.server.problems import FieldError

Json = Mapping[str, Any]


class Schema(Protocol):
    """Of one value."""

    def check(self, value: Any, param: str) -> None:
        """Nothing, when the value fits.

        Args:
            value: of JSON.
            param: what an error calls it.

        Raises:
            FieldError: it does not.
        """
        ...

    def told(self) -> dict[str, Any]:
        """As JSON Schema (2020-12); one with a `title` is told once in a document, under this name."""
        ...

    def takes(self, value: Any) -> bool:
        """Whether it is of the kind, right or not: by that one of several is chosen."""
        ...


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value; `words` say what is made of it."""

    words: str = ""

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"description": self.words} if self.words else {}

    def takes(self, value: Any) -> bool:  # noqa: ARG002  # the port's signature
        """See `Schema`."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text of at most so many characters (code points), all of it as `pattern` says where there is one.

    `problem` and `wire_code` are what is said where it is not as in the pattern.
    """

    most: int | None = None
    pattern: str = ""
    problem: str = ""
    wire_code: str | None = "invalid_value"
    usual: str | None = None

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        given = checks.text(value, param, most=self.most)
        if self.pattern and not re.fullmatch(self.pattern, given):
            raise FieldError(f"Invalid '{param}': {self.problem}.", param=param, wire_code=self.wire_code)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        pattern = f"^(?:{self.pattern})$" if self.pattern else None
        said = {"maxLength": self.most, "pattern": pattern, "default": self.usual}
        return {"type": "string"} | _given(said)

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class Id:
    """An id with one of these prefixes; a reader finds out what it is of, and says what is wrong with one of nothing."""

    prefixes: tuple[str, ...]

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.text(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "string", "pattern": naming.pattern(*self.prefixes)}

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words; `usual` is what is meant where none is given."""

    words: tuple[str, ...]
    usual: str | None = None

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.one_of(value, param, self.words)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "string", "enum": [*self.words]} | _given({"default": self.usual})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number between two."""

    least: int
    most: int
    usual: int | None = None

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.integer(value, param, least=self.least, most=self.most)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most} | _given({"default": self.usual})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number between two."""

    least: float
    most: float

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.number(value, param, least=self.least, most=self.most)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false; `usual` is what is meant where nothing is given."""

    usual: bool | None = None

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.flag(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "boolean"} | _given({"default": self.usual})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Upload:
    """The bytes of a file, in a form; they are read where they come."""

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "string", "format": "binary"}

    def takes(self, value: Any) -> bool:  # noqa: ARG002  # the port's signature
        """See `Schema`."""
        return True


@dataclass(frozen=True, slots=True)
class Array:
    """A list of at most so many values that are alike."""

    of: Schema
    most: int | None = None

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        for number, each in enumerate(checks.array(value, param, most=self.most)):
            self.of.check(each, f"{param}[{number}]")

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"type": "array", "items": self.of.told()} | _given({"maxItems": self.most})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, list)


@dataclass(frozen=True, slots=True)
class Metadata:
    """At most 16 pairs of text, or null for none."""

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        checks.metadata(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {
            "type": ["object", "null"],
            "maxProperties": checks.MOST_PAIRS,
            "propertyNames": {"type": "string", "maxLength": checks.MOST_KEY_CHARS},
            "additionalProperties": {"type": "string", "maxLength": checks.MOST_VALUE_CHARS},
        }

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return value is None or isinstance(value, Mapping)


@dataclass(frozen=True, slots=True)
class Refused:
    """What is not served here, and why; null alone is taken, and a list without entries where `or_empty`."""

    why: str
    or_empty: bool = False

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        if value is not None and not (self.or_empty and value == []):
            raise FieldError(
                f"Unsupported parameter: '{param}': {self.why}.", param=param, wire_code="unsupported_parameter"
            )

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        none: dict[str, Any] = {"type": ["array", "null"], "maxItems": 0} if self.or_empty else {"type": "null"}
        return {**none, "description": f"Refused: {self.why}."}

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return value is None


@dataclass(frozen=True, slots=True)
class Ignored:
    """What is taken and has no effect."""

    of: Schema = field(default_factory=Anything)

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        self.of.check(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {**self.of.told(), "description": "Taken, without effect."}

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return self.of.takes(value)


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value or null, in an answer, or in a field that must be there."""

    of: Schema

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        if value is not None:
            self.of.check(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return _or_null(self.of.told())

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return value is None or self.of.takes(value)


@dataclass(frozen=True, slots=True)
class Either:
    """What the first of these is that takes a value's kind; errors speak of the last where none does."""

    of: tuple[Schema, ...]

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        next((each for each in self.of if each.takes(value)), self.of[-1]).check(value, param)

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"anyOf": [each.told() for each in self.of]}

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return any(each.takes(value) for each in self.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """Fields by their names."""

    fields: Mapping[str, Schema]
    required: Sequence[str] = ()
    one_of: Sequence[str] = ()
    """Of these fields one must be there; where none is, the last is called missing."""
    is_open: bool = False
    """Whether other fields are taken, and ignored."""
    name: str = ""
    """Under which a document tells it once."""

    def check(self, value: Any, param: str) -> None:
        """See `Schema`; fields of an object without a name of its own (`param` is empty) are called by theirs alone."""
        given = checks.mapping(value, param or "body")
        before = f"{param}." if param else ""
        for name, each in given.items():
            known = self.fields.get(name)
            if known is None and not self.is_open:
                place = f"{before}{name[:100]}"
                raise FieldError(f"Unknown parameter: '{place}'.", param=place, wire_code="unknown_parameter")
            if isinstance(known, Refused):
                known.check(each, f"{before}{name}")
        for name in self.required:
            if name not in given or (given[name] is None and not self.fields[name].takes(None)):
                raise checks.missing(f"{before}{name}")
        if self.one_of and all(given.get(name) is None for name in self.one_of):
            raise checks.missing(f"{before}{self.one_of[-1]}")
        for name, known in self.fields.items():
            each = given.get(name)
            if each is not None:
                known.check(each, f"{before}{name}")

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        properties = {
            name: each.told() if name in self.required else _or_null(each.told()) for name, each in self.fields.items()
        }
        said: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": self.is_open}
        least = [{"required": [name]} for name in self.one_of]
        return said | _given({"title": self.name or None, "required": [*self.required] or None, "anyOf": least or None})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, Mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """Objects that are told apart by their field `type`."""

    kinds: Mapping[str, Object]
    what: str
    """They are, in the plural."""
    implied: Mapping[str, str] = field(default_factory=dict[str, str])
    """The kind of one without a `type`, by the first of these fields that it has."""
    name: str = ""
    told_kinds: Sequence[str] = ()
    """Those that an error names; empty: all."""

    def check(self, value: Any, param: str) -> None:
        """See `Schema`."""
        given = checks.mapping(value, param)
        kind = self.kind_of(given)
        if kind is None:
            raise checks.missing(f"{param}.type")
        if checks.text(kind, f"{param}.type") not in self.kinds:
            served = [*(self.told_kinds or self.kinds)]
            raise FieldError(
                f"Invalid value at {param}: {self.what} of the type {kind[:100]!r} are not served here. Served are "
                f"{', '.join(served[:-1])} and {served[-1]}.",
                param=f"{param}.type",
            )
        self.kinds[kind].check({name: each for name, each in given.items() if name != "type"}, param)

    def kind_of(self, given: Json) -> Any:
        """What it says of itself, or what follows from its fields; None where nothing does."""
        kind = given.get("type")
        if kind is None:
            kind = next((kind for name, kind in self.implied.items() if given.get(name) is not None), None)
        return kind

    def told(self) -> dict[str, Any]:
        """See `Schema`."""
        return {"anyOf": [self._one(kind) for kind in self.kinds]} | _given({"title": self.name or None})

    def _one(self, kind: str) -> dict[str, Any]:
        said = self.kinds[kind].told()
        is_implied = kind in self.implied.values()
        constant: dict[str, Any] = {"enum": [kind, None]} if is_implied else {"type": "string", "enum": [kind]}
        required = [*([] if is_implied else ["type"]), *said.get("required", ())]
        return {**said, "properties": {"type": constant, **said["properties"]}} | _given({"required": required or None})

    def takes(self, value: Any) -> bool:
        """See `Schema`."""
        return isinstance(value, Mapping)


#: Any object at all; what is noted in metadata, of which we may add some.
ANY_OBJECT: Final = Object(fields={}, is_open=True)
NOTES: Final = ANY_OBJECT
#: How many, or a moment in seconds.
COUNT: Final = Integer(least=0, most=(1 << 53) - 1)


def answer(name: str, fields: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Object:
    """An object that we give: all its fields are always there, but for these, and there are no others."""
    return Object(fields=fields, required=[each for each in fields if each not in set(optional)], name=name)


def constant(word: str) -> Choice:
    """Text that is always the same."""
    return Choice((word,))


def list_of(entry: Schema, name: str) -> Object:
    """A list object, as `bichat.server.lists.as_list` makes it."""
    ends = dict.fromkeys(("first_id", "last_id"), Nullable(Text()))
    return answer(name, {"object": constant("list"), "data": Array(entry), **ends, "has_more": Flag()})


def deleted(kind: str, prefix: str) -> Object:
    """What is said of a thing that was deleted."""
    return answer("", {"id": Id((prefix,)), "object": constant(f"{kind}.deleted"), "deleted": Flag()})


def given_in(body: Json) -> dict[str, Any]:
    """The fields of a body that are not null."""
    return {name: value for name, value in body.items() if value is not None}


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _or_null(said: dict[str, Any]) -> dict[str, Any]:
    kind = said.get("type")
    if not said or kind == "null" or "null" in (kind if isinstance(kind, list) else cast("list[Any]", [])):
        return said
    if "type" not in said and "anyOf" not in said and "enum" not in said:
        return said
    return {"anyOf": [said, {"type": "null"}]}
