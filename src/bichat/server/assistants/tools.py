"""What assistants and runs have to work with: tools, the files and stores that they are given, how they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bichat.conversation.planner import ToolSpec
from bichat.conversation.request import CODE_TOOL
from bichat.server import checks, naming
from bichat.server.problems import FieldError
from bichat.server.responses.requests import function_spec, read_format

Json = Mapping[str, Any]

#: Files of one list of files for the code interpreter, and tools of one assistant.
MOST_FILES: Final = 20
MOST_TOOLS: Final = 128
#: Types of tools that are taken and not served; `retrieval` is what the first version called `file_search`.
_SEARCH: Final = ("file_search", "retrieval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """As they are told again, and what they mean."""

    echo: tuple[Json, ...] = ()
    has_code: bool = False
    has_search: bool = False
    """Whether file_search is among them, which is not served here."""
    functions: tuple[ToolSpec, ...] = ()


def read_tools(value: Any, param: str = "tools") -> Tools:
    """The tools of an assistant or of a run.

    Raises:
        FieldError: one is not as it must be, or of a type that is not known.
    """
    echo: list[Json] = []
    functions: list[ToolSpec] = []
    for number, given in enumerate(checks.array(value, param, most=MOST_TOOLS)):
        place = f"{param}[{number}]"
        tool = checks.mapping(given, place)
        if tool.get("type") is None:
            raise checks.missing(f"{place}.type")
        kind = checks.one_of(tool["type"], f"{place}.type", ("code_interpreter", "function", *_SEARCH))
        if kind == "function":
            if "function" not in tool:
                raise checks.missing(f"{place}.function")
            told, spec = _function(checks.mapping(tool["function"], f"{place}.function"), f"{place}.function")
            functions.append(spec)
            echo.append({"type": "function", "function": told})
        elif kind == "code_interpreter":
            echo.append({"type": kind})
        else:
            options = tool.get("file_search")
            settings = {} if options is None else {"file_search": dict(checks.mapping(options, f"{place}.file_search"))}
            echo.append({"type": "file_search", **settings})
    kinds = [each["type"] for each in echo]
    for kind in ("code_interpreter", "file_search"):
        if kinds.count(kind) > 1:
            raise FieldError(f"Invalid '{param}': {kind} is given twice.", param=param)
    has_code = "code_interpreter" in kinds
    _check_names([spec.name for spec in functions], param, has_code=has_code)
    return Tools(echo=tuple(echo), has_code=has_code, has_search="file_search" in kinds, functions=tuple(functions))


def _function(given: Json, param: str) -> tuple[Json, ToolSpec]:
    spec = function_spec(given, param)
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


def read_resources(value: Any, param: str = "tool_resources", *, file_ids: Any = None) -> Resources:
    """What `tool_resources` gives.

    Args:
        value: the field; null is nothing.
        param: what it is called.
        file_ids: what the first version gave in its place: files for the code interpreter.

    Raises:
        FieldError: it is not as it must be.
    """
    given: Json = {} if value is None else checks.mapping(value, param)
    for name in given:
        if name not in ("code_interpreter", "file_search"):
            raise FieldError(f"Unknown parameter: '{param}.{name[:100]}'.", param=param, wire_code="unknown_parameter")
    files: tuple[str, ...] | None = None
    if given.get("code_interpreter") is not None:
        code = checks.mapping(given["code_interpreter"], f"{param}.code_interpreter")
        files = read_file_ids(code.get("file_ids") or [], f"{param}.code_interpreter.file_ids")
    if file_ids is not None:
        old = read_file_ids(file_ids, "file_ids")
        files = tuple(dict.fromkeys((*(files or ()), *old))) if old or files is not None else None
    stores, new = _search(given.get("file_search"), f"{param}.file_search")
    return Resources(file_ids=files, vector_store_ids=stores, new_store=new)


def read_file_ids(value: Any, param: str) -> tuple[str, ...]:
    """Ids of uploaded files, each once; whether there are such files is found out later.

    Raises:
        FieldError: it is no list of at most `MOST_FILES` such ids.
    """
    found = checks.array(value, param, most=MOST_FILES)
    return tuple(dict.fromkeys(file_id(each, f"{param}[{number}]") for number, each in enumerate(found)))


def file_id(value: Any, param: str) -> str:
    """One such id."""
    given = checks.text(value, param)
    if not naming.row_id(given, naming.FILE):
        raise FieldError(f"No such File object: {given[:100]}", param=param, wire_code=None)
    return given


def _search(value: Any, param: str) -> tuple[tuple[str, ...] | None, Json | None]:
    if value is None:
        return None, None
    given = checks.mapping(value, param)
    ids = checks.array(given.get("vector_store_ids") or [], f"{param}.vector_store_ids", most=1)
    stores = tuple(checks.text(each, f"{param}.vector_store_ids", most=100) for each in ids)
    new: Json | None = None
    for each in checks.array(given.get("vector_stores") or [], f"{param}.vector_stores", most=1):
        store = checks.mapping(each, f"{param}.vector_stores[0]")
        new = {
            "file_ids": list(read_store_files(store.get("file_ids") or [], f"{param}.vector_stores[0].file_ids")),
            "metadata": checks.metadata(store.get("metadata"), f"{param}.vector_stores[0].metadata"),
        }
    if stores and new is not None:
        raise FieldError(
            "Mutually exclusive parameters: 'vector_store_ids' and 'vector_stores' cannot be used together.",
            param=param,
            wire_code="mutually_exclusive_parameters",
        )
    return stores, new


def read_store_files(value: Any, param: str) -> tuple[str, ...]:
    """Ids of the files of a vector store: up to 10,000."""
    found = checks.array(value, param, most=10_000)
    return tuple(dict.fromkeys(file_id(each, f"{param}[{number}]") for number, each in enumerate(found)))


def read_choice(value: Any, tools: Tools, param: str = "tool_choice") -> str:
    """Which tool must be called, as `RunRequest.tool_choice`.

    Raises:
        FieldError: it is none, or a tool that the run does not have.
    """
    if isinstance(value, str):
        choice = checks.one_of(value, param, ("none", "auto", "required"))
        if choice == "required" and not tools.has_code and not tools.functions:
            return "auto"  # what it has is not served here, and nothing can be called
        return choice
    given = checks.mapping(value, param)
    kind = checks.one_of(given.get("type"), f"{param}.type", ("code_interpreter", "function", *_SEARCH))
    if kind in _SEARCH and tools.has_search:
        return "auto"
    name = CODE_TOOL
    if kind == "function":
        chosen = checks.mapping(given.get("function"), f"{param}.function")
        name = checks.text(chosen.get("name"), f"{param}.function.name")
    is_there = tools.has_code if kind == "code_interpreter" else any(spec.name == name for spec in tools.functions)
    if not is_there:
        raise FieldError(f"Tool choice {name[:100]!r} is not among the tools of this run.", param=param)
    return name


def read_response_format(value: Any, param: str = "response_format") -> Json | None:
    """How an answer is to be built, as a planner is told; None for plain text.

    Raises:
        FieldError: it is not as it must be.
    """
    if value is None or value == "auto":
        return None
    given = checks.mapping(value, param)
    if given.get("type") == "json_schema":
        if "json_schema" not in given:
            raise checks.missing(f"{param}.json_schema")
        schema = checks.mapping(given["json_schema"], f"{param}.json_schema")
        return read_format({**schema, "schema": schema.get("schema", {}), "type": "json_schema"}, param)
    return read_format(given, param)
