"""Which files an answer names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from bichat.conversation.parts import Citation

_PREFIX: Final = "sandbox:/mnt/data/"
#: References that are looked at in one answer, whether they name anything or not.
_MOST: Final = 1000


class KnownFiles:
    """Files that code made or displayed in a conversation, by name; of those with one name the newest counts."""

    def __init__(self) -> None:
        self._by_name: dict[str, Citation] = {}
        self._uncited: dict[str, Citation] = {}
        self._unshown: dict[str, Citation] = {}
        self._spelled: dict[str, str] = {}
        self._lengths: list[int] = []

    def add(self, content: Mapping[str, Any], *, is_new: bool) -> None:
        """What a code call left behind, by its part's content; `is_new`: in this run, so that its answer is to have it."""
        for file in content.get("files", ()):
            citation = _citation(content, file)
            if not citation.output_id:
                continue
            if not citation.is_shown:
                self._by_name[citation.name] = citation
                self._spell(citation.name)
            if is_new:
                self._uncited[citation.output_id] = citation
                if citation.is_shown and citation.mime_type.startswith("image/"):
                    self._unshown[citation.output_id] = citation

    def told(self, content: Mapping[str, Any]) -> None:
        """What a text of this run has named and shown already, by its part's content."""
        for citation in (*content.get("citations", ()), *content.get("shown", ())):
            self._unshown.pop(citation["output_id"], None)
            if citation["text"]:
                self._uncited.pop(citation["output_id"], None)

    def shown(self) -> list[Citation]:
        """Images of this run that were displayed since a text began: they stand before the next one.  Each once."""
        fresh = list(self._unshown.values())
        self._unshown.clear()
        return fresh

    def named(self, text: str) -> list[Citation]:
        """A citation for each place of `text` that names a file that is there, in their order."""
        found: list[Citation] = []
        end = 0
        for _ in range(_MOST):
            start = text.find(_PREFIX, end)
            if start < 0:
                break
            rest = start + len(_PREFIX)
            spelled = self._at(text, rest)
            end = rest + len(spelled)
            if spelled:
                cited = self._by_name[self._spelled[spelled]]
                found.append(replace(cited, text=text[start:end], start=start, end=end))
                self._uncited.pop(cited.output_id, None)
        return found

    def unnamed(self) -> list[Citation]:
        """Those of this run that no answer has named so far; each once."""
        rest = list(self._uncited.values())
        self._uncited.clear()
        return rest

    def _spell(self, name: str) -> None:
        """As it may stand in an answer."""
        for spelled in (quote(name, safe="/"), name):
            if spelled == name or spelled not in self._by_name:
                self._spelled[spelled] = name
            if len(spelled) not in self._lengths:
                self._lengths = sorted([*self._lengths, len(spelled)], reverse=True)

    def _at(self, text: str, place: int) -> str:
        """The longest name that stands at a place: by lengths, of which there are few however many names there are."""
        for length in self._lengths:
            spelled = text[place : place + length]
            if spelled in self._spelled and _ends(text, place + length):
                return spelled
        return ""


def citations_json(citations: Iterable[Citation]) -> list[dict[str, Any]]:
    """As they stand in a text part."""
    return [citation.to_dict() for citation in citations]


def _citation(content: Mapping[str, Any], file: Mapping[str, Any]) -> Citation:
    return Citation(
        output_id=file.get("output_id", ""),
        session_id=content.get("session_id", ""),
        name=file["name"],
        mime_type=file.get("mime_type", ""),
        is_shown=file.get("source") == "display" or file.get("type") == "image",
    )


def _ends(text: str, place: int) -> bool:
    """Whether a name may end there: `a.csv` is not what `a.csv.gz` names, nor `a` what `ab` does."""
    after = text[place : place + 2]
    if not after:
        return True
    if after[0] in ".,:;!?":
        return not after[1:].isalnum()
    return not (after[0].isalnum() or after[0] in "_-/%~")


__all__: Sequence[str] = ["KnownFiles", "citations_json"]
