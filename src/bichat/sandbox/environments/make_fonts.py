"""Run by an environment's own Python at build time: `python -I make_fonts.py FOLDER`.

Makes static TrueType faces of the font packages that are installed, and matplotlib's font list, both in FOLDER.
Static, because the default instance of a variable font is often its thinnest; TrueType outlines, because reportlab can
embed no others and one file then serves every library.  Prints nothing; fails with a traceback.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from multiprocessing import get_context

CJK_SOURCE = ("noto-cjk-sans-otc", "NotoSansCJK-Regular.ttc", 2)
"""Distribution, file, and the face within it: the simplified Chinese one, which has all the others' characters."""
CJK_FACE = "NotoSansCJKsc-Regular.ttf"

VARIABLE_SOURCES = (
    ("fontpkg-noto-sans", "NotoSans[wdth,wght].ttf", "NotoSans", "Noto Sans"),
    ("fontpkg-noto-sans-arabic", "NotoSansArabic[wdth,wght].ttf", "NotoSansArabic", "Noto Sans Arabic"),
    ("fontpkg-noto-sans-devanagari", "NotoSansDevanagari[wdth,wght].ttf", "NotoSansDevanagari", "Noto Sans Devanagari"),
)
WEIGHTS = (("Regular", 400), ("Bold", 700))

FONT_LIST_FORMAT = "fontlist-v{}.json"
_MAX_ERROR = 1.0  # units of 1000 to the em, when cubic curves become quadratic
_WORKERS = 4
_PR_SET_PDEATHSIG = 1


def main(folder):
    """Make what is missing in `folder`."""
    os.makedirs(folder, exist_ok=True)
    for package, file_name, stem, family in VARIABLE_SOURCES:
        source = _installed(package, file_name)
        for style, weight in WEIGHTS if source else ():
            target = os.path.join(folder, f"{stem}-{style}.ttf")
            if not os.path.exists(target):
                _make_instance(source, target, family, style, weight)
    package, file_name, index = CJK_SOURCE
    source = _installed(package, file_name)
    target = os.path.join(folder, CJK_FACE)
    if source and not os.path.exists(target):
        _make_truetype(source, index, target)
    with tempfile.TemporaryDirectory() as nowhere:
        # matplotlib makes its configuration folder where this says, and in the caller's home otherwise.
        os.environ["MPLCONFIGDIR"] = nowhere
        _make_font_list(folder)


def _installed(package, file_name):
    with suppress(PackageNotFoundError):
        for file in distribution(package).files or ():
            if file.name == file_name:
                return str(file.locate())
    return None


def _make_instance(source, target, family, style, weight):
    from fontTools.ttLib import TTFont
    from fontTools.varLib import instancer

    font = TTFont(source)
    axes = {"wght": weight, "wdth": 100}
    instancer.instantiateVariableFont(font, axes, inplace=True)
    _name(font, family, style)
    font["OS/2"].usWeightClass = weight
    if style == "Bold":
        font["OS/2"].fsSelection = font["OS/2"].fsSelection & ~0x40 | 0x20
        font["head"].macStyle |= 1
    font.save(target)


def _make_truetype(source, index, target):
    from fontTools.ttLib import TTFont, newTable

    font = TTFont(source, fontNumber=index, lazy=True)
    # Without combining marks: a shaper would take a letter that is not here apart into one that is and its accent, and
    # put that where it does not belong, instead of asking the next font for the letter.
    cmap = {code: name for code, name in font.getBestCmap().items() if not 0x0300 <= code < 0x0370}
    # Only what a character names is kept; alternative forms for vertical text and other regions are not.
    names = [".notdef", *dict.fromkeys(name for name in cmap.values() if name != ".notdef")]
    workers = max(1, min(_WORKERS, len(os.sched_getaffinity(0))))
    size = -(-len(names) // (workers * 4))
    chunks = [(source, index, names[start : start + size]) for start in range(0, len(names), size)]
    glyphs = {}
    with ProcessPoolExecutor(workers, get_context("fork"), _die_with_parent, (os.getpid(),)) as pool:
        for made in pool.map(_outlines, chunks):
            glyphs.update(made)

    metrics = font["hmtx"].metrics
    font.setGlyphOrder(names)
    font["loca"] = newTable("loca")
    glyf = font["glyf"] = newTable("glyf")
    glyf.glyphOrder, glyf.glyphs = names, glyphs
    font["hmtx"].metrics = {name: (metrics[name][0], getattr(glyphs[name], "xMin", 0)) for name in names}
    maxp = font["maxp"]
    maxp.tableVersion = 0x00010000
    maxp.numGlyphs = len(names)
    for field in ("maxZones", "maxTwilightPoints", "maxStorage", "maxFunctionDefs", "maxInstructionDefs",
                  "maxStackElements", "maxSizeOfInstructions", "maxComponentElements"):  # fmt: skip
        setattr(maxp, field, 1 if field == "maxZones" else 0)
    _keep_one_cmap(font, cmap)
    post = font["post"]
    post.formatType = 3.0
    for tag in ("CFF ", "VORG", "GSUB", "GPOS", "GDEF", "BASE", "vhea", "vmtx", "DSIG"):
        if tag in font:
            del font[tag]
    font.sfntVersion = "\000\001\000\000"
    _name(font, "Noto Sans CJK SC", "Regular")
    font.save(target)


def _die_with_parent(parent):
    # A worker waits for work in a pipe whose other end it holds too: nothing else would tell it that nobody comes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _outlines(chunk):
    from fontTools.pens.cu2quPen import Cu2QuPen
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from fontTools.ttLib import TTFont

    source, index, names = chunk
    font = TTFont(source, fontNumber=index, lazy=True)
    glyph_set, glyf = font.getGlyphSet(), {}
    for name in names:
        pen = TTGlyphPen(None)
        glyph_set[name].draw(Cu2QuPen(pen, _MAX_ERROR, reverse_direction=True))
        glyph = pen.glyph()
        if glyph.numberOfContours:
            glyph.recalcBounds(None)
        glyf[name] = glyph
    return glyf


def _keep_one_cmap(font, mapping):
    from fontTools.ttLib.tables._c_m_a_p import CmapSubtable

    tables = []
    for number, platform, encoding, codes in (
        (4, 3, 1, {code: name for code, name in mapping.items() if code <= 0xFFFF}),
        (12, 3, 10, mapping),
    ):
        table = CmapSubtable.newSubtable(number)
        table.platformID, table.platEncID, table.language, table.cmap = platform, encoding, 0, codes
        tables.append(table)
    font["cmap"].tables = tables


def _name(font, family, style):
    names = font["name"]
    full = family if style == "Regular" else f"{family} {style}"
    names.names = [record for record in names.names if record.nameID in (0, 13, 14)]
    texts = {1: family, 2: style, 4: full, 6: f"{family.replace(' ', '')}-{style}"}
    for number, text in texts.items():
        names.setName(text, number, 3, 1, 0x409)
        names.setName(text, number, 1, 0, 0)


def _make_font_list(folder):
    try:
        import matplotlib
    except ImportError:
        return
    from bichat_site.fonts import ALIASES
    from matplotlib import font_manager

    manager = font_manager.FontManager()
    data = matplotlib.get_data_path()
    # The host's fonts are not in the sandbox.
    for entries in (manager.ttflist, manager.afmlist):
        entries[:] = [entry for entry in entries if entry.fname.startswith(data + os.sep)]
    for file_name in sorted(os.listdir(folder)):
        if file_name.endswith(".ttf"):
            manager.addfont(os.path.join(folder, file_name))
    # There is no bold face of these 45,000 characters; asked for one, matplotlib would warn on every chart.
    manager.ttflist += [
        dataclasses.replace(entry, weight=700)
        for entry in manager.ttflist
        if os.path.basename(entry.fname) == CJK_FACE and entry.weight != 700
    ]
    by_family = {}
    for entry in manager.ttflist:
        by_family.setdefault(entry.name, []).append(entry)
    for family, aliases in ALIASES.items():
        for alias in aliases:
            for entry in by_family.get(family, ()) if alias not in by_family else ():
                manager.ttflist.append(dataclasses.replace(entry, name=alias))
    # Relative to matplotlib's own data, so that the list holds wherever the environment comes to stand.
    manager.ttflist[:] = [
        dataclasses.replace(entry, fname=os.path.relpath(entry.fname, data)) for entry in manager.ttflist
    ]
    manager.afmlist[:] = [
        dataclasses.replace(entry, fname=os.path.relpath(entry.fname, data)) for entry in manager.afmlist
    ]
    font_manager.json_dump(manager, os.path.join(folder, FONT_LIST_FORMAT.format(manager.__version__)))


if __name__ == "__main__":
    main(sys.argv[1])
