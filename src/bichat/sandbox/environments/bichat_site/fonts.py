"""The environment's font files, the names they go by, and which of them has a character."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fonts")
"""Static TrueType faces, made at build time, and matplotlib's font list."""

LATIN, ARABIC, DEVANAGARI, CJK = "Noto Sans", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans CJK SC"
SYMBOLS = "DejaVu Sans"

FAMILIES = (LATIN, ARABIC, DEVANAGARI, CJK, SYMBOLS)
"""The families to fall back to, in this order."""

_FILES = {
    LATIN: ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ARABIC: ("NotoSansArabic-Regular.ttf", "NotoSansArabic-Bold.ttf"),
    DEVANAGARI: ("NotoSansDevanagari-Regular.ttf", "NotoSansDevanagari-Bold.ttf"),
    CJK: ("NotoSansCJKsc-Regular.ttf", "NotoSansCJKsc-Regular.ttf"),
    SYMBOLS: ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
}

ALIASES = {
    CJK: (
        "SimHei", "SimSun", "NSimSun", "FangSong", "KaiTi", "Microsoft YaHei", "Microsoft JhengHei", "STHeiti",
        "STSong", "STXihei", "Heiti SC", "Heiti TC", "Songti SC", "PingFang SC", "PingFang TC", "PingFang HK",
        "Hiragino Sans GB", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Source Han Sans SC", "Source Han Sans CN",
        "Source Han Sans TC", "Noto Sans SC", "Noto Sans TC", "Noto Sans JP", "Noto Sans KR", "Noto Sans CJK TC",
        "Noto Sans CJK JP", "Noto Sans CJK KR", "Droid Sans Fallback", "AR PL UMing CN", "MS Gothic", "Yu Gothic",
        "Meiryo", "Hiragino Sans", "Hiragino Maru Gothic Pro", "IPAexGothic", "IPAGothic", "TakaoPGothic",
        "Malgun Gothic", "NanumGothic", "AppleGothic", "Arial Unicode MS",
    ),
    ARABIC: ("Amiri", "Noto Naskh Arabic", "Scheherazade New", "Traditional Arabic", "Simplified Arabic"),
    DEVANAGARI: ("Mangal", "Lohit Devanagari", "Nirmala UI", "Kokila", "Noto Serif Devanagari"),
    LATIN: ("Arial", "Helvetica", "Helvetica Neue", "Liberation Sans", "Calibri", "Segoe UI", "Open Sans", "Roboto"),
}  # fmt: skip
"""Names that code asks for and that no free environment has, and the family that serves instead."""

_PREFIXES = (
    (CJK, ("simhei", "simsun", "simkai", "simfang", "msyh", "msjh", "msgothic", "stsong", "stheiti", "pingfang", "wqy",
           "notosanscjk", "notosanssc", "notosanstc", "notosansjp", "notosanskr", "notoserifcjk", "sourcehan", "hiragino",
           "malgun", "nanum", "meiryo", "yugoth", "ipaex", "ipag", "droidsansfallback", "arialuni", "uming", "ukai")),
    (ARABIC, ("notosansarabic", "notonaskh", "amiri", "scheherazade")),
    (DEVANAGARI, ("notosansdevanagari", "mangal", "lohit", "nirmala")),
    (SYMBOLS, ("dejavusans", "verdana", "vera")),
    (LATIN, ("arial", "helvetica", "liberationsans", "calibri", "segoeui", "opensans", "roboto", "notosans",
             "freesans", "ubuntu", "tahoma")),
)  # fmt: skip
"""How the file names begin that code opens by path, most particular first."""


def path_of(family, *, bold=False):
    """Path of the family's face."""
    name = _FILES[family][bool(bold)]
    return os.path.join(_dejavu_folder() if family == SYMBOLS else FOLDER, name)


def stand_in(path):
    """Path of a face to open in place of the file `path`, which is not there; None when its name says nothing."""
    name = os.path.basename(os.fsdecode(path)).lower().replace("-", "").replace("_", "").replace(" ", "")
    if not name.endswith((".ttf", ".ttc", ".otf", ".otc")) and "." in name:
        return None
    for family, prefixes in _PREFIXES:
        if name.startswith(prefixes):
            found = path_of(family, bold="bold" in name or "bd." in name)
            return found if os.path.isfile(found) else None
    return None


@lru_cache(maxsize=1)
def _dejavu_folder():
    # Found by path: importing matplotlib for the name of a folder would cost a third of a second.
    for entry in sys.path:
        folder = os.path.join(entry, "matplotlib", "mpl-data", "fonts", "ttf")
        if os.path.isdir(folder):
            return folder
    return FOLDER
