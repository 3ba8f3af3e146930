"""Where to cut a song into clips: a shortest path over the moments at which a cut is allowed.

Moments are bar lines where the tempo map is trusted, else the quietest instant of each second. A clip pays for its
distance from the wanted length and for cuts that fall inside a phrase, by its length; music left out pays too. The
path that pays least is found exactly (dynamic programming), so the same song is always cut the same way.
"""

from dataclasses import dataclass

import numpy as np

from luthier_analysis.features.sections import Structure
from luthier_analysis.jobs import CutPlan
from luthier_analysis.sound import FRAME_S, Sound
from luthier_analysis.timeline import Span, Timeline

LENGTH_COST = 4.0  # times the squared relative distance from the wanted length
CUT_COST = 0.5  # for each end of a clip, times 1 - quality
SILENCE_COST = 1.0  # times the clip's silent share
SKIP_COST = 4.0  # per wanted length of music that is left out, silence apart
MAX_SILENT_SHARE = 0.5  # a clip that is silent for longer is none
PHRASE_QUALITY = {8: 0.2, 4: 0.15, 2: 0.05}  # added up for a bar line that begins a phrase of so many bars
NOVELTY_QUALITY = 0.6
STRONG_NOVELTY = 0.3  # the song's strongest boundary counts in full, unless it is weaker than this
LATE_PHRASE = 1.25  # how much more must be new elsewhere before phrases are said not to begin with the first bar


@dataclass(frozen=True)
class Cuts:
    """Spans of the clips in order, and what was left out and why."""

    spans: tuple[Span, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Moments:
    """Ascending times at which a cut is allowed and how good each is, 0..1."""

    times: np.ndarray
    quality: np.ndarray


def cut(sound: Sound, shape: Structure, timeline: Timeline | None, plan: CutPlan) -> Cuts:
    """The clips of a song."""
    if sound.duration_s < plan.min_s:
        return _whole(sound, plan)
    if timeline is not None and timeline.trusted():
        spans = _shortest_path(_bar_lines(sound, shape, timeline), sound, plan)
        if spans:
            return _finished(spans, sound, plan)
    return _finished(_shortest_path(_quiet_moments(sound, shape), sound, plan), sound, plan)


def _whole(sound: Sound, plan: CutPlan) -> Cuts:
    """A song below the shortest length is one clip, unless it is silent."""
    if sound.silent_share() > MAX_SILENT_SHARE:
        return Cuts((), (f"0.00-{sound.duration_s:.2f} s left out: mostly silent",))
    note = f"the song lasts {sound.duration_s:.2f} s, less than the shortest clip of {plan.min_s:g} s: kept whole"
    return Cuts(((0.0, sound.duration_s),), (note,))


def _bar_lines(sound: Sound, shape: Structure, timeline: Timeline) -> _Moments:
    times = np.unique(np.minimum(timeline.bar_lines(), sound.duration_s))
    novelty = np.array([_novelty_quality(shape, float(time)) for time in times])
    quality = novelty + _phrases(novelty)
    quality[[0, -1]] = 1.0
    return _Moments(times, quality)


def _phrases(novelty: np.ndarray) -> np.ndarray:
    """Quality of each bar line as the beginning of a phrase: phrases begin where, on average, most is new."""
    quality = np.zeros(len(novelty))
    for bars, gain in PHRASE_QUALITY.items():
        new = [novelty[first::bars].mean() for first in range(min(bars, len(novelty)))]
        newest = int(np.argmax(new))
        quality[newest if new[newest] > LATE_PHRASE * new[0] else 0 :: bars] += gain
    return quality


def _quiet_moments(sound: Sound, shape: Structure) -> _Moments:
    """The quietest frame of each second, and both ends; quiet against the song's own median counts as good."""
    levels = sound.levels_dbfs
    per_second = round(1 / FRAME_S)
    median = float(np.median(levels))
    times, quality = [0.0], [1.0]
    for first in range(per_second // 2, len(levels) - per_second, per_second):
        quietest = first + int(np.argmin(levels[first : first + per_second]))
        time = (quietest + 0.5) * FRAME_S
        quiet = np.clip((median - levels[quietest]) / 20, 0, 1) * (1 - NOVELTY_QUALITY)
        times.append(time)
        quality.append(float(quiet) + _novelty_quality(shape, time))
    return _Moments(np.array([*times, sound.duration_s]), np.array([*quality, 1.0]))


def _novelty_quality(shape: Structure, time_s: float) -> float:
    return NOVELTY_QUALITY * shape.novelty_near(time_s) / max(STRONG_NOVELTY, float(shape.novelty.max(initial=0.0)))


def _shortest_path(moments: _Moments, sound: Sound, plan: CutPlan) -> list[Span]:
    """Spans of least cost between the first and last moment; empty where no clip fits."""
    times, count = moments.times, len(moments.times)
    silent_s = np.concatenate([[0.0], np.cumsum(sound.silent) * FRAME_S])

    def silence(start_s: float, end_s: float) -> float:
        ends = [min(round(edge / FRAME_S), len(silent_s) - 1) for edge in (start_s, end_s)]
        return float(silent_s[ends[1]] - silent_s[ends[0]])

    cost = np.full(count, np.inf)
    cost[0] = 0.0
    came_from: list[tuple[int, bool]] = [(0, False)] * count  # moment before, and whether a clip lies between
    for i in range(count - 1):
        skipped_s = times[i + 1] - times[i] - silence(times[i], times[i + 1])
        _relax(cost, came_from, i, i + 1, SKIP_COST * max(0.0, skipped_s) / plan.target_s, False)
        first = int(np.searchsorted(times, times[i] + plan.min_s - 1e-6))
        last = int(np.searchsorted(times, times[i] + plan.max_s + 1e-6))
        for j in range(first, last):
            length_s = times[j] - times[i]
            silent = silence(times[i], times[j]) / length_s
            if silent > MAX_SILENT_SHARE:
                continue
            price = LENGTH_COST * ((length_s - plan.target_s) / plan.target_s) ** 2 + SILENCE_COST * silent
            price += CUT_COST * (2 - moments.quality[i] - moments.quality[j])
            _relax(cost, came_from, i, j, price * length_s / plan.target_s, True)
    return _walk_back(came_from, times)


def _relax(cost: np.ndarray, came_from: list[tuple[int, bool]], start: int, end: int, price: float, clip: bool) -> None:
    if cost[start] + price < cost[end] - 1e-12:
        cost[end] = cost[start] + price
        came_from[end] = (start, clip)


def _walk_back(came_from: list[tuple[int, bool]], times: np.ndarray) -> list[Span]:
    spans, at = [], len(times) - 1
    while at > 0:
        before, clip = came_from[at]
        if clip:
            spans.append((float(times[before]), float(times[at])))
        at = before
    return spans[::-1]


def _finished(spans: list[Span], sound: Sound, plan: CutPlan) -> Cuts:
    """Thinned evenly to the most clips allowed; what is left out becomes notes."""
    edges = [0.0, *(edge for span in spans for edge in span), sound.duration_s]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    notes = [_gap_note(start, end, sound) for start, end in gaps if end - start > FRAME_S]
    if len(spans) > plan.max_clips:
        kept = np.linspace(0, len(spans) - 1, plan.max_clips).round().astype(int)
        notes.append(f"{len(spans) - plan.max_clips} of {len(spans)} clips left out: at most {plan.max_clips} wanted")
        spans = [spans[i] for i in kept]
    return Cuts(tuple(spans), tuple(notes))


def _gap_note(start_s: float, end_s: float, sound: Sound) -> str:
    silent = sound.excerpt(start_s, end_s).silent_share() > MAX_SILENT_SHARE
    return f"{start_s:.2f}-{end_s:.2f} s left out: {'mostly silent' if silent else 'a remainder that fits no clip'}"
