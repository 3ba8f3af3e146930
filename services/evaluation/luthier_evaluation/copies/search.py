"""Which clips of an index occur in an output, where, and how surely.

In three steps, each on less than the one before:

1. Places. At the output's own pitch the strongest peaks of every clip are laid on the output's at every place, and
   counted where they meet; those clips that meet more often than by chance again with more peaks, and with a stretch.
   For shifted copies, each triplet of peaks of the output is looked up; what the index has of its shape votes for a
   place on the time line of all clips, with more weight the rarer the shape is. Rare shapes are taken first and their
   number is bounded, so that a check takes the same time whatever the music is.
2. Alignments. Votes that agree on a place and a pitch shift are fitted with a stretch. All are moved to where the
   clip's peaks lie nearest to the output's.
3. Evidence, in two ways, of which the surer one tells. By peaks: the log likelihood ratio of how near the clip's peaks
   are to those of the output there, against being so near by chance. By levels: where a copy is louder than what is
   mixed with it, the output is as loud as the copy is, elsewhere louder, and nowhere softer; the ratio of that against
   being so loud by chance, at the gain that fits best. The passage taken is that with the most. What fits as well a
   beat or a bar off counts less.

Compiled code counts peaks, votes and levels (`luthier_music.native`: PlacedPeaks, Votes, PeakMap, LevelMap).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from luthier_evaluation.copies.index import SEMITONES, TICK, Index, Targets, triplets
from luthier_evaluation.copies.landmarks import BINS, BINS_PER_SEMITONE, FRAME_S, STEPS, Heard, Landmarks, NoLandmarks
from luthier_music.native import (
    LEVELS,
    PEAK_OUTSIDE,
    Alignments,
    LevelMap,
    PeakMap,
    Peaks,
    PlacedPeaks,
    Votes,
    votes_in_cells,
)

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]
Singles = NDArray[np.float32]

COPY_SCORE: Final = 0.5
"""From this score on a passage counts as a copy. Of 1,484 outputs that hold no clip of an index of 10,000 and are not
5 s of a mix, none reaches it: the highest has 0.48 (`tests/bench/copies.py`)."""
LISTED: Final = 5
"""Clips that a search tells, at most, unless it is asked for more."""

_MAX_SHIFT: Final = 1.75  # semitones
_MAX_STRETCH: Final = 0.045
_STRETCH_STEP: Final = 0.005
_ASKED_PER_S: Final = 25  # peaks of a second of the output
_ASKED: Final = Targets(6, 8)  # more than the index joins: other music may be louder than what it joins
_MOST_ASKED: Final = 40_000  # triplets; of longer outputs evenly fewer
_VOTES: Final = 400_000  # at any shift, rarest shapes first
_PLACED: Final = 2500  # peaks of the output, on which clips are laid; of longer ones fewer of each second
_NEAREST_S: Final = 3000.0  # so many clips times the output's seconds, by each of two counts, are laid with more peaks
_NEAREST: Final = 1000  # and so many clips at most
_STRETCHES: Final = (0.964, 0.985, 1.015, 1.036)
_MOST_WEIGHT: Final = 5  # of a peak that is laid on another: 600 s of 10 peaks a second count 60,000 at most
_LEAST_MET: Final = 20.0  # counts: where less is expected by chance, a few that meet are not sure
_BY_PLACES_S: Final = 1200.0  # so many alignments of them times the output's seconds are verified
_BY_PLACES: Final = 150  # and so many at most
_COMMON: Final = 4096  # votes of a shape that weigh 1 each; half as many weigh 1 more
_CELL_TICKS: Final = 16  # 0.74 s of the time line: a cell of votes
_CELL_BINS: Final = 3  # and a semitone of pitch shift
_SHIFTS: Final = 5  # cells of pitch shift
_CELLS: Final = 100  # with the most votes, that are fitted
_FITTED: Final = 100  # alignments, of which the evidence is weighed as they are
_VERIFIED: Final = 12  # of them with the most evidence are aligned more exactly
_SCANNED: Final = 64  # cells of which one is looked at, to know how many votes are many
_FIT_TICKS: Final = 2  # votes within 93 ms agree
_FIT_WIDTH: Final = 96  # steps of the fit around a cell
_EVERY_CLIP: Final = _VERIFIED + _BY_PLACES  # of near-duplicates: those of the same song must not hide another's
_REACH: Final = 5  # frames, by which it may be moved
_FEW_PER_S: Final = 6  # peaks of a second of a clip by which it is aligned roughly
_ALIGNED_PER_S: Final = 20  # and more exactly, where it is told; by all of them it is verified
_REPEATED_PER_S: Final = 20  # and by which it is held against what is earlier and later
_HEARD: Final = np.array([0.52, 0.36, 0.27, 0.2, 0.16], np.float32)
"""Of a copy's peaks at -6 dB in a mix those that are heard beyond chance, by the tens of their rank in their second."""
_NEAR: Final = np.array([0.58, 0.27, 0.15], np.float32)
"""Of those the share of each class of nearness. Both as counted on the half of `tests/bench/copies.py`'s songs that the
threshold is of: frequencies agree within a ninth of a semitone, times within 17 ms, which chance seldom does."""
_LEAST_CHANCE: Final = 3e-4  # of a class in a bin
_LEAST_BY_FRAME: Final = 0.5  # of what is near at frames on average
_MOST_CHANCE: Final = 0.6  # of any class
_SOFTER: Final = 3  # steps of 1.5 dB softer than expected are as loud, since sounds that are added also cancel
_LOUDER: Final = 1
_AS_LOUD: Final = 0.95  # of what is louder than the rest of a mix, by which the mix is as loud
_SOFTEST: Final = 0.02  # of a copy's peaks, at which the output is softer nevertheless
_LEAST_AS_LOUD: Final = 1e-4
_MOST_GAIN: Final = 28  # steps, 42 dB, by which an output may be louder or softer than a clip
_BLOCK_FRAMES: Final = 44  # 1.02 s
_BANDS: Final = np.array([45, 75, 105])  # bins: below 428, 764 and 1361 Hz, and above
_MOST_OF_A_BAND: Final = 6.0  # nats of a block
_LAGS: Final = np.arange(9.0, 220.0, 2.0)  # frames, 0.2 to 5 s: two bars at most tempi
_LEVEL_LAGS: Final = _LAGS[::2]  # levels are the highest of three frames
_PEAK_POWER: Final = 3.0
_LEVEL_POWER: Final = 1.0
_STRENGTH: Final = 64.0
"""Nats that score half in an output of 30 s, of either evidence. Of 668 unmixed outputs without a clip of half of the
songs 1 % reach 41 by peaks and 40 by levels, none 64; copies that are among the alignments reach it by at least one,
nearly all of those under other music 145 or more. That half is no longer held out."""
_SCORED_S: Final = (5.0, 30.0)
"""The strength that scores half is by the root of the output's duration within these bounds, in seconds: what gathers
by chance is a sum over peaks, whose standard deviation is by the root of their number."""

_SHIFT_OFFSET: Final = 16  # keeps differences of bins above 0
_SHIFT_CELL: Final = np.clip((np.arange(256) - _SHIFT_OFFSET + 7) // _CELL_BINS, 0, _SHIFTS - 1).astype(np.uint8)


@dataclass(frozen=True)
class Copy:
    """A passage of an output that is alike a passage of a clip.

    `clip`: position in the index. `score`, 0 to 1: how much is alike and how surely, s^2 / (s^2 + (64 d)^2), s =
    `evidence` (1 - `repeated` (1 - `share`^1.5))^p, of peaks (p = 3) or of levels (p = 1), whichever scores more, d =
    the root of the output's duration by 30 s, that 1/6 to 1; a copy from COPY_SCORE on. `at_s`, `clip_at_s`: where the
    passage begins in the output and in the clip; `duration_s`: of the output. `pitch_semitones`: of the output above
    the clip, -1.75 to 1.75 about; `stretch`: duration in the output by that in the clip, 0.955 to 1.045 about. `share`:
    of the clip's peaks in the passage, those that are heard in the output beyond chance, 1 = all; `evidence`: log
    likelihood ratio in nats, at most 24 a second; `repeated`, 0 to 1: of the evidence what is there as well up to 5 s
    earlier or later.
    """

    clip: int
    score: float
    at_s: float
    clip_at_s: float
    duration_s: float
    pitch_semitones: float
    stretch: float
    share: float
    evidence: float
    repeated: float

    @property
    def is_copy(self) -> bool:
        return self.score >= COPY_SCORE


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips by their positions in the index, the first before the second, and the passage of the second in the
    first."""

    first: int
    second: int
    found: Copy


def search(index: Index, output: Heard | Landmarks, listed: int = LISTED) -> list[Copy]:
    """The clips nearest to an output by descending score, at most `listed`, each once with its best passage.

    Those with `is_copy` are copies. Empty where the output or the index is silent. Of landmarks alone, evidence of
    levels is not to be had: copies under other music are then found less surely.
    """
    peaks = output.landmarks if isinstance(output, Heard) else output
    if not peaks.frames.size or not index.peak_frames.size:
        return []
    evidence = _Evidence.of(peaks, _Loudness.of(output.levels) if isinstance(output, Heard) else None)
    shifted = _alignments(index, peaks, _votes(index, peaks))
    fitted = evidence.most(index, shifted, _VERIFIED).joined(_everywhere(index, peaks))
    best: dict[int, Copy] = {}
    for found in evidence.verified(index, fitted, listed):
        if found.clip not in best or found.score > best[found.clip].score:
            best[found.clip] = found
    return sorted(best.values(), key=lambda found: (-found.score, found.clip))[:listed]


def near_duplicates(
    index: Index,
    clips: Sequence[Landmarks],
    songs: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[NearDuplicate]:
    """Pairs of clips of different songs of which one holds a passage of the other, each pair once, as they are found.

    `clips` are those that the index was made of, `songs` tells the song of each. A search a clip, after each
    of which `progress` is told how many are done, of how many.
    """
    if not len(clips) == len(songs) == index.clips:
        raise NoLandmarks(f"clips and songs must be {index.clips}, as in the index: got {len(clips)} and {len(songs)}")
    told: set[tuple[int, int]] = set()
    for number, clip in enumerate(clips):
        for found in search(index, clip, _EVERY_CLIP):
            pair = (min(number, found.clip), max(number, found.clip))
            if found.is_copy and songs[found.clip] != songs[number] and pair not in told:
                told.add(pair)
                yield NearDuplicate(number, found.clip, found)
        if progress:
            progress(number + 1, len(clips))


def _votes(index: Index, output: Landmarks) -> Votes:
    """Runs of the index's anchors whose shape a triplet of the output has. Less what they are asked
    with, rows are ticks of the time line at the output's start, columns shifts in bins."""
    peaks = output.strongest(_ASKED_PER_S)
    asked = triplets(peaks, _ASKED)
    every = -(-len(asked.shapes) // _MOST_ASKED) or 1
    shapes, of = asked.shapes[::every] * np.int32(SEMITONES), asked.anchors[::every]
    semitones = peaks.bins * np.float32(1 / BINS_PER_SEMITONE)
    low = np.clip(semitones - np.float32(_MAX_SHIFT), 0, SEMITONES - 1).astype(np.int32)
    high = np.clip(semitones + np.float32(_MAX_SHIFT), 0, SEMITONES - 1).astype(np.int32) + 1
    first = index.table[shapes + low[of]]
    counts = _rarest(index.table[shapes + high[of]] - first, _VOTES)
    kept = np.flatnonzero(counts)
    lengths = counts[kept]
    asked_with = _asked_with(output, peaks)[of[kept]]
    return Votes(index.anchors, first[kept], lengths, asked_with, _SHIFT_CELL, _SHIFTS, _weights(lengths), _CELL_TICKS)


def _asked_with(output: Landmarks, peaks: Landmarks) -> NDArray[np.uint32]:
    """What is taken off the anchors of the index that are found by each of these peaks."""
    codes = (peaks.frames // TICK).astype(np.uint32) << 8 | np.rint(peaks.bins).astype(np.uint32)
    return (codes - np.uint32(_ahead(output) << 8 | _SHIFT_OFFSET)).astype(np.uint32)


def _weights(lengths: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Of a vote of a run that is so long: the rarer a shape, the less often it votes by chance."""
    return np.clip(np.rint(np.log2(_COMMON / np.maximum(lengths, 1))), 1, 255).astype(np.uint8)


def _ahead(output: Landmarks) -> int:
    """Ticks before the time line of all clips: a clip may begin before the output does."""
    return output.frame_count // TICK + 2


def _rarest(counts: NDArray[np.uint32], budget: int) -> NDArray[np.uint32]:
    """The counts, 0 for those that are too many: the lowest stay as long as their sum is within the budget."""
    lengths = np.bincount(counts, minlength=1)
    longest = int(np.searchsorted(np.cumsum(lengths * np.arange(len(lengths))), budget, side="right"))
    return np.where(counts < longest, counts, np.uint32(0))


@dataclass(frozen=True)
class _Alignments:
    """Arrays (alignments,): clip; the frame of the output at which the clip begins; stretch; shift in bins; the frame
    of the clip around which the votes lie."""

    clip: Numbers
    offset: Reals
    stretch: Reals
    shift: Reals
    pivot: Reals

    def only(self, some: Numbers) -> "_Alignments":
        return _Alignments(self.clip[some], self.offset[some], self.stretch[some], self.shift[some], self.pivot[some])

    def joined(self, others: "_Alignments") -> "_Alignments":
        return _Alignments(
            np.concatenate([self.clip, others.clip]),
            np.concatenate([self.offset, others.offset]),
            np.concatenate([self.stretch, others.stretch]),
            np.concatenate([self.shift, others.shift]),
            np.concatenate([self.pivot, others.pivot]),
        )


def _everywhere(index: Index, output: Landmarks) -> _Alignments:
    """The alignments at the output's own pitch at which more peaks of a clip meet the output's than by chance, the
    surest first, one of a clip."""
    peaks = output.strongest(max(1, int(_PLACED / output.duration_s)))
    narrow, wide, _ = _met(index, peaks, 1.0, np.arange(index.clips), 1)
    by_wide, by_narrow = (_highest(sure, min(_NEAREST, int(_NEAREST_S / output.duration_s))) for sure in (wide, narrow))
    nearest = np.union1d(by_narrow, by_wide)
    surest, _, at = _met(index, peaks, 1.0, nearest, 2)
    stretch, offset = np.ones(len(nearest)), at.astype(np.float64)
    some = np.searchsorted(nearest, np.sort(by_wide))
    for tried in _STRETCHES:
        sure, _, at = _met(index, peaks, tried, nearest[some], 2)
        better = sure > surest[some]
        surest[some[better]], stretch[some[better]], offset[some[better]] = sure[better], tried, at[better]
    order = _highest(surest, min(_BY_PLACES, int(_BY_PLACES_S / output.duration_s)))
    clip, offset, stretch = nearest[order], offset[order] + 0.5, stretch[order]  # of two ticks
    begin, end = np.maximum(-offset, 0), np.minimum(index.lengths[clip], output.frame_count / TICK / stretch - offset)
    return _Alignments(clip, offset * stretch * TICK, stretch, np.zeros(len(clip)), (begin + end) / 2 * TICK)


def _highest(values: Reals, count: int) -> Numbers:
    """Where the highest of these are, so many at most and 1 at least, by descending value."""
    count = min(max(1, count), len(values))
    some = np.flatnonzero(values >= np.partition(values, len(values) - count)[len(values) - count])
    order: Numbers = some[np.argsort(-values[some], kind="stable")[:count]]
    return order


def _met(
    index: Index, output: Landmarks, stretch: float, clips: Numbers, end: int
) -> tuple[Reals, Reals, NDArray[np.int32]]:
    """How many standard deviations above chance the peaks of each of these clips, those up to this of its bounds, meet
    the output's at its best place, within two ticks and within eight; and that place, in ticks of the output by the
    stretch."""
    rows = int(output.frame_count / TICK / stretch) + 1
    bins = np.rint(output.bins).astype(np.int64)
    there = np.zeros(BINS * rows, np.bool_)
    there[bins * rows + (output.frames / np.float32(TICK * stretch)).astype(np.int64)] = True
    bins, ticks = np.divmod(np.flatnonzero(there), rows)
    counts = np.bincount(bins, minlength=BINS)
    # A peak in a bin that is seldom heard tells more: its log likelihood ratio, where a quarter survive a mix.
    weights = np.clip(np.rint(np.log1p(0.25 * rows / np.maximum(counts, 1))), 1, _MOST_WEIGHT)
    starts = np.concatenate([[0], np.cumsum(counts)])
    placed = PlacedPeaks(ticks.astype(np.uint16), starts.astype(np.uint32), weights.astype(np.uint8), rows)
    best = placed.best(index.placed_ticks, index.placed_bins, index.placed_bounds[:, [0, end]], index.lengths, clips)
    weight = float(counts @ weights**2) / max(float(counts @ weights), 1.0)
    of_a_tick = best.total / np.maximum(rows, index.lengths[clips])

    def above_chance(most: NDArray[np.int32], of_ticks: int) -> Reals:
        expected = of_ticks * of_a_tick
        sure: Reals = (most - expected) / np.sqrt(weight * (expected + _LEAST_MET))
        return sure

    return above_chance(best.most, 2), above_chance(best.wide, 8), best.at


def _alignments(index: Index, output: Landmarks, votes: Votes) -> _Alignments:
    """The alignments with the most votes, best first."""
    counts, voted = votes.counts(index.ticks + _ahead(output) + 1)
    sums = counts[1:] + counts[:-1]  # a shift, or a place, may lie between two cells
    most = np.flatnonzero(sums >= max(2, _exceeded(sums, 6 * _CELLS)))
    most = most[np.argsort(-sums[most].astype(np.int32), kind="stable")]
    groups: dict[int, int] = {}
    chosen = 0
    for cell in most.tolist():
        if chosen == _CELLS:
            break
        if cell in groups or cell + 1 in groups:
            continue
        for start in (cell, cell + votes.width, cell - votes.width):  # and those that are a little earlier or later
            for neighbour in (start, start + 1):
                if 0 <= neighbour < len(counts):
                    groups.setdefault(neighbour, chosen)
        chosen += 1
    cells = np.sort(np.fromiter(groups, np.int64, len(groups)))
    held = votes_in_cells(voted, cells, int(counts[cells].sum(dtype=np.int64)))
    of, anchors = votes.told(held)
    group_of = np.array([groups[cell] for cell in cells.tolist()], np.int64)
    group = group_of[np.searchsorted(cells, voted[held])]
    codes = votes.asked[of] + np.uint32(_ahead(output) << 8 | _SHIFT_OFFSET)
    at = (anchors >> 8).astype(np.int64)
    clip = np.searchsorted(index.starts, at, side="right") - 1
    pairs_of, number = np.unique(group * index.clips + clip, return_inverse=True)
    return _fitted(
        pairs_of % index.clips,
        number,
        votes.weights[of],
        (at - index.starts[clip]).astype(np.float64),
        (codes >> 8).astype(np.float64),
        (codes & 255).astype(np.float64) - (anchors & 255),
    )


def _exceeded(sums: NDArray[np.uint16], wanted: int) -> int:
    """What at least so many of these sums reach, and not many more; 0 where there are fewer."""
    columns = len(sums) // _SCANNED
    if columns <= wanted:
        return 0
    highest = sums[: columns * _SCANNED].reshape(_SCANNED, columns).max(axis=0)
    return int(np.partition(highest, columns - wanted)[columns - wanted])


def _fitted(
    clips: Numbers, number: Numbers, weights: NDArray[np.uint8], clip_ticks: Reals, ticks: Reals, shifts: Reals
) -> _Alignments:
    """For each group of votes (its clip; the votes' `number`) the stretch and offset on which most of them agree."""
    n = len(clips)
    least = np.full(n, np.inf)
    np.minimum.at(least, number, ticks - clip_ticks)
    votes, stretch, offset = np.zeros(n), np.ones(n), np.zeros(n)
    steps = np.arange(1, round(_MAX_STRETCH / _STRETCH_STEP) + 1) * _STRETCH_STEP
    for tried in (1.0, *(1 + steps), *(1 - steps)):
        place = (ticks - tried * clip_ticks - least[number]) / _FIT_TICKS + _FIT_WIDTH / 3
        place = np.clip(place, 0, _FIT_WIDTH - 1).astype(np.int64)
        agreed = np.bincount(number * _FIT_WIDTH + place, weights, minlength=n * _FIT_WIDTH).reshape(n, _FIT_WIDTH)
        agreed = agreed[:, 1:] + agreed[:, :-1]
        where = agreed.argmax(axis=1)
        found = agreed[np.arange(n), where]
        better = found > votes
        votes[better], stretch[better] = found[better], tried
        offset[better] = (where[better] + 1 - _FIT_WIDTH / 3) * _FIT_TICKS + least[better]
    agrees = np.abs(ticks - stretch[number] * clip_ticks - offset[number]) <= _FIT_TICKS + 0.5
    number, ticks, clip_ticks, shifts = number[agrees], ticks[agrees], clip_ticks[agrees], shifts[agrees]
    # Of the votes that agree on a place, those of the pitch shift that most have, within a bin.
    weights = weights[agrees]
    column = np.clip(np.rint(shifts), 1 - _SHIFT_OFFSET, _SHIFT_OFFSET - 2).astype(np.int64) + _SHIFT_OFFSET
    agreed = np.bincount(number * 2 * _SHIFT_OFFSET + column, weights, minlength=n * 2 * _SHIFT_OFFSET)
    agreed = agreed.reshape(n, 2 * _SHIFT_OFFSET)
    centre = (agreed[:, 2:] + agreed[:, 1:-1] + agreed[:, :-2]).argmax(axis=1) + 1
    near = np.abs(column - centre[number]) <= 1
    number, ticks, clip_ticks, shifts, weights = (array[near] for array in (number, ticks, clip_ticks, shifts, weights))
    total = np.bincount(number, weights, minlength=n)
    order = np.argsort(-total, kind="stable")[:_FITTED]
    total = np.maximum(total, 1)

    def mean(values: Reals) -> Reals:
        return (np.bincount(number, values * weights, minlength=n) / total)[order]

    return _Alignments(
        clip=clips[order],
        offset=mean(ticks - stretch[number] * clip_ticks) * TICK,
        stretch=stretch[order],
        shift=mean(shifts),
        pivot=mean(clip_ticks) * TICK,
    )


def _gained(evidence: Reals) -> tuple[int, int]:
    """Where the run of the highest sum begins and ends; the same place where all are below 0."""
    upto = np.concatenate([[0.0], np.cumsum(evidence)])
    end = int((upto - np.minimum.accumulate(upto)).argmax())
    return int(upto[: end + 1].argmin()), end


@dataclass(frozen=True)
class _Loudness:
    """How loud an output is (LevelMap), and what its levels are by chance.

    Where a copy is louder than the other music of a mix, the output is as loud as the copy; elsewhere it is louder; and
    nowhere softer. `by_chance` (BINS, LEVELS): the share of frames at which a bin is as loud as expected.
    """

    map: LevelMap
    by_chance: Singles

    @classmethod
    def of(cls, levels: NDArray[np.uint8]) -> "_Loudness":
        cells = levels + np.arange(BINS, dtype=np.int64)[:, None] * LEVELS
        counts = np.bincount(cells.ravel(), minlength=BINS * LEVELS).reshape(BINS, LEVELS)
        shares = 0.9 * counts / levels.shape[1] + 0.1 * counts.sum(axis=0) / levels.size
        upto = np.concatenate([np.zeros((BINS, 1)), np.cumsum(shares, axis=1)], axis=1)  # (BINS, LEVELS + 1)
        expected = np.arange(LEVELS)
        softest, loudest = np.maximum(expected - _SOFTER, 0), np.minimum(expected + _LOUDER + 1, LEVELS)
        by_chance = np.maximum(upto[:, loudest] - upto[:, softest], _LEAST_AS_LOUD)
        near = np.ascontiguousarray(np.log1p(_AS_LOUD * upto[:, expected] / by_chance), np.float32)
        return cls(LevelMap(levels, near, _SOFTER, _LOUDER, math.log(_SOFTEST)), by_chance.astype(np.float32))


@dataclass(frozen=True)
class _Held:
    """The peaks of a clip at one place of an output, those that lie within it.

    Arrays (peaks,): `peaks` their positions in the index; `at` the frame of the output; `bins`; `evidence` in nats;
    `heard` whether they are; `chance` that they would be in other music. `repeats` tells of a run of positions what of
    its evidence there is as well somewhat earlier or later, `power` how much that takes off.
    """

    peaks: Numbers
    at: Numbers
    bins: Numbers
    evidence: Reals
    heard: NDArray[np.bool_]
    chance: Singles
    repeats: Callable[[int, int], float]
    power: float


@dataclass(frozen=True)
class _Evidence:
    """An output, what clips are held against (`near`, PeakMap; `loudness`), and what is near by chance.

    `by_bin` (BINS, 3): the share of the output that is near one of its peaks, by class, of each bin by itself, so that
    the same key or the same instrument is no evidence. `by_frame` (frames,): how much more or less is near at a frame
    than at others, so that the same rhythm is none. `table` (BINS, 5, 4): log likelihood ratio of a peak of a clip by
    its bin, the tenth of its rank, and the class that is found there.
    """

    output: Landmarks
    near: PeakMap
    by_bin: Singles
    by_frame: Singles
    table: Singles
    loudness: _Loudness | None

    @classmethod
    def of(cls, output: Landmarks, loudness: _Loudness | None) -> "_Evidence":
        bins = np.rint(output.bins * STEPS).astype(np.uint16)
        near = PeakMap(
            Peaks(output.frames, bins, output.ranks), BINS, max(output.frame_count, 1 + int(output.frames[-1]))
        )
        by_bin = near.counts[:, 1:] / near.counts.sum(axis=1, keepdims=True)
        by_bin = (0.9 * by_bin + 0.1 * by_bin.mean(axis=0) + _LEAST_CHANCE).astype(np.float32)
        heard = uniform_filter1d(near.heard.astype(np.float32), 3, mode="nearest")
        by_frame = np.maximum(heard / max(float(heard.mean()), 1e-9), _LEAST_BY_FRAME).astype(np.float32)
        hit = np.log1p(_HEARD[None, :, None] * (_NEAR / by_bin[:, None, :] - 1))
        miss = np.broadcast_to(np.log1p(-_HEARD)[None, :, None], (BINS, len(_HEARD), 1))
        table = np.concatenate([miss, hit], axis=2).astype(np.float32)
        return cls(output, near, by_bin, by_frame, table, loudness)

    def most(self, index: Index, fitted: _Alignments, count: int) -> _Alignments:
        """Those with the most evidence as they are."""
        sums = self.near.sums(self.table, index.peaks, _placed(index, fitted), _REPEATED_PER_S)
        return fitted.only(np.argsort(-sums, kind="stable")[:count])

    def verified(self, index: Index, fitted: _Alignments, most: int) -> Iterator[Copy]:
        """The passage with the most evidence of each clip, of so many at most, once it is aligned more exactly: all by
        a few peaks, then those that are told by more."""
        roughly = _placed(index, fitted)
        sums = self._align(index, roughly, fitted, _FEW_PER_S)
        first = np.argsort(-sums, kind="stable")
        _, once = np.unique(fitted.clip[first], return_index=True)
        told = first[np.sort(once)[:most]]
        fitted = fitted.only(told)
        placed = Alignments(
            roughly.first[told],
            roughly.last[told],
            roughly.offsets[told],
            roughly.stretches[told],
            roughly.shifts[told],
        )
        self._align(index, placed, fitted, _ALIGNED_PER_S)
        for row, clip in enumerate(fitted.clip.tolist()):
            if found := self._best(index, placed, row, clip):
                yield found

    def _align(self, index: Index, placed: Alignments, fitted: _Alignments, per_s: int) -> Reals:
        pivots = fitted.pivot.astype(np.float32)
        return self.near.align(self.table, index.peaks, placed, per_s, pivots, _STRETCH_STEP / 2, _REACH)

    def _best(self, index: Index, placed: Alignments, row: int, clip: int) -> Copy | None:
        """The passage of one clip by the evidence that scores more."""
        best = None
        for held in (self._by_levels(index, placed, row), self._by_peaks(index, placed, row)):
            found = self._passage(index, placed, row, clip, held, best.score if best else 0.0) if held else None
            best = found or best
        return best

    def _by_peaks(self, index: Index, placed: Alignments, row: int) -> _Held | None:
        """How near the clip's peaks are to those of the output; None where none lies within it."""
        start = int(placed.first[row])
        classes = self.near.classes(self.table, index.peaks, placed, row)
        inside = np.flatnonzero(classes != PEAK_OUTSIDE)
        if not len(inside):
            return None
        near, peaks = classes[inside], start + inside
        at, bins = _places(index, placed, row, peaks)
        by_bin = self.by_bin[bins]
        usual = by_bin.sum(axis=1)
        chance = np.minimum(usual * self.by_frame[np.clip(at, 0, len(self.by_frame) - 1)], _MOST_CHANCE)
        heard, likely = near > 0, _HEARD[index.peak_ranks[peaks] // 10]
        kind = np.maximum(near, 1).astype(np.int64) - 1
        of_kind = by_bin[np.arange(len(bins)), kind] * chance / usual
        evidence = np.where(heard, np.log1p(likely * (_NEAR[kind] / of_kind - 1)), np.log1p(-likely))

        def repeats(first: int, last: int) -> float:
            lags = np.concatenate([[0.0], -_LAGS, _LAGS]).astype(np.float32)
            some = Alignments(
                np.full(len(lags), first),
                np.full(len(lags), last + 1),
                placed.offsets[row] + lags,
                np.full(len(lags), placed.stretches[row]),
                np.full(len(lags), placed.shifts[row]),
            )
            return _most_elsewhere(self.near.sums(self.table, index.peaks, some, _REPEATED_PER_S))

        return _Held(peaks, at, bins, evidence, heard, chance, repeats, _PEAK_POWER)

    def _by_levels(self, index: Index, placed: Alignments, row: int) -> _Held | None:
        """Whether the output is as loud as the clip's peaks, at one gain, or louder."""
        if not self.loudness:
            return None
        levels, (bins, frames) = self.loudness.map, self.loudness.map.levels.shape
        evidence, gain = levels.evidence(index.peaks, index.peak_levels, placed, row, _MOST_GAIN, _BLOCK_FRAMES)
        peaks = np.arange(int(placed.first[row]), int(placed.last[row]))
        at, of = _places(index, placed, row, peaks)
        inside = np.flatnonzero((at >= 0) & (at < frames) & (of >= 0) & (of < bins))
        if not len(inside):
            return None
        expected = np.clip(index.peak_levels[peaks[inside]].astype(np.int64) + gain, 0, LEVELS - 1)
        louder = levels.levels[of[inside], at[inside]].astype(np.int64) - expected
        heard = (louder >= -_SOFTER) & (louder <= _LOUDER)
        chance = np.minimum(self.loudness.by_chance[of[inside], expected], _MOST_CHANCE)

        def repeats(first: int, last: int) -> float:
            lags = np.concatenate([[0.0], -_LEVEL_LAGS, _LEVEL_LAGS]).astype(np.float32) + placed.offsets[row]
            some = Alignments(
                np.array([first]), np.array([last + 1]), placed.offsets[[row]], placed.stretches[[row]],
                placed.shifts[[row]],
            )  # fmt: skip
            return _most_elsewhere(levels.sums(index.peaks, index.peak_levels, some, 0, gain, lags))

        counted = evidence[inside].astype(np.float64)
        return _Held(peaks[inside], at[inside], of[inside], counted, heard, chance, repeats, _LEVEL_POWER)

    def _passage(self, index: Index, placed: Alignments, row: int, clip: int, held: _Held, above: float) -> Copy | None:
        """The passage of one clip at its alignment; None where nothing of it is heard, or its score is not above."""
        # No band of a block counts for more than _MOST_OF_A_BAND: a passage is alike all over, one struck sound is not.
        block = np.maximum(held.at, 0) // _BLOCK_FRAMES
        cell = block * (len(_BANDS) + 1) + np.searchsorted(_BANDS, held.bins, side="right")
        blocks = int(block.max()) + 1
        sums = np.bincount(cell, held.evidence, minlength=blocks * (len(_BANDS) + 1)).reshape(blocks, -1)
        by_block = np.minimum(sums, _MOST_OF_A_BAND).sum(axis=1)
        begin, end = _gained(by_block)
        within = np.flatnonzero((block >= begin) & (block < end))
        if not len(within):
            return None
        first, last = _gained(held.evidence[within])
        passage = within[first:last]
        if not len(passage):
            return None
        nats, half = float(by_block[begin:end].sum()), _STRENGTH * _root_of_duration(self.output.duration_s)
        if _score(nats, half) <= above:  # what is repeated only takes off
            return None
        first_peak, last_peak = int(held.peaks[passage[0]]), int(held.peaks[passage[-1]])
        repeated = held.repeats(first_peak, last_peak)
        chance = held.chance[passage]
        share = max(0.0, float((held.heard[passage] - chance).sum() / (1 - chance).sum()))
        # A copy of music that repeats itself is one if most of it is heard.
        strength = nats * (1 - repeated * (1 - share**1.5)) ** held.power
        if (score := _score(strength, half)) <= above:
            return None
        offset, stretch, shift = (float(each[row]) for each in (placed.offsets, placed.stretches, placed.shifts))
        start_s, end_s = (float(index.peak_frames[peak]) * FRAME_S for peak in (first_peak, last_peak))
        return Copy(
            clip=clip,
            score=score,
            at_s=max(0.0, offset * FRAME_S + start_s * stretch),
            clip_at_s=start_s,
            duration_s=(end_s - start_s) * stretch,
            pitch_semitones=shift / BINS_PER_SEMITONE,
            stretch=stretch,
            share=share,
            evidence=nats,
            repeated=repeated,
        )


def _places(index: Index, placed: Alignments, row: int, peaks: Numbers) -> tuple[Numbers, Numbers]:
    """Frames and bins of the output at which these peaks of the index lie at one alignment."""
    offset, stretch, shift = (float(each[row]) for each in (placed.offsets, placed.stretches, placed.shifts))
    at = np.rint(index.peak_frames[peaks] * np.float32(stretch) + np.float32(offset)).astype(np.int64)
    bins = np.rint(index.peak_bins[peaks] * np.float32(1 / STEPS) + np.float32(shift)).astype(np.int64)
    return at, bins


def _most_elsewhere(sums: Reals) -> float:
    """Of the evidence of a passage (the first of these) the share that it also has somewhat earlier or later (the
    others), where it is highest: much of music in the same key and rhythm, which fits as well a beat or a bar off. 0 to
    1."""
    return float(np.clip(sums[1:].max() / max(float(sums[0]), 1e-9), 0.0, 1.0))


def _placed(index: Index, fitted: _Alignments) -> Alignments:
    """The peaks of the clips of alignments."""
    first, last = index.peak_starts[fitted.clip], index.peak_starts[fitted.clip + 1]
    places = (each.astype(np.float32) for each in (fitted.offset, fitted.stretch, fitted.shift))
    return Alignments(first, last, *places)


def _score(strength: float, half: float) -> float:
    return strength**2 / (strength**2 + half**2)


def _root_of_duration(duration_s: float) -> float:
    """By which the strength that scores half in 30 s is less in an output of this duration."""
    within = min(max(duration_s, _SCORED_S[0]), _SCORED_S[1])
    return math.sqrt(within / _SCORED_S[1])
