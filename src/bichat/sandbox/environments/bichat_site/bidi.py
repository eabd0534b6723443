"""The order in which a line's characters stand on the page, by Unicode's bidirectional algorithm.

For a left-to-right line without explicit embeddings: all that a report's labels and sentences need.
"""

from __future__ import annotations

import unicodedata

_OPENING = {"(": ")", "[": "]", "{": "}", "\u00ab": "\u00bb", "<": ">"}
_CLOSING = {closing: opening for opening, closing in _OPENING.items()}
MIRRORED = {**_OPENING, **_CLOSING}

_RIGHT = ("R", "AL")
_NUMBERS = ("EN", "AN")


def is_right_to_left(text):
    """Whether any character is written from right to left."""
    return any(unicodedata.bidirectional(character) in _RIGHT for character in text)


def levels(text):
    """A level for each character: 0 left to right, 1 right to left, 2 a number within the latter."""
    kinds = _resolve_numbers([unicodedata.bidirectional(character) for character in text])
    _resolve_brackets(text, kinds)
    _resolve_neutrals(kinds)
    return [{"R": 1, "EN": 2, "AN": 2}.get(kind, 0) for kind in kinds]


def visual_pieces(text):
    """(start, end, whether right to left) of each stretch of one level, from left to right."""
    resolved = levels(text)
    stretches, start = [], 0
    for at in range(1, len(text) + 1):
        if at == len(text) or resolved[at] != resolved[start]:
            stretches.append((start, at, resolved[start]))
            start = at
    ordered, at = [], 0
    while at < len(stretches):
        end = at
        while end < len(stretches) and stretches[end][2]:
            end += 1
        if end > at:
            ordered.extend(reversed(stretches[at:end]))
            at = end
        else:
            ordered.append(stretches[at])
            at += 1
    return [(start, end, level == 1) for start, end, level in ordered]


def _resolve_numbers(kinds):
    """Rules W1 to W7: L, R, a number, or ON for what takes its direction from its neighbours."""
    _give_marks_and_numbers_their_letters_kind(kinds)
    for at in range(1, len(kinds) - 1):
        before, after = kinds[at - 1], kinds[at + 1]
        if before == after and ((kinds[at] == "ES" and before == "EN") or (kinds[at] == "CS" and before in _NUMBERS)):
            kinds[at] = before
    _spread(kinds, range(len(kinds)))
    _spread(kinds, range(len(kinds) - 1, -1, -1))
    strong, resolved = "L", []
    for kind in kinds:
        strong = {"L": "L", "R": "R", "AL": "R"}.get(kind, strong)
        if kind in ("L", *_RIGHT) or (kind == "EN" and strong == "L"):
            resolved.append(strong)
        else:
            resolved.append(kind if kind in _NUMBERS else "ON")
    return resolved


def _give_marks_and_numbers_their_letters_kind(kinds):
    strong = "L"
    for at, kind in enumerate(kinds):
        if kind == "NSM":
            kinds[at] = kinds[at - 1] if at else "L"
        elif kind in ("L", *_RIGHT):
            strong = kind
        elif kind == "EN" and strong == "AL":
            kinds[at] = "AN"


def _spread(kinds, order):
    """Signs of percentage and currency belong to the number that they stand at."""
    previous = ""
    for at in order:
        if kinds[at] == "ET" and previous == "EN":
            kinds[at] = "EN"
        previous = kinds[at]


def _resolve_brackets(text, kinds):
    """Rule N0: a pair of brackets goes as one, with what is in it or before it."""
    opened = []
    pairs = []
    for at, character in enumerate(text):
        if kinds[at] != "ON":
            continue
        if character in _OPENING:
            opened.append(at)
        elif character in _CLOSING:
            for depth in range(len(opened) - 1, -1, -1):
                if text[opened[depth]] == _CLOSING[character]:
                    pairs.append((opened[depth], at))
                    del opened[depth:]
                    break
    for start, end in sorted(pairs):
        within = {_direction(kind) for kind in kinds[start + 1 : end]} - {""}
        if not within:
            continue
        before = next((found for kind in reversed(kinds[:start]) if (found := _direction(kind))), "L")
        kinds[start] = kinds[end] = "L" if "L" in within or before == "L" else "R"


def _resolve_neutrals(kinds):
    """Rules N1 and N2."""
    at = 0
    while at < len(kinds):
        end = at
        while end < len(kinds) and not _direction(kinds[end]):
            end += 1
        if end > at:
            before = _direction(kinds[at - 1]) if at else "L"
            after = _direction(kinds[end]) if end < len(kinds) else "L"
            kinds[at:end] = [before if before == after else "L"] * (end - at)
        at = end + 1


def _direction(kind):
    if kind in ("R", *_NUMBERS):
        return "R"
    return "L" if kind == "L" else ""
