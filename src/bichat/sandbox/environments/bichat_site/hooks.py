"""Import hooks that change a few modules as they are imported, and cost nothing until then."""

from __future__ import annotations

import sys

_CHANGES = {
    "joblib._multiprocessing_helpers": "bichat_site.shared_memory",
    "joblib.externals.loky.process_executor": "bichat_site.shared_memory",
    "matplotlib.font_manager": "bichat_site.matplotlib_fonts",
    "PIL.ImageFont": "bichat_site.pillow_fonts",
    "reportlab.pdfbase.pdfmetrics": "bichat_site.reportlab_widths",
    "reportlab.pdfbase.ttfonts": "bichat_site.reportlab_files",
    "reportlab.pdfbase.cidfonts": "bichat_site.reportlab_cid",
    "reportlab.pdfgen.textobject": "bichat_site.reportlab_text",
    "multiprocessing.heap": "bichat_site.shared_memory",
    "multiprocessing.shared_memory": "bichat_site.shared_memory",
    "multiprocessing.synchronize": "bichat_site.shared_memory",
    "plotly.io._kaleido": "bichat_site.plotly_images",
    "plotly.io._renderers": "bichat_site.plotly_show",
}
"""Module to be changed -> module whose `load(module, execute)` runs it and changes it."""


class ChangingFinder:
    """Stands first in `sys.meta_path`; finds the modules named above where everybody finds them."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        change = _CHANGES.get(name)
        if change is None:
            return None
        # Imported here: most interpreters never get this far, and this runs at the start of every one.
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = ChangingLoader(spec.loader, change)
        return spec


class ChangingLoader:
    """Loads a module with its own loader and lets the change act around that."""

    def __init__(self, loader, change):
        self._loader = loader
        self._change = change

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        from importlib import import_module

        # What asks the module for its source later gets it from the loader that has it.
        module.__spec__.loader = module.__loader__ = self._loader
        import_module(self._change).load(module, lambda: self._loader.exec_module(module))


def install():
    """Put the finder in its place, once."""
    if not any(isinstance(finder, ChangingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ChangingFinder())
