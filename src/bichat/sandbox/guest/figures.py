"""matplotlib's figures: shown by `plt.show()` and at the end of a cell, whatever backend the code asks for.

In the guest itself every backend that draws to a screen, and Agg, is answered by matplotlib-inline's: models write
`matplotlib.use("Agg")` out of habit, and their figures are wanted all the same.  The environment variable MPLBACKEND
stays what it is, Agg: programs that the code starts have nobody to show a figure to.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from bichat.sandbox.guest.imports import after_import

INLINE: Final = "module://matplotlib_inline.backend_inline"
#: Backends that only write files of one kind: they are left alone.
_FILE_BACKENDS: Final = frozenset({"pdf", "pgf", "ps", "svg", "cairo", "template"})
_PNG: Final = "image/png"
#: Keywords of IPython's printer of figures where nobody has set any.
_USUAL_KEYWORDS: Final = {"fmt": "png", "base64": True, "bbox_inches": "tight"}
#: A larger file is drawn again for display, at the figure's own resolution.
_MAX_REUSED_BYTES: Final = 2 * 1024 * 1024


class _File(NamedTuple):
    """One that a figure was saved to, and how it was then."""

    path: str
    size: int
    mtime_ns: int

    @property
    def is_untouched(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


class Figures:
    """What has become of each figure in the cell that runs."""

    def __init__(self, shell: Any) -> None:
        """`shell` is IPython's."""
        self._shell = shell
        self._folder = ""
        self._files: WeakKeyDictionary[Any, list[_File]] = WeakKeyDictionary()
        self._images: WeakKeyDictionary[Any, object] = WeakKeyDictionary()
        #: By which number each figure was displayed last.
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._displayed = 0
        self._is_end = False
        self._formatted: tuple[object, Any] = (None, None)
        self.interrupt: KeyboardInterrupt | None = None
        """What ended the showing of figures at the end of the cell."""

    def watch(self) -> None:
        """Act when matplotlib is imported."""
        after_import("matplotlib", _choose_backend)
        after_import("matplotlib.figure", self._watch_saving)
        after_import("matplotlib.pyplot", self._show_inline)

    def begin(self, folder: str | None = None) -> None:
        """Another cell begins; files below `folder` come out as artifacts."""
        self._folder = folder or self._folder
        self._files.clear()
        self._images.clear()
        self._numbers.clear()
        self._displayed = 0
        self._formatted = (None, None)
        self._is_end = False
        self.interrupt = None

    def format(self, value: Any, form: Callable[[set[str]], tuple[dict[str, Any], dict[str, Any]]]) -> Any:
        """What `form` gives for `value`, told which types to leave out: an image that a file has already."""
        if not _is_figure(value):
            return form(set())
        image = self._saved_image(value)
        data, metadata = form({_PNG} if image else set())
        value.stale = False  # drawing resizes it and back, as saving does
        if image:
            data[_PNG] = image
        self._formatted = (data, value)
        return data, metadata

    def shown(self, data: dict[str, Any]) -> tuple[int | None, list[str]]:
        """For a bundle about to be displayed: the number that it goes by, and where the figure in it was saved.

        None where it was displayed already.

        At the end of a cell a figure is shown once more only if it has changed since it was displayed by name.
        """
        formatted, figure = self._formatted
        self._displayed += 1
        if data is not formatted:
            return self._displayed, []
        image = data.get(_PNG) or data.get("image/svg+xml")
        if self._is_end and image is not None and self._images.get(figure) == image:
            return None, []
        self._images[figure] = image
        self._numbers[figure] = self._displayed
        return self._displayed, [self._name(file) for file in self._files.get(figure, ())]

    def _saved_image(self, figure: Any) -> str | None:
        """The PNG that the figure was saved as in this cell, if it is what would be drawn again."""
        printer = self._shell.display_formatter.formatters[_PNG].type_printers.get(_figure_class(figure))
        is_empty = not figure.axes and not figure.lines  # then IPython draws nothing
        if is_empty or figure.stale or getattr(printer, "keywords", None) != _USUAL_KEYWORDS:
            return None
        for file in reversed(self._files.get(figure, [])):
            if file.path.lower().endswith(".png") and file.size <= _MAX_REUSED_BYTES and file.is_untouched:
                with contextlib.suppress(OSError), open(file.path, "rb") as opened:
                    return base64.b64encode(opened.read()).decode("ascii")
        return None

    def _watch_saving(self, module: Any) -> None:
        save = module.Figure.savefig

        @functools.wraps(save)
        def savefig(figure: Any, fname: Any, *arguments: Any, **keywords: Any) -> Any:
            number = None if figure.stale else self._numbers.get(figure)
            saved = save(figure, fname, *arguments, **keywords)
            # Saving resizes the figure and back, which marks it as changed.
            figure.stale = False
            with contextlib.suppress(Exception):
                self._note(figure, fname, keywords.get("format"), number)
            return saved

        module.Figure.savefig = savefig

    def _note(self, figure: Any, target: Any, kind: str | None, number: int | None) -> None:
        """Remember a file that was written below the folder; tell of it if the figure is displayed already."""
        path = os.path.realpath(target.name if hasattr(target, "write") else target)
        if not os.path.exists(path):
            # matplotlib has added the ending that the name lacked.
            path = f"{path.rstrip('.')}.{kind or figure.canvas.get_default_filetype()}"
        if path.startswith(f"{self._folder}/") and os.path.isfile(path):
            status = os.stat(path)
            file = _File(path, status.st_size, status.st_mtime_ns)
            self._files.setdefault(figure, []).append(file)
            if number is not None:
                self._shell.display_pub.name_displayed(number, self._name(file))

    def _name(self, file: _File) -> str:
        return os.path.relpath(file.path, self._folder)

    def _show_inline(self, pyplot: Any) -> None:
        """Have pyplot draw for display; `get_backend()` goes on saying what the code asked for."""
        import matplotlib as mpl
        from matplotlib_inline import backend_inline

        switch = pyplot.switch_backend
        asked_for = mpl.rcParams["backend"]

        @functools.wraps(switch)
        def switch_backend(newbackend: str) -> None:
            if str(newbackend).lower() in _FILE_BACKENDS:
                switch(newbackend)
            else:
                switch(INLINE)
                mpl.rcParams["backend"] = newbackend

        backend_inline.configure_inline_support(self._shell, INLINE)
        switch_backend(asked_for)
        pyplot.switch_backend = switch_backend
        # Its own draws the figure once more after saving, for a window that is not there.
        pyplot.savefig = functools.wraps(pyplot.savefig)(lambda *args, **kwargs: pyplot.gcf().savefig(*args, **kwargs))
        mpl.interactive(True)
        # Before pyplot's own callback, which would draw what is open once more.
        callbacks = self._shell.events.callbacks["post_execute"]
        callbacks.insert(0, functools.partial(self._flush, backend_inline.flush_figures))

    def _flush(self, flush_figures: Callable[[], None]) -> None:
        self._is_end = True
        try:
            flush_figures()
        except KeyboardInterrupt as error:
            self.interrupt = error


def _choose_backend(matplotlib: Any) -> None:
    matplotlib.rcParams["backend"] = INLINE


def _is_figure(value: object) -> bool:
    return any(kind.__module__ == "matplotlib.figure" and kind.__name__ == "Figure" for kind in type(value).__mro__)


def _figure_class(figure: object) -> type:
    return next(
        kind for kind in type(figure).__mro__ if kind.__module__ == "matplotlib.figure" and kind.__name__ == "Figure"
    )
