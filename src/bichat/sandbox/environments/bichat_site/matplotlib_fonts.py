"""matplotlib reads the font list that was made at build time, and falls back to a face that has the glyph."""

from __future__ import annotations

from bichat_site.fonts import FAMILIES, FOLDER, SYMBOLS

_BOLD = 600


def load(font_manager, execute):
    """Run `matplotlib.font_manager` with the ready list in place of a cache below the home folder."""
    import matplotlib

    cache_folder = matplotlib.get_cachedir
    matplotlib.get_cachedir = lambda: FOLDER
    try:
        execute()
    finally:
        matplotlib.get_cachedir = cache_folder
    _fall_back(font_manager)


def _fall_back(font_manager):
    manager_class = font_manager.FontManager
    find_fonts = manager_class._find_fonts_by_props

    def _find_fonts_by_props(self, prop, fontext="ttf", *args, **options):
        found = find_fonts(self, prop, fontext, *args, **options)
        if fontext != "ttf":
            return found
        prop = font_manager.FontProperties._from_any(prop)
        return [*found, *(path for path in fallbacks(self, is_bold(prop.get_weight())) if path not in found)]

    def is_bold(weight):
        return font_manager.weight_dict.get(weight, weight if isinstance(weight, int) else 0) >= _BOLD

    cache = {}

    def fallbacks(self, bold):
        # Looked up once: a chart asks for its fonts some hundred times.
        key = (id(self), len(self.ttflist), bold)
        if key not in cache:
            known = {entry.name for entry in self.ttflist}
            weight = "bold" if bold else "normal"
            cache[key] = [
                self.findfont(font_manager.FontProperties(family=family, weight=weight), rebuild_if_missing=False)
                for family in (SYMBOLS, *FAMILIES[:-1])
                if family in known
            ]
        return cache[key]

    manager_class._find_fonts_by_props = _find_fonts_by_props
