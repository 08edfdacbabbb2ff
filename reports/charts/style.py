"""The colours and the look that all charts share, and how a figure becomes bytes.

Figures are made without pyplot: nothing global is touched. The same input gives the
same bytes: no dates, fixed ids.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.analysis.factorial import Interaction
from bench.analysis.judgement import SloOutcome, Verdict
from bench.records import Role
from reports import wording

INK = "#1f2328"
MUTED = "#59636e"
RULE = "#d8dee4"
BAND = "#eef1f4"

OUTCOME: dict[Verdict | SloOutcome | Interaction, str] = {
    Verdict.BETTER: "#1b7f5c",
    Verdict.WORSE: "#8f0d1a",
    Verdict.EQUIVALENT: "#3d5266",
    Verdict.INCONCLUSIVE: "#ac5f00",
    Verdict.INVALID: "#5b21b6",
    SloOutcome.MET: "#1b7f5c",
    SloOutcome.MISSED: "#8f0d1a",
    SloOutcome.UNDECIDED: "#ac5f00",
    SloOutcome.UNSET: "#59636e",
    Interaction.SHOWN: "#7a1f5c",
    Interaction.EXCLUDED: "#3d5266",
    Interaction.UNDECIDED: "#ac5f00",
    Interaction.INVALID: "#5b21b6",
}

# Those of the control, of the treatment, and of what else there is. Each differs from the others
# in more than its hue, and has a marker and a hatch of its own: no series is told by colour alone.
_COLOURS = (
    *("#a65a12", "#0b5cad"),
    *("#44aa99", "#882255", "#332288", "#999933", "#cc6677", "#117733"),
)
# As they are drawn, and as they stand in a legend.
_MARKERS = (("s", "■"), ("o", "●"), ("D", "◆"), ("^", "▲"), ("v", "▼"), ("<", "◀"), (">", "▶"))
_HATCHES = (
    *(("////", "▨"), ("", "■"), ("----", "▤"), ("||||", "▥"), ("++++", "▦")),
    *(("\\\\\\\\", "▧"), ("xxxx", "▩")),
)

# Charts are drawn on white. In the dark their lightness is turned over, and hues stay.
DARK = "invert(0.91) hue-rotate(180deg)"

WIDTH_IN = 5.4
_MARGIN_IN = 0.18
_TITLE_IN = 0.3
_LINE_IN = 0.2
_CAPTION_IN = 0.26
_CAPTION_LINE_IN = 0.14
# Of the widest letters on average, so that a long name of a processor ends within the chart.
_CAPTION_LETTERS = 78
_MOST_TICKS = 7

_PATH = re.compile(rb' d="[^"]+"')
_DECIMALS = re.compile(rb"(\.\d\d)\d+")

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    # Text stays text: a third of the size, and it can be searched. Where the font that
    # it was measured with is missing, the next ones are as wide or narrower.
    "svg.fonttype": "none",
    "svg.hashsalt": "llm-serving-ab-bench",
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is drawn. `dot` is its marker and `bar` its hatch in a legend."""

    colour: str
    marker: str
    dot: str
    hatch: str
    bar: str

    @property
    def dashes(self) -> str | tuple[float, tuple[float, ...]]:
        """The style of its lines: that of the control is dashed."""
        return (0, (4, 1.5)) if self == ARM["control"] else "-"

    @property
    def of_bars(self) -> dict[str, Any]:
        """How matplotlib draws its bars."""
        edge = {"edgecolor": "white", "linewidth": 0}
        return {"facecolor": self.colour, "hatch": self.hatch, **edge}


def look(place: int) -> Look:
    """The look of a series by its place among others; the first 56 differ."""
    colour = _COLOURS[place % len(_COLOURS)]
    marker, dot = _MARKERS[place % len(_MARKERS)]
    hatch, bar = _HATCHES[place % len(_HATCHES)]
    return Look(colour, marker, dot, hatch, bar)


ARM: dict[Role, Look] = {"control": look(0), "treatment": look(1)}
# Those of replicas; further ones are muted.
REPLICAS = tuple(map(look, range(2, 8)))
OTHERS = Look(MUTED, ".", "•", "", "■")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text above the plot; one with a colour and a sign is the legend of its series."""

    text: str
    colour: str = MUTED
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure that is drawn, the lines of text in it, and its values in words."""

    title: str
    figure: Figure
    lines: tuple[Line, ...] = ()
    values: tuple[str, ...] = ()

    def picture(self) -> Picture:
        """The chart as SVG, without dates, and with coordinates to a hundredth of a point."""
        svg = self._saved("svg", {"Date": None, "Creator": None})
        short = _PATH.sub(lambda path: _DECIMALS.sub(rb"\1", path[0]), svg)
        values = ("; ".join(self.values),) if self.values else ()
        text = ". ".join((*(one.text for one in self.lines), *values))
        return Picture(self.title, short, text)

    def png(self) -> bytes:
        """The chart as PNG, 864 pixels wide."""
        return self._saved("png", {})

    def _saved(self, kind: str, metadata: dict[str, None]) -> bytes:
        buffer = io.BytesIO()
        for text in self.figure.findobj(Text):
            # A `$` in a name is no formula.
            text.set_parse_math(False)
        with rc_context(_RC):
            self.figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart as SVG, its title, and what it says for those who do not see it."""

    title: str
    svg: bytes
    text: str

    @property
    def url(self) -> str:
        """An address that holds the whole picture."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Frame:
    """Sizes in inches. `plots` are the heights of the plots, which stand one below the other.

    `gap` is between them, `head` above the first one, below the legend.
    """

    plots: tuple[float, ...]
    gap: float = 0.5
    head: float = 0.08
    left: float = 0.75
    right: float = 0.25
    bottom: float = 0.55


def new_chart(
    title: str, lines: Sequence[Line], caption: str, frame: Frame, values: Iterable[str] = ()
) -> tuple[Chart, list[Axes]]:
    """A chart with its text, and the empty plots in it, which share their horizontal axis.

    `values` are what is drawn, in words.
    """
    top_in = _MARGIN_IN + _TITLE_IN + _LINE_IN * len(lines) + frame.head
    gaps_in = frame.gap * (len(frame.plots) - 1)
    caption_lines = wrap(caption, _CAPTION_LETTERS)
    caption_in = _CAPTION_IN + _CAPTION_LINE_IN * max(0, len(caption_lines) - 1)
    height_in = top_in + sum(frame.plots) + gaps_in + frame.bottom + caption_in
    with rc_context(_RC):
        figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
        axes: list[Axes] = []
        bottom_in = height_in - top_in
        for plot_in in frame.plots:
            bottom_in -= plot_in
            box = (
                frame.left / WIDTH_IN,
                bottom_in / height_in,
                (WIDTH_IN - frame.left - frame.right) / WIDTH_IN,
                plot_in / height_in,
            )
            axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
            bottom_in -= frame.gap
        x, y_in = _MARGIN_IN / WIDTH_IN, height_in - _MARGIN_IN
        figure.text(x, y_in / height_in, title, size=11.5, weight="bold", va="top")
        y_in -= _TITLE_IN
        for line in lines:
            text = f"{line.sign} {line.text}".lstrip()
            figure.text(x, y_in / height_in, text, color=line.colour, size=9, va="top")
            y_in -= _LINE_IN
        figure.text(x, 0.1 / height_in, "\n".join(caption_lines), color=MUTED, size=8, va="bottom")
    return Chart(title, figure, tuple(lines), tuple(values)), axes


def seconds_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis in seconds with labels such as `50 ms` and `2 s`."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(_SecondsLocator())
    axis.set_major_formatter(FuncFormatter(seconds_label))
    axis.set_minor_locator(NullLocator())


class _SecondsLocator(LogLocator):
    """Ticks of a logarithmic axis, few enough that their labels do not overlap.

    At 1, 2 and 5, in a wide range at powers of ten, in a narrow one at equal distances.
    """

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        exponents = range(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1)
        for steps in ((1, 2, 5), (1,)):
            ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
            inside = [tick for tick in ticks if vmin <= tick <= vmax]
            if len(inside) < 3:
                break
            if len(inside) <= _MOST_TICKS:
                return inside
        else:
            return inside[:: math.ceil(len(inside) / _MOST_TICKS)]
        even = MaxNLocator(nbins=_MOST_TICKS - 2, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        return [float(tick) for tick in even if vmin <= tick <= vmax]


def seconds_ticks(low_s: float, high_s: float) -> list[tuple[float, str]]:
    """Ticks between two times, with their labels, for a logarithmic axis."""
    return [(one, seconds_label(one)) for one in _SecondsLocator().tick_values(low_s, high_s)]


def seconds_label(seconds: float, _: object = None) -> str:
    """The label of a tick: `50 ms`, `2 s`."""
    return f"{seconds * 1000:.6g} ms" if seconds < 1 else f"{seconds:.6g} s"


def subtitle(axes: Axes, text: str) -> None:
    """Label a plot's vertical axis, in a line above the plot."""
    axes.set_title(text, loc="left", size=8.5, color=MUTED)


def name_point(axes: Axes, x: float, y: float, text: str, colour: str = MUTED) -> None:
    """Write a text beside a point."""
    axes.annotate(text, (x, y), xytext=(6, -3), textcoords="offset points", size=7.5, color=colour)


def empty(axes: Axes, text: str = wording.NO_DATA) -> None:
    """Write in the plot's middle that there is nothing to draw."""
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
