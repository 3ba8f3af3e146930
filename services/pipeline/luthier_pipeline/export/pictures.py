"""The card's pictures: how many clips have which tempo and which key."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BIN_BPM: Final = 10
SLOWEST_BPM, FASTEST_BPM = 20.0, 400.0  # of a fact; what another wrote beyond them is in the last bin
TONICS: Final = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MAJOR, MINOR, UNKNOWN = "#0b7a75", "#7a5195", "#8a94a6"
DOTS_PER_INCH: Final = 144
STYLE: Final[dict[Any, Any]] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#667085",
}  # fmt: skip


def tempo_histogram(tempi: Sequence[float], path: Path) -> None:
    """Clips by tempo, in steps of BIN_BPM, as a PNG."""
    shown = [min(max(tempo, SLOWEST_BPM), FASTEST_BPM) for tempo in tempi]
    low = int(min(shown) // BIN_BPM) * BIN_BPM
    high = int(max(shown) // BIN_BPM + 1) * BIN_BPM
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        axes.hist(shown, bins=range(low, high + 1, BIN_BPM), color=MAJOR, edgecolor="white")
        axes.set(xlabel="Tempo (BPM)", ylabel="Clips")
        figure.savefig(path, dpi=DOTS_PER_INCH)


def key_histogram(keys: Counter[str], path: Path) -> None:
    """Clips by key, as a PNG: major and minor of a tonic beside each other, and tonics whose mode is unknown."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure()
        modes = [(" major", MAJOR), (" minor", MINOR)]
        if any(keys[tonic] for tonic in TONICS):
            modes.append(("", UNKNOWN))
        width = 0.8 / len(modes)
        for number, (mode, colour) in enumerate(modes):
            at = [place + width * (number - (len(modes) - 1) / 2) for place in range(len(TONICS))]
            axes.bar(
                at, [keys[tonic + mode] for tonic in TONICS], width, color=colour, label=mode.strip() or "mode unknown"
            )
        axes.set_xticks(range(len(TONICS)), TONICS)
        axes.set(ylabel="Clips")
        figure.legend(loc="outside upper right", ncols=len(modes), frameon=False)
        figure.savefig(path, dpi=DOTS_PER_INCH)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure((6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes
