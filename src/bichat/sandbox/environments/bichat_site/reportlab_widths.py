"""reportlab knows our families by name, and measures text with the faces that will draw it."""

from __future__ import annotations

from bichat_site.fonts import FAMILIES


def load(pdfmetrics, execute):
    """Run `reportlab.pdfbase.pdfmetrics`; a family's file is read when its name is first used."""
    execute()
    from bichat_site import reportlab_runs

    find_font = pdfmetrics.findFontAndRegister

    def findFontAndRegister(fontName):
        family, bold = reportlab_runs.family_of(fontName)
        if family is None:
            return find_font(fontName)
        return reportlab_runs.register(family, bold=bold)

    pdfmetrics.findFontAndRegister = findFontAndRegister
    pdfmetrics.Font.stringWidth = reportlab_runs.measuring(pdfmetrics.Font.stringWidth)

    from reportlab.lib.fonts import addMapping

    for family in FAMILIES:
        for bold in (0, 1):
            for italic in (0, 1):
                addMapping(family, bold, italic, reportlab_runs.font_name(family, bold=bool(bold)))
