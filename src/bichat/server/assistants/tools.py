"""What assistants and runs have to work with: tools, the files and stores that they are given, how they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import ToolSpec
from bichat.conversation.request import CODE_TOOL
from bichat.server import naming
from bichat.server.problems import FieldError
from bichat.server.responses.requests import FUNCTION, MODES, MOST_TOOLS, NAME, function_spec, read_format
from bichat.server.schemas import (
    ANY_OBJECT,
    Array,
    Choice,
    Either,
    Flag,
    Id,
    Metadata,
    Object,
    Text,
    Variants,
)

Json = Mapping[str, Any]

#: Files of one list of files for the code interpreter.
MOST_FILES: Final = 20
#: Types of tools that are taken and not served; `retrieval` is what the first version called `file_search`.
_SEARCH: Final = ("file_search", "retrieval")
FILE: Final = Id((naming.FILE,))
FILES: Final = Array(FILE, MOST_FILES)
STORE_FILES: Final = Array(FILE, 10_000)
_SEARCHES: Final = Object(fields={"file_search": ANY_OBJECT}, is_open=True)
_KINDS: Final = {
    "code_interpreter": ANY_OBJECT,
    "function": Object(fields={"function": FUNCTION}, required=("function",), is_open=True),
    **dict.fromkeys(_SEARCH, _SEARCHES),
}
TOOLS: Final = Array(Variants(what="tools", name="AssistantTool", kinds=_KINDS), MOST_TOOLS)
_STORE: Final = Object(fields={"file_ids": STORE_FILES, "metadata": Metadata()}, is_open=True)
RESOURCES: Final = Object(
    name="ToolResources",
    fields={
        "code_interpreter": Object(fields={"file_ids": FILES}, is_open=True),
        "file_search": Object(
            fields={"vector_store_ids": Array(Text(most=100), 1), "vector_stores": Array(_STORE, 1)}, is_open=True
        ),
    },
)
_FUNCTION_NAME: Final = Object(fields={"name": Text()}, required=("name",), is_open=True)
TOOL_CHOICE: Final = Either(
    (
        MODES,
        Variants(
            what="choices",
            name="AssistantToolChoice",
            kinds={
                **dict.fromkeys(("code_interpreter", *_SEARCH), ANY_OBJECT),
                "function": Object(fields={"function": _FUNCTION_NAME}, required=("function",), is_open=True),
            },
        ),
    )
)
_SCHEMA: Final = Object(
    fields={"name": NAME, "schema": ANY_OBJECT, "description": Text(), "strict": Flag()},
    required=("name",),
    is_open=True,
)
RESPONSE_FORMAT: Final = Either(
    (
        Choice(("auto",)),
        Variants(
            what="formats",
            name="ResponseFormat",
            kinds={
                "text": ANY_OBJECT,
                "json_object": ANY_OBJECT,
                "json_schema": Object(fields={"json_schema": _SCHEMA}, required=("json_schema",), is_open=True),
            },
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """As they are told again, and what they mean."""

    echo: tuple[Json, ...] = ()
    has_code: bool = False
    has_search: bool = False
    """Whether file_search is among them, which is not served here."""
    functions: tuple[ToolSpec, ...] = ()


def read_tools(tools: Sequence[Json], param: str = "tools") -> Tools:
    """The tools of an assistant or of a run, which are as `TOOLS` takes them.

    Raises:
        FieldError: two of them cannot be together.
    """
    echo: list[Json] = []
    functions: list[ToolSpec] = []
    for tool in tools:
        kind: str = tool["type"]
        if kind == "function":
            told, spec = _function(tool["function"])
            functions.append(spec)
            echo.append({"type": "function", "function": told})
        elif kind == "code_interpreter":
            echo.append({"type": kind})
        else:
            options = tool.get("file_search")
            echo.append({"type": "file_search", **({} if options is None else {"file_search": dict(options)})})
    kinds = [each["type"] for each in echo]
    for kind in ("code_interpreter", "file_search"):
        if kinds.count(kind) > 1:
            raise FieldError(f"Invalid '{param}': {kind} is given twice.", param=param)
    has_code = "code_interpreter" in kinds
    _check_names([spec.name for spec in functions], param, has_code=has_code)
    return Tools(echo=tuple(echo), has_code=has_code, has_search="file_search" in kinds, functions=tuple(functions))


def _function(given: Json) -> tuple[Json, ToolSpec]:
    spec = function_spec(given)
    told = {
        "name": spec.name,
        "description": given.get("description"),
        "parameters": dict(spec.parameters),
        "strict": bool(spec.is_strict),
    }
    return {name: value for name, value in told.items() if value is not None}, spec


def _check_names(names: Sequence[str], param: str, *, has_code: bool) -> None:
    for name in names:
        if names.count(name) > 1 or (has_code and name == CODE_TOOL):
            what = " (the code interpreter's own name)" if name == CODE_TOOL and has_code else ""
            raise FieldError(f"Invalid '{param}': two tools have the name {name!r}{what}.", param=param)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Files and stores that tools are given, by their ids on the wire; None where nothing was said of them."""

    file_ids: tuple[str, ...] | None = None
    vector_store_ids: tuple[str, ...] | None = None
    new_store: Json | None = None
    """A store that is to be made with whom this is for: `file_ids`, `metadata`."""

    def to_dict(self) -> dict[str, Any]:
        """As it is told."""
        told: dict[str, Any] = {}
        if self.file_ids is not None:
            told["code_interpreter"] = {"file_ids": list(self.file_ids)}
        if self.vector_store_ids is not None:
            told["file_search"] = {"vector_store_ids": list(self.vector_store_ids)}
        return told


def read_resources(given: Json, param: str = "tool_resources", *, file_ids: Sequence[str] = ()) -> Resources:
    """What `tool_resources` gives.

    Args:
        given: the field, as `RESOURCES` takes it.
        param: what it is called.
        file_ids: what the first version gave in its place: files for the code interpreter.

    Raises:
        FieldError: an id in it can be of nothing, or two of its fields cannot be together.
    """
    files: tuple[str, ...] | None = None
    if given.get("code_interpreter") is not None:
        code: Json = given["code_interpreter"]
        files = read_file_ids(code.get("file_ids") or (), f"{param}.code_interpreter.file_ids")
    if file_ids:
        files = tuple(dict.fromkeys((*(files or ()), *read_file_ids(file_ids, "file_ids"))))
    stores, new = _search(given.get("file_search"), f"{param}.file_search")
    return Resources(file_ids=files, vector_store_ids=stores, new_store=new)


def read_file_ids(given: Sequence[str], param: str) -> tuple[str, ...]:
    """Ids of uploaded files, each once; whether there are such files is found out later.

    Raises:
        FieldError: one can be of none.
    """
    return tuple(dict.fromkeys(file_id(each, f"{param}[{number}]") for number, each in enumerate(given)))


def file_id(given: str, param: str) -> str:
    """One such id."""
    if not naming.row_id(given, naming.FILE):
        raise FieldError(f"No such File object: {given[:100]}", param=param, wire_code=None)
    return given


def _search(given: Json | None, param: str) -> tuple[tuple[str, ...] | None, Json | None]:
    if given is None:
        return None, None
    stores = tuple(given.get("vector_store_ids") or ())
    new: Json | None = None
    for store in given.get("vector_stores") or ():
        new = {
            "file_ids": list(read_file_ids(store.get("file_ids") or (), f"{param}.vector_stores[0].file_ids")),
            "metadata": store.get("metadata") or {},
        }
    if stores and new is not None:
        raise FieldError(
            "Mutually exclusive parameters: 'vector_store_ids' and 'vector_stores' cannot be used together.",
            param=param,
            wire_code="mutually_exclusive_parameters",
        )
    return stores, new


def read_choice(value: str | Json, tools: Tools, param: str = "tool_choice") -> str:
    """Which tool must be called, as `RunRequest.tool_choice`, of what `TOOL_CHOICE` takes.

    Raises:
        FieldError: a tool that the run does not have.
    """
    if isinstance(value, str):
        if value == "required" and not tools.has_code and not tools.functions:
            return "auto"  # what it has is not served here, and nothing can be called
        return value
    kind = value["type"]
    if kind in _SEARCH and tools.has_search:
        return "auto"
    name = value["function"]["name"] if kind == "function" else CODE_TOOL
    is_there = tools.has_code if kind == "code_interpreter" else any(spec.name == name for spec in tools.functions)
    if not is_there:
        raise FieldError(f"Tool choice {name[:100]!r} is not among the tools of this run.", param=param)
    return name


def read_response_format(value: str | Json | None) -> Json | None:
    """How an answer is to be built, as a planner is told; None for plain text.  `value` is as `RESPONSE_FORMAT` takes it."""
    if value is None or isinstance(value, str):
        return None
    if value["type"] == "json_schema":
        schema: Json = value["json_schema"]
        return read_format({**schema, "schema": schema.get("schema") or {}, "type": "json_schema"})
    return read_format(value)
