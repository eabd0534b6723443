"""Text cut into runs that one face can draw, in the order in which they stand on the page."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache

from bichat_site import bidi
from bichat_site.fonts import ARABIC, DEVANAGARI, FAMILIES, path_of

_BOLD = "-Bold"
_SHAPED = (ARABIC, DEVANAGARI)
_JOINING = ("\u200c", "\u200d", "\ufe0e", "\ufe0f")
_PRESENTED = frozenset(map(chr, (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFEFF))))


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
    # A document embeds a face once: where code has registered it under another name, that font serves both, as in
    # reportlab's own `registerFont`, which would also forget which face is the bold one.
    font = pdfmetrics._fonts[name] = pdfmetrics._dynFaceNames.setdefault(font.face.name, font)
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
    """(font name, text) for every run, left to right; None when `font` itself draws all of it as it stands."""
    # Shaped text has been through here, or through reportlab's own shaper, and has private characters in it.
    if not isinstance(text, str) or text.isascii() or hasattr(text, "__shapeData__"):
        return None
    if not hasattr(font, "_dynamicFont") or not (font._dynamicFont or hasattr(font, "encName")):
        return None
    names = _names(text, font)
    # Presentation forms are what a reshaping library makes: its text is in the order of the page already.
    turned = bidi.is_right_to_left(text) and not any(character in _PRESENTED for character in text)
    if not turned and all(name == font.fontName for name in names):
        return None
    if not turned:
        return [_run(text, names, piece, size, backwards=False) for piece in _pieces(names, 0, len(text))]
    runs = []
    for start, end, backwards in bidi.visual_pieces(text):
        pieces = list(_pieces(names, start, end))
        ordered = reversed(pieces) if backwards else pieces
        runs.extend(_run(text, names, piece, size, backwards=backwards) for piece in ordered)
    return runs


def _names(text, font):
    """The name of the font that draws each character."""
    bold = "bold" in font.fontName.lower()
    names = []
    for character in text:
        if (unicodedata.combining(character) and names) or character in _JOINING:
            # A mark belongs to the letter before it.
            names.append(names[-1] if names else font.fontName)
        elif _has(font, character) and not _needs_shaping(character):
            names.append(font.fontName)
        else:
            names.append(_fallback(character, bold) or font.fontName)
    # What is shaped is shaped with the spaces and marks around it: a line of it is few runs, not many.
    for at in range(1, len(names) - 1):
        if text[at] == " " and names[at - 1] == names[at + 1]:
            names[at] = names[at - 1]
    return names


def _pieces(names, start, end):
    for at in range(start + 1, end + 1):
        if at == end or names[at] != names[start]:
            yield start, at
            start = at


def _run(text, names, piece, size, *, backwards):
    """One run as it is drawn: shaped, or turned round character by character where it goes backwards."""
    name, run = names[piece[0]], text[piece[0] : piece[1]]
    if family_of(name)[0] in _SHAPED and any(_needs_shaping(character) for character in run):
        return name, _shape(run, name, size)
    if backwards:
        run = "".join(bidi.MIRRORED.get(character, character) for character in reversed(run))
    return name, run


def _shape(run, name, size):
    from reportlab.lib.abag import ABag
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import shapeFragWord

    pdfmetrics.getFont(name)
    # reportlab's `shapeStr` would measure the text first, with the method that has come here.
    return shapeFragWord([0, (ABag(fontName=name, fontSize=size), run)], force=True)[1][1]


@lru_cache(maxsize=4096)
def _needs_shaping(character):
    """Whether its letters take their form from their neighbours: no font that only maps characters draws them right."""
    return _script_family(character) is not None


def _script_family(character):
    if character in _PRESENTED:
        return None
    script = unicodedata.name(character, "").partition(" ")[0]
    return {"ARABIC": ARABIC, "DEVANAGARI": DEVANAGARI}.get(script)


@lru_cache(maxsize=4096)
def _fallback(character, bold):
    from reportlab.pdfbase import pdfmetrics

    # The Latin face has Devanagari letters too, but not what joins them.
    first = _script_family(character)
    for family in (first, *FAMILIES) if first else FAMILIES:
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
