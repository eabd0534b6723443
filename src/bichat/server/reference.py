"""The OpenAPI document as a page for people: whole in itself, without a script, and nothing of it comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

Json = Mapping[str, Any]

#: With the page: nothing may be loaded or run.
HEADERS: Final = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h3{margin:2.5rem 0 .3rem;font-size:1rem}table{border-collapse:collapse;width:100%;margin:.5rem 0}"
    "td,th{border-top:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}"
    "code{font:13px ui-monospace,monospace}nav li{display:inline-block;margin-right:1.2rem}"
)


def page(document: Json) -> str:
    """HTML: the endpoints by what they are about, then what bodies and answers look like."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    links = "".join(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in by_tag)
    parts = "".join(f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>{"".join(found)}' for tag, found in by_tag.items())
    schemas = "".join(_schema(name, said) for name, said in document["components"]["schemas"].items())
    problems: Json = document["components"]["responses"]
    errors = _table((status, _kinds(each), each["description"]) for status, each in problems.items())
    info: Json = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p>{escape(info["description"])} For programs: <a href="openapi.json">openapi.json</a>.'
        f"</p><nav><ul>{links}</ul></nav>{parts}"
        f'<h2 id="errors">Errors</h2>{errors}<h2>Bodies and answers</h2>{schemas}</body></html>'
    )


def _anchor(text: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in text)


def _operation(method: str, path: str, said: Json) -> str:
    parameters = [(each["name"], _kind(each["schema"]), each["in"]) for each in said["parameters"]]
    content: Json = said.get("requestBody", {}).get("content", {})
    takes = [("body", f"{escape(kind)}: {_kind(each['schema'])}", "body") for kind, each in content.items()]
    answers: Json = said["responses"]
    gives = [(status, _kinds(each), each["description"]) for status, each in answers.items() if "$ref" not in each]
    problems = ", ".join(status for status, each in answers.items() if "$ref" in each)
    errors = f'<p>Errors: <a href="#errors">{problems}</a></p>' if problems else ""
    head = f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(said['description'])}</p>"
    return head + _table([*parameters, *takes]) + _table(gives) + errors


def _kinds(answer: Json) -> str:
    content: Json = answer.get("content", {})
    return ", ".join(
        f"{escape(kind)}{': ' + _kind(each['schema']) if each.get('schema') else ''}" for kind, each in content.items()
    )


def _schema(name: str, said: Json) -> str:
    variants: list[Json] = [each for each in said.get("anyOf", ()) if "properties" in each]
    fields = "".join(map(_fields, [said] if "properties" in said else variants))
    return f'<h3 id="schema-{escape(name)}"><code>{escape(name)}</code></h3>{fields}'


def _fields(said: Json) -> str:
    required = said.get("required", ())
    return _table(
        (name, _kind(each), "required" if name in required else "") for name, each in said["properties"].items()
    )


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Of names, kinds (HTML already), and words."""
    made = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{escape(words)}</td></tr>"
        for name, kind, words in rows
    )
    return f"<table>{made}</table>" if made else ""


def _kind(said: Json) -> str:
    """What a value is, in a few words."""
    if "$ref" in said:
        name = escape(said["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "enum" in said:
        return ", ".join(f"<code>{escape(str(each))}</code>" for each in said["enum"] if each is not None)
    if "anyOf" in said and "properties" not in said:
        return " or ".join(_kind(each) for each in said["anyOf"] if each.get("type") != "null")
    kind: str | list[str] = said.get("type", "any value")
    words = escape(kind if isinstance(kind, str) else " or ".join(kind))
    if "items" in said:
        words = f"array of {_kind(said['items'])}"
    if said.get("properties"):
        inner = ", ".join(f"<code>{escape(name)}</code>: {_kind(each)}" for name, each in said["properties"].items())
        words = f"object: {inner}"
    bounds = [(said.get("minimum"), "at least"), (said.get("maximum"), "at most"), (said.get("maxLength"), "at most")]
    told = [f"{word} {each:,}" for each, word in bounds if each is not None]
    told += [f"{said['maxItems']} at most"] if "maxItems" in said else []
    told += [f"<code>{escape(said['pattern'])}</code>"] if "pattern" in said else []
    told += [f"usually <code>{escape(str(said['default']).lower())}</code>"] if "default" in said else []
    told += [escape(said["description"])] if "description" in said else []
    return "; ".join([words, *told])
