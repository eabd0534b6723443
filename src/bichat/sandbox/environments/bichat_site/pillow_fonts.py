"""Pillow opens a face of ours where code names a font file that only another system has."""

from __future__ import annotations

from bichat_site.fonts import stand_in


def load(image_font, execute):
    """Run `PIL.ImageFont`; `truetype()` then knows common fonts by name."""
    execute()
    original = image_font.truetype

    def truetype(font=None, size=10, index=0, encoding="", layout_engine=None):
        try:
            return original(font, size, index, encoding, layout_engine)
        except OSError:
            path = stand_in(font) if isinstance(font, str) else None
            if path is None:
                raise
            return original(path, size, 0, encoding, layout_engine)

    truetype.__doc__ = original.__doc__
    image_font.truetype = truetype
