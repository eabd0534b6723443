"""Text cut into runs that one face can draw, in the order in which they stand on the page."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache

from bichat_site.fonts import ARABIC, DEVANAGARI, FAMILIES, path_of

_BOLD = "-Bold"
_SHAPED = (ARABIC, DEVANAGARI)
_RIGHT_TO_LEFT = ("R", "AL")


def font_name(family, *, bold):
    """The name that reportlab knows the face by."""
    return family + (_BOLD if bold else "")


def family_of(name):
    """Family and weight of a name that `font_name` made; (None, False) for any other, and where the file is missing."""
    family, bold = (name[: -len(_BOLD)], True) if name.endswith(_BOLD) else (name, False)
    if family in FAMILIES and os.path.isfile(path_of(family, bold=bold)):
        return family, bold
    return None, False


def register(family, *, bold):
    """Register the face under its name and return reportlab's font."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    name = font_name(family, bold=bold)
    font = TTFont(name, path_of(family, bold=bold))
    pdfmetrics._fonts[name] = font
    return font


def measuring(string_width):
    """The method `stringWidth` of a font class, for text that the font has not in full too."""

    def stringWidth(self, text, size, encoding="utf8"):
        runs = split(text, self, size)
        if runs is None:
            return string_width(self, text, size, encoding)
        return sum(_width(name, run, size, self, string_width) for name, run in runs)

    return stringWidth


def _width(name, run, size, font, string_width):
    from reportlab.pdfbase import pdfmetrics

    shape = getattr(run, "__shapeData__", None)
    if shape is not None:
        return sum(glyph.x_advance for glyph in shape) * size / 1000
    if name == font.fontName:
        return string_width(font, run, size)
    return pdfmetrics.getFont(name).stringWidth(run, size)


def split(text, font, size):
    """(font name, text) for every run, left to right; None when `font` itself draws all of it."""
    # Shaped text has been through here, or through reportlab's own shaper, and has private characters in it.
    if not isinstance(text, str) or text.isascii() or hasattr(text, "__shapeData__"):
        return None
    if not hasattr(font, "_dynamicFont") or not (font._dynamicFont or hasattr(font, "encName")):
        return None
    bold = "bold" in font.fontName.lower()
    names = _names(text, font, bold)
    if all(name == font.fontName for name in names):
        return None
    runs = []
    for start, end in _pieces(names):
        runs.append((names[start], text[start:end]))
    ordered = _visual_order(runs)
    return [(name, _shape(run, name, size)) for name, run in ordered]


def _names(text, font, bold):
    names = []
    for character in text:
        if _has(font, character):
            names.append(font.fontName)
        elif (unicodedata.combining(character) and names) or character in "\u200c\u200d\ufe0e\ufe0f":
            # A mark belongs to the letter before it.
            names.append(names[-1] if names else font.fontName)
        else:
            names.append(_fallback(character, bold) or font.fontName)
    # A space inside foreign words stays with them: a phrase that is written right to left is ordered as a whole.
    for at in range(1, len(names) - 1):
        if text[at] == " " and names[at - 1] != font.fontName:
            following = next((name for name, other in zip(names[at:], text[at:], strict=True) if other != " "), None)
            if following == names[at - 1]:
                names[at] = following
    return names


def _pieces(names):
    start = 0
    for at in range(1, len(names) + 1):
        if at == len(names) or names[at] != names[start]:
            yield start, at
            start = at


def _visual_order(runs):
    """The runs with every stretch between two right-to-left ones turned round: Unicode's rule for a left-to-right line."""
    turned = [_is_right_to_left(text) for _, text in runs]
    if not any(turned):
        return runs
    ordered, at = [], 0
    while at < len(runs):
        if not turned[at]:
            ordered.append(runs[at])
            at += 1
            continue
        end = at
        for other in range(at + 1, len(runs)):
            if turned[other]:
                end = other
            elif any(unicodedata.bidirectional(character) == "L" for character in runs[other][1]):
                break
        ordered.extend(reversed(runs[at : end + 1]))
        at = end + 1
    return ordered


def _is_right_to_left(text):
    return any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text)


def _shape(run, name, size):
    family, _ = family_of(name)
    if family not in _SHAPED:
        return run
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import shapeStr

    pdfmetrics.getFont(name)
    return shapeStr(run, name, size, force=True)


@lru_cache(maxsize=4096)
def _fallback(character, bold):
    from reportlab.pdfbase import pdfmetrics

    for family in FAMILIES:
        name, _ = family_of(font_name(family, bold=bold))
        if name is not None and _has(pdfmetrics.getFont(font_name(family, bold=bold)), character):
            return font_name(family, bold=bold)
    return None


def _has(font, character):
    if font._dynamicFont:
        return ord(character) in font.face.charToGlyph or character in "\t\n\r\xa0"
    return _encodes(font.encName, character) or any(
        _encodes(other.encName, character) for other in font.substitutionFonts
    )


@lru_cache(maxsize=4096)
def _encodes(encoding, character):
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
