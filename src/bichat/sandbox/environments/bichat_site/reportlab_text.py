"""reportlab writes what the chosen font has not with a face that has it."""

from __future__ import annotations


def load(textobject, execute):
    """Run `reportlab.pdfgen.textobject`; every way of drawing text ends in the method changed here."""
    execute()
    from bichat_site import reportlab_runs

    text_object = textobject.PDFTextObject
    format_text = text_object._formatText

    def _formatText(self, text):
        runs = reportlab_runs.split(text, textobject.pdfmetrics_getFont(self._fontname), self._fontsize)
        if runs is None:
            return format_text(self, text)
        chosen = self._fontname
        written = []
        try:
            for name, run in runs:
                if name != self._fontname:
                    self._fontname = name
                    written.append(_select(self, textobject.pdfmetrics_getFont(name)))
                written.append(format_text(self, run))
        finally:
            if self._fontname != chosen:
                self._fontname = chosen
                written.append(_select(self, textobject.pdfmetrics_getFont(chosen)))
        return " ".join(filter(None, written))

    text_object._formatText = _formatText


def _select(self, font):
    # A subset font names itself with its next text, once it is told that none is current.
    self._curSubset = -1
    if font._dynamicFont:
        return ""
    name = self._canvas._doc.getInternalFontName(font.fontName)
    return f"{name} {self._fontsize:g} Tf {self._leading:g} TL"
