"""The report's plots, drawn by matplotlib as SVG elements of the page: what was asked for against what was measured,
histograms, scores with their intervals, confusion and self-similarity matrices, waveforms.

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
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from luthier_evaluation.report.text import rows

BASELINE, CANDIDATE = "#8a94a6", "#0b7a75"
INK, FAINT, LINE = "#1d2433", "#667085", "#d9dee7"
SIMILARITY: Final = LinearSegmentedColormap.from_list("similarity", ["#ffffff", "#9db4c8", "#12263a"])
SECTION: Final = "#e8590c"
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
    """A row in a scatter: what was asked for and what was measured; `title` is shown under the pointer."""

    asked: float
    measured: float
    title: str


@dataclass(frozen=True)
class Plane:
    """What a scatter is of: its name for screen readers, the names of its axes, and the lines through the origin, by
    slope, with what is written at their ends. Both axes have at least `room` beyond the outermost points."""

    name: str
    x: str
    y: str
    slopes: Mapping[float, str]
    room: float


@dataclass(frozen=True)
class Axis:
    """The axis of a histogram: its name, the edges of its bins, and where it is labelled, with what."""

    name: str
    edges: Sequence[float]
    ticks: Mapping[float, str]


@dataclass(frozen=True)
class Bars:
    """Rows of one model in each bin of a histogram; `titles` of the bins are shown under the pointer."""

    colour: str
    counts: Sequence[int]
    titles: Sequence[str]


@dataclass(frozen=True)
class Mark:
    """A score with its 95 % interval, and the chance level, None = not defined."""

    value: float
    low: float
    high: float
    chance: float | None
    colour: str
    title: str


def scatter(series: Sequence[tuple[str, Sequence[Point]]], plane: Plane) -> Markup:
    """What was asked for against what was measured, for (colour, points) of each model.

    Of two models the first is drawn in rings, so that colour is not all that tells them apart.
    """
    asked = _range([point.asked for _, points in series for point in points], plane.room)
    both = [value for _, points in series for point in points for value in (point.asked, point.measured)]
    measured = _range(both, plane.room)
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(480, 400, (46, 46, 52, 14))
        axes.set(xlim=asked, ylim=measured, xlabel=plane.x, ylabel=plane.y)
        axes.set_axisbelow(True)
        axes.grid()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
            axis.set_tick_params(length=0)
        for factor, name in plane.slopes.items():
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
        return _svg(figure, plane.name, titles)


def histogram(series: Sequence[Bars], axis: Axis, name: str) -> Markup:
    """How many rows of each model are in each bin, the models side by side in it."""
    edges = np.asarray(axis.edges, dtype=float)
    highest = max((count for bars in series for count in bars.counts), default=0)
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(480, 400, (46, 46, 14, 14))
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, max(1, highest) * 1.05), xlabel=axis.name, ylabel="Rows")
        axes.set_axisbelow(True)
        axes.grid(axis="y")
        axes.set_xticks(list(axis.ticks), list(axis.ticks.values()))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_tick_params(length=0)
        titles = {}
        width = np.diff(edges) * 0.9 / max(1, len(series))
        for index, bars in enumerate(series):
            left = edges[:-1] + np.diff(edges) * 0.05 + width * index
            for number, (x, wide, count) in enumerate(zip(left, width, bars.counts, strict=True)):
                if count:
                    gid = f"bar-{index}-{number}"
                    axes.bar(x, count, wide, align="edge", color=bars.colour, gid=gid)
                    titles[gid] = [bars.titles[number]]
        return _svg(figure, name, titles)


def intervals_by_group(groups: Sequence[tuple[str, Sequence[Mark]]], name: str) -> Markup:
    """Shares with their intervals, 0 to 1, by group: for (group, marks of each model) as `intervals` draws them."""
    lines = [(group, mark) for group, marks in groups for mark in marks]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(480, 18 * len(lines) + 10 * len(groups) + 44, (110, 40, 24, 4))
        axes.set(xlim=(0, 1), ylim=(len(lines) + 0.5 * len(groups), 0), xlabel=name)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_axisbelow(True)
        axes.grid(axis="x")
        titles: dict[str, list[str]] = {}
        ticks: dict[float, str] = {}
        y = 0.5
        for group, marks in groups:
            ticks[y + (len(marks) - 1) / 2] = group
            for mark in marks:
                gid = f"mark-{len(titles)}"
                axes.plot([mark.low, mark.high], [y, y], color=mark.colour, linewidth=4, alpha=0.45)
                axes.plot([mark.value], [y], "o", color=mark.colour, markersize=8, markeredgewidth=0, gid=gid)
                titles[gid] = [mark.title]
                y += 1
            y += 0.5
        axes.set_yticks(list(ticks), list(ticks.values()))
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_tick_params(length=0)
        for edge in ("left", "right", "top"):
            axes.spines[edge].set_visible(False)
        return _svg(figure, "; ".join(mark.title for _, mark in lines), titles)


def confusion(
    counts: NDArray[np.int64], asked: Sequence[str], measured: Sequence[str], colour: str, model: str
) -> Markup:
    """A confusion matrix (asked, measured) of rows: each cell with its number, the darker the larger its share of what
    was asked for in its line. The first `len(asked)` columns are the lines' own values: their diagonal is framed.
    """
    lines, columns = counts.shape
    side = 18
    with matplotlib.rc_context({**STYLE, "font.size": 9}):
        margins = (42, 4, 4, 50)
        size = (columns * side + margins[0] + margins[2], lines * side + margins[1] + margins[3])
        figure, axes = _figure(*size, margins)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(lines - 0.5, -0.5), xlabel="measured", ylabel="asked for")
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.set_xticks(range(columns), measured, rotation=90)
        axes.set_yticks(range(lines), asked)
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_tick_params(length=0, pad=2)
        for edge in np.arange(0, max(lines, columns) + 1) - 0.5:
            axes.plot([-0.5, columns - 0.5], [min(edge, lines - 0.5)] * 2, color=STYLE["grid.color"], linewidth=1)
            axes.plot([min(edge, columns - 0.5)] * 2, [-0.5, lines - 0.5], color=STYLE["grid.color"], linewidth=1)
        titles = {}
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        for line, column in np.argwhere(counts):
            count, share, gid = int(counts[line, column]), float(shares[line, column]), f"cell-{line}-{column}"
            axes.plot(
                [column], [line], "s", color=colour, alpha=0.15 + 0.85 * share, markersize=side - 1, markeredgewidth=0,
                gid=gid,
            )  # fmt: skip
            titles[gid] = [f"{model}: {asked[line]} asked for, {measured[column]} measured: {rows(count)}"]
            axes.text(
                column, line, str(count), ha="center", va="center_baseline", color="white" if share > 0.5 else INK
            )
        for line in range(lines):
            x, y = line + np.array([-0.5, 0.5, 0.5, -0.5, -0.5]), line + np.array([-0.5, -0.5, 0.5, 0.5, -0.5])
            axes.plot(x, y, color=FAINT, linewidth=0.8)
        right = int(np.trace(counts[:, :lines]))
        name = f"{model}: keys asked for against keys measured; {right} of {int(counts.sum())} rows on the diagonal"
        return _svg(figure, name, titles)


def self_similarity(
    matrix: NDArray[np.float32], duration_s: float, sections: Sequence[tuple[float, float, str]], name: str
) -> Markup:
    """How alike parts of audio are (parts, parts), dark = alike, with (start, end, label) of sections in seconds."""
    with matplotlib.rc_context({**STYLE, "font.size": 9}):
        figure, axes = _figure(240, 250, (26, 20, 8, 20))
        low, high = np.percentile(matrix, [2, 98]) if matrix.any() else (0.0, 1.0)
        axes.imshow(
            matrix, cmap=SIMILARITY, vmin=low, vmax=max(high, low + 1e-6), origin="lower", interpolation="none",
            extent=(0, duration_s, 0, duration_s), aspect="auto",
        )  # fmt: skip
        for direction in (axes.xaxis, axes.yaxis):
            direction.set_major_locator(MaxNLocator(5, integer=True))
            direction.set_tick_params(length=0, pad=3)
        for start_s, end_s, label in sections:
            if start_s > 0:
                axes.plot([start_s] * 2, [0, duration_s], color=SECTION, linewidth=1)
                axes.plot([0, duration_s], [start_s] * 2, color=SECTION, linewidth=1)
            middle = (start_s + min(end_s, duration_s)) / 2
            axes.annotate(label, (middle, duration_s), (0, 3), textcoords="offset points", ha="center", color=FAINT)
        for edge in axes.spines.values():
            edge.set_visible(False)
        return _svg(figure, name, {})


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


def _range(values: Sequence[float], least_room: float) -> tuple[float, float]:
    """An axis for all the values, with room at both ends."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(least_room, (high - low) * 0.06)
    return low - room, high + room


def _svg(figure: Figure, name: str, titles: Mapping[str, Sequence[str]]) -> Markup:
    """The figure as one <svg>. `titles`: for a line's gid what each of its markers shows under the pointer, for a bar's
    gid what the bar shows.

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
            marks = list(group.iter(f"{SVG}use")) or list(group.iter(f"{SVG}path"))
            for mark, title in zip(marks, of_markers, strict=True):
                ElementTree.SubElement(mark, f"{SVG}title").text = title
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag == f"{SVG}metadata" or (child.tag == f"{SVG}defs" and child.find(f"{SVG}style") is not None):
                parent.remove(child)
    _, _, width, height = svg.attrib["viewBox"].split()
    svg.attrib |= {"width": width, "height": height, "role": "img", "aria-label": name}
    return Markup(ElementTree.tostring(svg, encoding="unicode"))  # noqa: S704  ElementTree escaped the text
