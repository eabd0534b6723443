"""reportlab's Asian CID fonts are not embedded, so that most viewers show boxes: embed a face of ours instead."""

from __future__ import annotations

import os

from bichat_site.fonts import CJK, path_of


def load(cidfonts, execute):
    """Run `reportlab.pdfbase.cidfonts`; `UnicodeCIDFont(face)` then gives a TrueType font under that name."""
    execute()
    original = cidfonts.UnicodeCIDFont

    def UnicodeCIDFont(face, isVertical=False, isHalfWidth=False):
        if isVertical or not os.path.isfile(path_of(CJK)):
            return original(face, isVertical, isHalfWidth)
        original(face)  # an unknown face is an error, as it was
        from reportlab.pdfbase.ttfonts import TTFont

        return TTFont(face, path_of(CJK))

    cidfonts.UnicodeCIDFont = UnicodeCIDFont
