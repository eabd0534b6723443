"""What a cell displays goes out as frames: IPython's formatter, publisher and display hook, with ours where they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import BaseFormatter, DisplayFormatter, IPythonDisplayFormatter, catch_format_error
from traitlets import ObjectName, Unicode

from bichat.sandbox import wire
from bichat.sandbox.guest import bundles, libraries, tables
from bichat.sandbox.guest.channel import Channel, ChannelLostError
from bichat.sandbox.guest.figures import Figures
from bichat.sandbox.guest.streams import Streams

TABLE_TYPE: Final = "application/vnd.dataresource+json"
CHART_TYPE: Final = "application/vnd.bichat.chart+json"


class Outlet(NamedTuple):
    """Where frames go."""

    channel: Channel
    streams: Streams


class _DescribingFormatter(BaseFormatter):
    """A form of ours, made by a function that knows the libraries' objects and gives None for all others."""

    _return_type = dict
    print_method = ObjectName("_repr_bichat_")

    def __init__(self, describe: Callable[[object], dict[str, Any] | None], **traits: Any) -> None:
        super().__init__(**traits)
        self._describe = describe

    @catch_format_error
    def __call__(self, obj: object) -> dict[str, Any] | None:
        if not self.enabled:
            return None
        try:
            return self._describe(obj)
        except Exception:  # noqa: BLE001  # an addition: what the library itself shows must not be lost for it
            return None


class TableFormatter(_DescribingFormatter):
    """Data frames and series."""

    format_type = Unicode(TABLE_TYPE)


class ChartFormatter(_DescribingFormatter):
    """The numbers of a chart."""

    format_type = Unicode(CHART_TYPE)


class OwnDisplayFormatter(IPythonDisplayFormatter):
    """For objects that display themselves, but for those that would do it in a browser."""

    def __call__(self, obj: object) -> Literal[True] | None:
        """Whether it has displayed itself."""
        return None if libraries.is_plotly_figure(obj) else super().__call__(obj)


class Formatter(DisplayFormatter):
    """All forms of a value."""

    def __init__(self, figures: Figures, **traits: Any) -> None:
        super().__init__(**traits)
        self._figures = figures
        self.ipython_display_formatter = OwnDisplayFormatter(parent=self)
        for formatter in (TableFormatter(tables.describe, parent=self), ChartFormatter(_describe_chart, parent=self)):
            self.formatters[formatter.format_type] = formatter
        libraries.register(self)

    def format(self, obj: object, include: Any = None, exclude: Any = None) -> Any:
        """As IPython's, but a figure that was just saved as an image is not drawn again."""
        form = super().format

        def form_without(types: set[str]) -> Any:
            return form(obj, include=include, exclude={*(exclude or ()), *types})

        return self._figures.format(obj, form_without)


class Publisher(DisplayPublisher):
    """Sends what is displayed; a fork of the guest, which must not, prints its text."""

    outlet: Outlet | None = None

    def __init__(self, figures: Figures, **traits: Any) -> None:
        super().__init__(**traits)
        self._figures = figures

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *_: Any,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **__: Any,
    ) -> None:
        """Send one bundle, or in the place of those with its display id."""
        self._validate_data(data, metadata)
        number, saved_as = self._figures.shown(data)
        if self.outlet is None or number is None:
            return
        if not self.outlet.channel.is_own:
            print(data.get("text/plain", ""))
            return
        display_id = (transient or {}).get("display_id")
        frame = bundles.display_frame(
            data,
            metadata or {},
            display_id=None if display_id is None else str(display_id),
            update=update,
            number=number,
            saved_as=saved_as,
            printed=self.outlet.streams.hand_over(),
        )
        self._send(frame)

    def clear_output(self, wait: bool = False) -> None:  # noqa: FBT001, FBT002  # IPython's signature
        """Forget what was displayed, at once or when the next value comes."""
        if self.outlet is not None and self.outlet.channel.is_own:
            self.outlet.streams.hand_over()
            self._send(wire.encode_frame({"clear": {"wait": bool(wait)}}))

    def name_displayed(self, number: int, name: str) -> None:
        """Say that the figure that was displayed as `number` has been saved since, unchanged, as the file `name`."""
        if self.outlet is not None and self.outlet.channel.is_own:
            self._send(wire.encode_frame({"saved": {"number": number, "as": name}}))

    def _send(self, frame: bytes) -> None:
        if self.outlet is None:
            return
        try:
            self.outlet.channel.send(frame)
        except ChannelLostError:
            raise RuntimeError("nothing can be displayed any more: the code has closed its channel") from None


class Hook(DisplayHook):
    """Displays the value of a cell's last expression."""

    shell: Any

    def quiet(self) -> bool:
        """Whether a semicolon hides the value; the whole cell is looked through only if it has one."""
        cells = self.shell.history_manager.input_hist_parsed
        return bool(cells and ";" in cells[-1] and super().quiet())

    def write_output_prompt(self) -> None:
        """There is none."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """As any displayed value."""
        self.shell.display_pub.publish(format_dict, md_dict)

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Results are kept by who asked for them."""

    def finish_displayhook(self) -> None:
        """Nothing is written after a value."""
        self._is_active = False


def _describe_chart(value: object) -> dict[str, Any] | None:
    from bichat.sandbox.guest import charts

    return charts.describe(value)
