"""Plots as SVG text: a scatter of tempi, intervals on a scale, a waveform. Escaped where text is foreign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

BASELINE, CANDIDATE = "#8a94a6", "#0b7a75"
INK, FAINT, LINE = "#1d2433", "#667085", "#d9dee7"
WIDTH, HEIGHT, MARGIN, RIGHT = 480, 400, 46, 52
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """A row in the scatter: tempo asked for and tempo measured, BPM."""

    asked: float
    made: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A score on its scale: value with interval, and where chance lies."""

    value: float
    low: float
    high: float
    chance: float | None
    colour: str
    title: str


def scatter(series: Sequence[tuple[str, str, Sequence[Point]]]) -> str:
    """Tempo asked for against tempo measured, for (name, colour, points) each; lines where octave errors lie."""
    points = [point for _, _, found in series for point in found]
    low, high = _range([value for point in points for value in (point.asked, point.made)])
    asked_low, asked_high = _range([point.asked for point in points])
    x = _scale(asked_low, asked_high, MARGIN, WIDTH - RIGHT)
    y = _scale(low, high, HEIGHT - MARGIN, 14)
    parts = [_frame("Tempo asked for (BPM)", "Tempo measured (BPM)")]
    parts += [_tick_x(x(v), v) for v in _ticks(asked_low, asked_high)] + [_tick_y(y(v), v) for v in _ticks(low, high)]
    parts += [
        _line(factor, name, (asked_low, asked_high), (low, high), x, y)
        for factor, name in ((1, "as asked"), (2, "× 2"), (0.5, "× ½"))
    ]
    for index, (_, colour, found) in enumerate(series):
        parts += [_dot(x(p.asked), y(p.made), colour, p.label, hollow=len(series) > 1 and index == 0) for p in found]
    return _svg(WIDTH, HEIGHT, "".join(parts), "Tempo asked for against tempo measured")


def intervals(marks: Sequence[Mark], low: float, high: float) -> str:
    """Each mark on a line of its own: a dot, its 95 % interval, and a tick where chance lies."""
    width, step = 220, 16
    x = _scale(low, high, 6, width - 6)
    parts = []
    if low < 0 < high:
        parts.append(f'<line x1="{x(0):.1f}" y1="2" x2="{x(0):.1f}" y2="{step * len(marks)}" stroke="{LINE}"/>')
    for index, mark in enumerate(marks):
        y = step * index + step / 2 + 1
        parts.append(f'<line x1="6" y1="{y}" x2="{width - 6}" y2="{y}" stroke="{LINE}" stroke-width="1"/>')
        if mark.chance is not None:
            c = x(mark.chance)
            parts.append(
                f'<line x1="{c:.1f}" y1="{y - 6}" x2="{c:.1f}" y2="{y + 6}" stroke="{INK}" stroke-dasharray="2 2"/>'
            )
        parts.append(
            f'<line x1="{x(mark.low):.1f}" y1="{y}" x2="{x(mark.high):.1f}" y2="{y}" stroke="{mark.colour}" '
            f'stroke-width="4" stroke-opacity=".45" stroke-linecap="round"/>'
            f'<circle cx="{x(mark.value):.1f}" cy="{y}" r="4" fill="{mark.colour}"/><title>{escape(mark.title)}</title>'
        )
    return _svg(width, step * len(marks) + 2, "".join(f"<g>{part}</g>" for part in parts), "score and interval")


def waveform(peaks: Sequence[float], colour: str) -> str:
    """Peaks 0 to 1, left to right, mirrored about the middle line."""
    width, height = 240, 34
    step = width / max(1, len(peaks))
    bars = "".join(
        f"M{index * step + step / 2:.1f} {height / 2 - max(0.5, peak * (height / 2 - 1)):.1f}"
        f"v{2 * max(0.5, peak * (height / 2 - 1)):.1f}"
        for index, peak in enumerate(peaks)
    )
    path = f'<path d="{bars}" stroke="{colour}" stroke-width="{max(0.6, step * 0.6):.2f}"/>'
    return _svg(width, height, path, "waveform")


def _svg(width: float, height: float, inside: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg>'
    )


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """A function from values to pixels that keeps what lies outside at the edge."""
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return start + (min(max(value, low), high) - low) / span * (end - start)

    return at


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=60.0), max(values, default=180.0)
    room = max(6.0, (high - low) * 0.06)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[int]:
    step = next(step for step in (5, 10, 20, 25, 50, 100, 1000) if (high - low) / step <= 9)
    first = -(-int(low) // step) * step
    return [value for value in range(first, int(high) + 1, step) if value >= low]


def _frame(x_title: str, y_title: str) -> str:
    return (
        f'<rect x="{MARGIN}" y="14" width="{WIDTH - MARGIN - RIGHT}" height="{HEIGHT - MARGIN - 14}" fill="#fff" '
        f'stroke="{LINE}"/><text x="{(WIDTH + MARGIN - RIGHT) / 2}" y="{HEIGHT - 8}" class="axis" text-anchor="middle">'
        f'{x_title}</text><text transform="translate(12 {HEIGHT / 2 - 10}) rotate(-90)" class="axis" '
        f'text-anchor="middle">{y_title}</text>'
    )


def _tick_x(x: float, value: float) -> str:
    y = HEIGHT - MARGIN
    return (
        f'<line x1="{x:.1f}" y1="14" x2="{x:.1f}" y2="{y}" stroke="#eef1f5"/>'
        f'<text x="{x:.1f}" y="{y + 14}" class="tick" text-anchor="middle">{value:g}</text>'
    )


def _tick_y(y: float, value: float) -> str:
    return (
        f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#eef1f5"/>'
        f'<text x="{MARGIN - 5}" y="{y + 3.5:.1f}" class="tick" text-anchor="end">{value:g}</text>'
    )


def _line(factor: float, name: str, asked: tuple[float, float], made: tuple[float, float], x: Scale, y: Scale) -> str:
    """measured = factor x asked, as far as it lies in the plot."""
    start, end = max(asked[0], made[0] / factor), min(asked[1], made[1] / factor)
    if start >= end:
        return ""
    dash = "" if factor == 1 else ' stroke-dasharray="4 4"'
    return (
        f'<line x1="{x(start):.1f}" y1="{y(start * factor):.1f}" x2="{x(end):.1f}" y2="{y(end * factor):.1f}" '
        f'stroke="{FAINT}" stroke-width="1"{dash}/><text x="{x(end) + 5:.1f}" y="{y(end * factor) + 4:.1f}" '
        f'class="tick">{name}</text>'
    )


def _dot(x: float, y: float, colour: str, label: str, *, hollow: bool) -> str:
    look = f'fill="none" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}" fill-opacity=".75"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {look}><title>{escape(label)}</title></circle>'
