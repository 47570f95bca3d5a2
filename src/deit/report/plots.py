"""Plots as inline SVG that takes its colours and its font from the page around it.

Matplotlib draws in marker colours, which are then replaced by the page's CSS variables (``--ink``,
``--c0`` ...), so that one plot reads well in light, in dark and on paper.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

from deit.report.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400
"""A line of more points is drawn as the means of neighbours."""

_INK, _SOFT, _LINE = "#010101", "#010102", "#010103"
_SERIES = tuple(f"#0101{16 + index:02x}" for index in range(6))
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _LINE: "--line"} | {
    colour: f"--c{index}" for index, colour in enumerate(_SERIES)
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of classes and methods may hold dollar signs
    "font.size": 9,
    "text.color": _INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.fontsize": 9,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
}
_WIDTH = 4.4  # inches at 72 units each: small, so that text stays legible on a narrow screen

_LEGEND_LETTERS = 62  # so many fit side by side


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot.

    Attributes:
        label: its name in the legend.
        x: places.
        y: values; those that are not finite are left out.
        colour: number of its colour, 0 to 5.
        dashed: drawn thin and dashed.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished plot.

    Attributes:
        title: what it shows.
        svg: the picture; its accessible text is ``description``.
        description: what is to be seen, in a sentence with numbers.
    """

    title: str
    svg: Markup
    description: str


def line_plot(
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    x_label: str,
    percent: bool = False,
    from_zero: bool = False,
    least_top: float = 0.0,
) -> Plot:
    """Lines over a common axis.

    Args:
        title: what it shows.
        description: the text for those who do not see the picture.
        series: the lines; a line of one point is drawn as a dot.
        x_label: meaning and unit of the horizontal axis.
        percent: values are shares, shown as per cent.
        from_zero: the vertical axis begins at 0.
        least_top: it reaches at least so far, so that small values look small.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for line in series:
            _draw_line(axes, line)
        axes.set_xlabel(x_label)
        axes.grid(axis="x", visible=False)
        if percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")
        if from_zero:
            axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], least_top))
        if len(series) > 1:
            figure.legend(loc="outside lower left", ncols=columns)

    widest = max((len(line.label) for line in series), default=0)
    columns = min(max(_LEGEND_LETTERS // (widest + 6), 1), len(series))
    height = 2.5 + 0.18 * -(-len(series) // columns)
    return Plot(title, _render(draw, height, title, description), description)


def bar_plot(
    title: str,
    description: str,
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    x_label: str,
    colour: int = 0,
) -> Plot:
    """A histogram: bars between ``edges``, one more than there are ``counts``."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.stairs(counts, edges, fill=True, color=_SERIES[colour])
        axes.set_xlabel(x_label)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="y", integer=True)

    return Plot(title, _render(draw, 2.5, title, description), description)


def dot_plot(
    title: str,
    description: str,
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    colours: Sequence[int],
) -> Plot:
    """Accuracies in rows: a dot for each seed and a bar at their mean, labels above their rows."""

    def draw(figure: "Figure") -> None:
        axes = _rows(figure, labels)
        for row, (dots, colour) in enumerate(zip(values, colours, strict=True)):
            axes.plot(dots, [row] * len(dots), "o", color=_SERIES[colour], alpha=0.55, ms=5)
            mean = float(np.mean(dots))
            axes.plot([mean, mean], [row - 0.2, row + 0.2], color=_SERIES[colour], linewidth=2.5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")

    return Plot(title, _render(draw, _rows_height(labels), title, description), description)


def interval_plot(
    title: str,
    description: str,
    labels: Sequence[str],
    intervals: Sequence[Interval],
    colours: Sequence[int],
) -> Plot:
    """Differences in rows, each with its interval, around a line at no difference."""

    def draw(figure: "Figure") -> None:
        axes = _rows(figure, labels)
        for row, (interval, colour) in enumerate(zip(intervals, colours, strict=True)):
            axes.plot([0, 0], [row - 0.25, row + 0.25], color=_SOFT, linewidth=1.2)
            if interval.low is not None and interval.high is not None:
                ends = [interval.low, interval.high]
                axes.plot(ends, [row, row], color=_SERIES[colour], linewidth=2)
            axes.plot([interval.mean], [row], "o", color=_SERIES[colour], ms=6)
        axes.xaxis.set_major_formatter(lambda value, _: _signed(100 * value))
        axes.set_xlabel("percentage points")

    return Plot(title, _render(draw, _rows_height(labels), title, description), description)


def thin(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"], limit: int = MAX_POINTS
) -> tuple[Float[np.ndarray, "kept"], Float[np.ndarray, "kept"]]:
    """At most ``limit`` points: the means of groups of neighbours, all groups of nearly one size.

    >>> thin(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0, 8.0]), limit=2)
    (array([1.5, 3.5]), array([1., 6.]))
    """
    if len(x) <= limit:
        return x, y
    groups = np.array_split(np.arange(len(x)), limit)
    return (
        np.array([x[group].mean() for group in groups]),
        np.array([y[group].mean() for group in groups]),
    )


def _draw_line(axes: "Axes", line: Series) -> None:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    x, y = thin(x[np.isfinite(y)], y[np.isfinite(y)])
    axes.plot(
        x,
        y,
        color=_SERIES[line.colour % len(_SERIES)],
        linestyle=(0, (4, 2)) if line.dashed else "-",
        linewidth=1.1 if line.dashed else 1.6,
        marker="o" if len(x) == 1 else None,
        label=line.label,
    )


def _rows(figure: "Figure", labels: Sequence[str]) -> "Axes":
    """Axes of one row per label, the first on top, each label on the left above its row."""
    axes = figure.add_subplot()
    axes.set_ylim(len(labels) - 0.5, -0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.grid(visible=False)
    axes.locator_params(axis="x", nbins=5)
    place = axes.get_yaxis_transform()  # the whole width is 0 to 1
    for row, label in enumerate(labels):
        axes.plot([0, 1], [row, row], transform=place, color=_LINE, linewidth=0.8, zorder=0)
        axes.text(0, row - 0.3, label, transform=place, fontsize=9, color=_INK, va="bottom")
    return axes


def _signed(value: float) -> str:
    return f"{value:+.6g}".replace("-", "−") if round(value, 9) else "0"


def _rows_height(labels: Sequence[str]) -> float:
    return 0.6 + 0.42 * len(labels)


def _render(
    draw: Callable[["Figure"], None], height: float, title: str, description: str
) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the page's font may have it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": title})
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), description)


def _inline(svg: str, description: str) -> Markup:
    """Matplotlib's document as an element of a page: no outside names, no idle ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    referenced = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    used = {name for pair in referenced for name in pair if name}
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r'style="[^"]*"', _page_style, body)
    view_box = re.search(r'viewBox="([^"]+)"', body)
    assert view_box is not None
    opening = (
        f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="{view_box[1]}">'
    )
    return Markup(opening + body[body.index(">") + 1 :])


def _page_style(style: re.Match[str]) -> str:
    """A style attribute with the page's colours, without a font of its own."""
    text = re.sub(r"font-family: [^;\"]+;? ?", "", style[0])
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
