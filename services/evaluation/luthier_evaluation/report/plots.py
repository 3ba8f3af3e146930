"""The report's plots, drawn by matplotlib as SVG elements of the page: tempi, scores with their intervals, waveforms.

Text stays text, in the page's font. Every plot has a name for screen readers (`aria-label`), and every row's mark a
`<title>`, which browsers show when the pointer rests on it. Figures are made without pyplot, which keeps them all in a
global list. Lengths are CSS pixels.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BASELINE, CANDIDATE = "#8a94a6", "#0b7a75"
INK, FAINT, LINE = "#1d2433", "#667085", "#d9dee7"
PIXELS_PER_INCH: Final = 72  # matplotlib's SVG has one user unit to the point
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # <text>, not outlines
    "svg.hashsalt": "luthier",  # ids without chance: the same results give the same bytes
    "path.simplify": False,  # a waveform keeps its peaks
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, for measuring; the page's style sheet sets its own
    "font.size": 11,
    "axes.labelcolor": FAINT,
    "axes.labelpad": 6,
    "axes.edgecolor": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "grid.color": "#eef1f5",
    "grid.linewidth": 1,
}
SVG: Final = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", SVG[1:-1])
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


@dataclass(frozen=True)
class Point:
    """A row in the scatter: tempo asked for and tempo measured, BPM; `title` is shown under the pointer."""

    asked: float
    measured: float
    title: str


@dataclass(frozen=True)
class Mark:
    """A score with its 95 % interval, and the chance level, None = not defined."""

    value: float
    low: float
    high: float
    chance: float | None
    colour: str
    title: str


def scatter(series: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Tempo asked for against tempo measured, for (colour, points) of each model; lines where octave errors lie.

    Of two models the first is drawn in rings, so that colour is not all that tells them apart.
    """
    asked = _range([point.asked for _, points in series for point in points])
    measured = _range([value for _, points in series for point in points for value in (point.asked, point.measured)])
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(480, 400, (46, 46, 52, 14))
        axes.set(xlim=asked, ylim=measured, xlabel="Tempo asked for (BPM)", ylabel="Tempo measured (BPM)")
        axes.set_axisbelow(True)
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
            axis.set_tick_params(length=0)
        for factor, name in ((1, "as asked"), (2, "× 2"), (0.5, "× ½")):
            left, right = max(asked[0], measured[0] / factor), min(asked[1], measured[1] / factor)
            if left < right:
                x = np.array([left, right])
                dashes = "-" if factor == 1 else (0, (4, 4))
                axes.plot(x, x * factor, color=FAINT, linewidth=1, linestyle=dashes)
                axes.annotate(
                    name, (right, right * factor), (5, 0), textcoords="offset points", va="center", color=FAINT
                )
        titles = {}
        for index, (colour, points) in enumerate(series):
            ring = len(series) > 1 and index == 0
            axes.plot(
                [point.asked for point in points],
                [point.measured for point in points],
                "o",
                color=colour,
                markersize=9,
                markerfacecolor="none" if ring else colour,
                markeredgewidth=2 if ring else 0,
                alpha=1 if ring else 0.75,
                gid=f"model-{index}",
            )
            titles[f"model-{index}"] = [point.title for point in points]
        return _svg(figure, "Tempo asked for against tempo measured", titles)


def intervals(marks: Sequence[Mark], low: float, high: float) -> Markup:
    """Each mark on a line of its own from `low` to `high`: a dot, its interval, and a dashed tick at the chance level.

    The plot's name repeats the marks' titles.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(220, 16 * len(marks) + 2, (6, 1, 6, 1))
        axes.set(xlim=(low, high), ylim=(len(marks), 0))
        axes.set_axis_off()
        if low < 0 < high:
            axes.plot([0, 0], [0, len(marks)], color=LINE, linewidth=1)
        titles = {}
        for index, mark in enumerate(marks):
            y = index + 0.5
            axes.plot([low, high], [y, y], color=LINE, linewidth=1)
            if mark.chance is not None:
                axes.plot([mark.chance] * 2, [y - 0.375, y + 0.375], color=INK, linewidth=1, linestyle=(0, (2, 2)))
            axes.plot([mark.low, mark.high], [y, y], color=mark.colour, linewidth=4, alpha=0.45, solid_capstyle="round")
            axes.plot([mark.value], [y], "o", color=mark.colour, markersize=8, markeredgewidth=0, gid=f"mark-{index}")
            titles[f"mark-{index}"] = [mark.title]
        return _svg(figure, "; ".join(mark.title for mark in marks), titles)


def waveform(peaks: Sequence[float], colour: str) -> Markup:
    """Peaks 0 to 1 as bars, left to right, mirrored about the middle line."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(240, 34, (0, 1, 0, 1))
        axes.set(xlim=(0, max(1, len(peaks))), ylim=(-1, 1))
        axes.set_axis_off()
        heights = np.maximum(peaks, 1 / 32)  # silence is a line of one pixel
        gap = np.full(len(peaks), np.nan)  # [bars] lifts the pen between two bars of one path
        x = np.arange(len(peaks)) + 0.5
        axes.plot(
            np.stack([x, x, gap], axis=1).ravel(),
            np.stack([-heights, heights, gap], axis=1).ravel(),
            color=colour,
            linewidth=max(0.6, 0.6 * 240 / max(1, len(peaks))),
            solid_capstyle="butt",
        )
        return _svg(figure, "waveform", {})


def _figure(width: int, height: int, margins: tuple[int, int, int, int]) -> tuple[Figure, Axes]:
    """A transparent figure, and axes inside margins (left, bottom, right, top)."""
    left, bottom, right, top = margins
    figure = Figure((width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), frameon=False)
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure, figure.add_axes(box)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The axis for tempi in BPM: all of them, with room at both ends."""
    low, high = min(values, default=60.0), max(values, default=180.0)
    room = max(6.0, (high - low) * 0.06)
    return low - room, high + room


def _svg(figure: Figure, name: str, titles: Mapping[str, Sequence[str]]) -> Markup:
    """The figure as one <svg>. `titles`: for a line's gid what each of its markers shows under the pointer.

    What matplotlib writes for a file of its own and a page cannot use is taken out: the metadata, a style sheet that
    would hold for the whole page, ids that repeat from figure to figure.
    """
    for artist in figure.findobj():
        artist.set_clip_on(False)  # every mark lies in its axes; clip paths are found by id in the whole page
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    svg = ElementTree.fromstring(out.getvalue())  # noqa: S314  matplotlib wrote it, a line above
    for group in svg.iter(f"{SVG}g"):
        if of_markers := titles.get(group.attrib.pop("id", "")):
            for use, title in zip(list(group.iter(f"{SVG}use")), of_markers, strict=True):
                ElementTree.SubElement(use, f"{SVG}title").text = title
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag == f"{SVG}metadata" or (child.tag == f"{SVG}defs" and child.find(f"{SVG}style") is not None):
                parent.remove(child)
    _, _, width, height = svg.attrib["viewBox"].split()
    svg.attrib |= {"width": width, "height": height, "role": "img", "aria-label": name}
    return Markup(ElementTree.tostring(svg, encoding="unicode"))  # noqa: S704  ElementTree escaped the text
