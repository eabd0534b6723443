"""reportlab's `TTFont(name, path)` opens a face of ours for a well-known file, and measures with fallback faces."""

from __future__ import annotations

from bichat_site.fonts import stand_in


def load(ttfonts, execute):
    """Run `reportlab.pdfbase.ttfonts`."""
    execute()
    from bichat_site import reportlab_runs

    open_file = ttfonts.TTFOpenFile

    def TTFOpenFile(fn):
        try:
            return open_file(fn)
        except ttfonts.TTFError:
            path = stand_in(fn)
            if path is None:
                raise
            return open_file(path)

    ttfonts.TTFOpenFile = TTFOpenFile
    ttfonts.TTFont.stringWidth = reportlab_runs.measuring(ttfonts.TTFont.stringWidth)
