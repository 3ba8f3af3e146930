"""Which clips of an index occur in an output, where, and how surely.

In three steps, each on less than the one before:

1. Votes. Each triplet of the output is looked up; what the index has of its shape votes for a place on the time line of
   all clips, with more weight the rarer the shape is. Rare shapes are taken first and their number is bounded, so that
   a check takes the same time whatever the music is. Compiled code counts them (`luthier_music.native.Votes`).
2. Alignments. Votes that agree on a place and a pitch shift are fitted with a stretch.
3. Evidence. The peaks of the clip are held against those of the output at that alignment. The passage taken is that
   with the most evidence: the log likelihood ratio of its peaks being heard, against being there by chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from luthier_evaluation.copies.index import SEMITONES, TICK, Index, Targets, triplets
from luthier_evaluation.copies.landmarks import BINS, BINS_PER_SEMITONE, FRAME_S, Landmarks, NoLandmarks
from luthier_music.native import Votes

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]

COPY_SCORE: Final = 0.68
"""From this score on a passage counts as a copy. 1 % of 345 outputs of half of the songs that hold no clip of an index
of 10,000 reach 0.673; of the other half 4.3 % of 115 of the songbook and none of 260 real ones exceed it
(`tests/bench/copies.py`)."""
LISTED: Final = 50
"""Clips that a search tells, at most."""

_MAX_SHIFT: Final = 1.75  # semitones
_SAME_PITCH: Final = 0.3  # semitones: so far apart at most is a copy whose pitch nobody changed
_MAX_STRETCH: Final = 0.045
_STRETCH_STEP: Final = 0.005
_ASKED_PER_S: Final = 25  # peaks of a second of the output
_ASKED: Final = Targets(6, 8)  # more than the index joins: other music may be louder than what it joins
_MOST_ASKED: Final = 40_000  # triplets; of longer outputs evenly fewer
_VOTES: Final = 3_000_000  # at any shift, rarest shapes first
_SAME_PITCH_VOTES: Final = 3_000_000  # and without one, where a shape has a fifth of the votes
_COMMON: Final = 4096  # votes of a shape that weigh 1 each; half as many weigh 1 more
_CELL_TICKS: Final = 16  # 0.74 s of the time line: a cell of votes
_CELL_BINS: Final = 3  # and a semitone of pitch shift
_SHIFTS: Final = 5  # cells of pitch shift
_CELLS: Final = 450  # with the most votes, that are fitted
_FITTED: Final = 250  # alignments, of which the evidence is weighed as they are
_VERIFIED: Final = 32  # of them with the most evidence are aligned more exactly
_FIT_TICKS: Final = 2  # votes within 93 ms agree
_FIT_WIDTH: Final = 96  # steps of the fit around a cell
_NEAR_BINS: Final = 1  # a peak is heard when one of the output is so near
_NEAR_FRAMES: Final = 2
_HEARD: Final = (0.45 * np.exp(-np.arange(256) / 12)).astype(np.float32)
"""Of a copy's peaks beyond chance, in the likelihood, by their rank in their second: as in a mix at -6 dB, where the
strongest stay."""
_EVIDENCE: Final = 36.0
"""Nats, times the root of the share, that score half in an output of 30 s."""
_SCORED_S: Final = (5.0, 30.0)
"""The evidence that scores half is by the root of the output's duration within these bounds, in seconds: what gathers
by chance is a sum over peaks, whose standard deviation is by the root of their number. Of the powers of share and
duration tried these caught most copies over all kinds of `tests/bench/copies.py`, on the half of the songs that the
threshold is of. The bounds are about the shortest and the longest outputs there."""

_SHIFT_OFFSET: Final = 16  # keeps differences of bins above 0
_SHIFT_CELL: Final = np.clip((np.arange(256) - _SHIFT_OFFSET + 7) // _CELL_BINS, 0, _SHIFTS - 1).astype(np.uint8)


@dataclass(frozen=True)
class Copy:
    """A passage of an output that is alike a passage of a clip.

    `clip`: position in the index. `score`, 0 to 1: how much is alike and how surely, e / (e + 36 squared times d), e =
    `share` times `evidence` squared, d = the output's duration by 30 s, 1/6 to 1; a copy from COPY_SCORE on. `at_s`,
    `clip_at_s`: where the passage begins in the output and in the clip; `duration_s`: of the output.
    `pitch_semitones`: of the output above the clip, -1.75 to 1.75 about; `stretch`: duration in the output by that in
    the clip, 0.955 to 1.045 about. `share`: of the clip's peaks in the passage, those that are heard in the output
    beyond chance, 1 = all; `evidence`: log likelihood ratio in nats.
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


def search(index: Index, output: Landmarks) -> list[Copy]:
    """The clips nearest to an output by descending score, at most LISTED, each once with its best passage.

    Those with `is_copy` are copies. Empty where the output or the index is silent.
    """
    peaks = output.strongest(_ASKED_PER_S)
    if not peaks.frames.size or not index.anchors.size:
        return []
    fitted = _alignments(index, output, _votes(index, output, peaks))
    best: dict[int, Copy] = {}
    for found in _verified(index, output, fitted) if fitted is not None else ():
        if found.clip not in best or found.score > best[found.clip].score:
            best[found.clip] = found
    return sorted(best.values(), key=lambda found: (-found.score, found.clip))[:LISTED]


def near_duplicates(
    index: Index,
    clips: Sequence[Landmarks],
    songs: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[NearDuplicate]:
    """Pairs of clips of different songs of which one holds a passage of the other, each pair once, as they are found.

    `clips` are those that the index was made of, `songs` tells the song of each. A search a clip, after each of which
    `progress` is told how many are done, of how many.
    """
    if not len(clips) == len(songs) == index.clips:
        raise NoLandmarks(f"clips and songs must be {index.clips}, as in the index: got {len(clips)} and {len(songs)}")
    told: set[tuple[int, int]] = set()
    for number, clip in enumerate(clips):
        for found in search(index, clip):
            pair = (min(number, found.clip), max(number, found.clip))
            if found.is_copy and songs[found.clip] != songs[number] and pair not in told:
                told.add(pair)
                yield NearDuplicate(number, found.clip, found)
        if progress:
            progress(number + 1, len(clips))


def _votes(index: Index, output: Landmarks, peaks: Landmarks) -> Votes:
    """Runs of the index's anchors whose shape a triplet of these peaks of the output has. Less what they are asked
    with, rows are ticks of the time line at the output's start, columns shifts in bins."""
    asked = triplets(peaks, _ASKED)
    every = -(-len(asked.shapes) // _MOST_ASKED)
    shapes, of = asked.shapes[::every] * np.int32(SEMITONES), asked.anchors[::every]

    def runs(reach_semitones: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Where the anchors with that shape begin in the index, and how many are within reach."""
        semitones = peaks.bins * np.float32(1 / BINS_PER_SEMITONE)
        low = np.clip(semitones - np.float32(reach_semitones), 0, SEMITONES - 1).astype(np.int32)
        high = np.clip(semitones + np.float32(reach_semitones), 0, SEMITONES - 1).astype(np.int32) + 1
        first = index.table[shapes + low[of]]
        return first, index.table[shapes + high[of]] - first

    first, counts = runs(_MAX_SHIFT)
    counts = _rarest(counts, _VOTES)
    same_first, same_counts = runs(_SAME_PITCH)
    same_counts = _rarest(np.where(counts > 0, np.uint32(0), same_counts), _SAME_PITCH_VOTES)
    first, counts = np.where(same_counts > 0, same_first, first), counts + same_counts
    kept = np.flatnonzero(counts)
    codes = (peaks.frames // TICK).astype(np.uint32) << 8 | np.rint(peaks.bins).astype(np.uint32)
    asked_with = (codes[of[kept]] - np.uint32(_ahead(output) << 8 | _SHIFT_OFFSET)).astype(np.uint32)
    lengths = counts[kept].astype(np.uint32)
    return Votes(index.anchors, first[kept], lengths, asked_with, _SHIFT_CELL, _SHIFTS, _weights(lengths))


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


def _alignments(index: Index, output: Landmarks, votes: Votes) -> _Alignments | None:
    """The alignments with the most votes, best first."""
    counts = votes.counts(index.ticks + _ahead(output) + 1)
    pairs = counts[1:] + counts[:-1]  # a shift may lie between two cells
    enough, too_much = 2, int(pairs.max(initial=2)) + 1
    while too_much - enough > 1:  # the lowest count that not too many reach
        middle = (enough + too_much) // 2
        if np.count_nonzero(pairs >= middle) > 6 * _CELLS:
            enough = middle
        else:
            too_much = middle
    most = np.flatnonzero(pairs >= enough)
    most = most[np.argsort(-pairs[most].astype(np.int32), kind="stable")]
    groups = np.zeros(len(counts) + 2 * _SHIFTS + 2, np.uint16)
    chosen = 0
    for cell in most[: 20 * _CELLS].tolist():
        if chosen == _CELLS:
            break
        if groups[cell] or groups[cell + 1]:
            continue
        chosen += 1
        for neighbour in (cell, cell + _SHIFTS, cell - _SHIFTS):  # and those that are a little earlier or later
            if neighbour >= 0:
                around = groups[neighbour : neighbour + 2]
                around[around == 0] = chosen
    groups = groups[: len(counts)]
    of, anchors = votes.within(groups, int(counts[groups > 0].sum(dtype=np.int64)))
    if not len(anchors):
        return None
    asked = votes.asked[of]
    moved = anchors - asked
    group = groups[(moved >> np.uint32(12)) * np.uint32(_SHIFTS) + _SHIFT_CELL[moved & np.uint32(255)]].astype(np.int64)
    codes = asked + np.uint32(_ahead(output) << 8 | _SHIFT_OFFSET)
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


def _gained(evidence: NDArray[np.float32]) -> tuple[Reals, Reals]:
    """Of evidence (alignments, peaks): that of the best passage up to each peak, and of all of them."""
    upto = np.concatenate([np.zeros((len(evidence), 1)), evidence.cumsum(axis=1, dtype=np.float64)], axis=1)
    return upto - np.minimum.accumulate(upto, axis=1), upto


@dataclass(frozen=True)
class _Held:
    """The peaks of the clips of alignments, to be held against an output. Arrays (alignments, peaks), of which those
    that are `there` count; `heard` (bins, frames), flat: where peaks of the output are near; its `frames`."""

    there: NDArray[np.bool_]
    clip_frames: NDArray[np.float32]
    by_chance: NDArray[np.float32]
    hit: NDArray[np.float32]
    miss: NDArray[np.float32]
    rows: NDArray[np.int32]
    heard: NDArray[np.uint8]
    frames: int

    @classmethod
    def of(cls, index: Index, fitted: _Alignments, chance: NDArray[np.float32], heard: NDArray[np.uint8]) -> "_Held":
        """`chance` (bins,): the share of `heard` (bins, frames)."""
        first, last = index.peak_starts[fitted.clip], index.peak_starts[fitted.clip + 1]
        places = first[:, None] + np.arange(int((last - first).max()))  # (alignments, peaks)
        there = places < last[:, None]
        places = np.minimum(places, len(index.peak_frames) - 1)
        bins = np.rint(index.peak_bins[places] + fitted.shift[:, None].astype(np.float32)).astype(np.int32)
        there &= (bins >= 0) & (bins < BINS)
        bins = np.clip(bins, 0, BINS - 1)
        by_chance = chance[bins]
        likely = _HEARD[index.peak_ranks[places]]
        return cls(
            there=there,
            clip_frames=index.peak_frames[places],
            by_chance=by_chance,
            hit=np.log1p(likely * (1 - by_chance) / by_chance),
            miss=np.log1p(-likely),
            rows=bins * np.int32(heard.shape[1]),
            heard=heard.ravel(),
            frames=heard.shape[1],
        )

    def weighed(
        self, offset: Reals, stretch: Reals
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
        """Which peaks lie within the output, which are heard, and the evidence of each."""
        at = self.clip_frames * stretch[:, None].astype(np.float32)
        at += offset[:, None].astype(np.float32) + np.float32(0.5)
        inside = self.there & (at >= 0) & (at < self.frames)
        is_heard = (self.heard[self.rows + np.clip(at, 0, self.frames - 1).astype(np.int32)] > 0) & inside
        return inside, is_heard, np.where(is_heard, self.hit, np.where(inside, self.miss, np.float32(0)))


def _verified(index: Index, output: Landmarks, fitted: _Alignments) -> Iterator[Copy]:
    """The passage with the most evidence at each alignment."""
    heard = np.zeros((BINS, output.frame_count + 1), np.uint8)
    heard[np.rint(output.bins).astype(np.int64), output.frames] = 1
    heard = maximum_filter1d(heard, 2 * _NEAR_BINS + 1, axis=0, mode="constant")
    heard = maximum_filter1d(heard, 2 * _NEAR_FRAMES + 1, axis=1, mode="constant")
    # Of each bin by itself, so that the same key or the same instrument is no evidence.
    chance = np.clip(heard.mean(axis=1), 0.02, 0.5).astype(np.float32)

    held = _Held.of(index, fitted, chance, heard)
    promising = np.argsort(-_gained(held.weighed(fitted.offset, fitted.stretch)[2])[0].max(axis=1), kind="stable")[
        :_VERIFIED
    ]
    fitted = fitted.only(promising)
    held = _Held.of(index, fitted, chance, heard)
    offset, stretch, most = fitted.offset, fitted.stretch, np.full(len(fitted.clip), -np.inf)
    for change in (0.0, -_STRETCH_STEP / 2, _STRETCH_STEP / 2):
        for late in (0, -2, 2, -4, 4):
            moved = fitted.offset + late - change * fitted.pivot
            evidence = held.weighed(moved, fitted.stretch + change)[2].sum(axis=1, dtype=np.float64)
            better = evidence > most
            most = np.where(better, evidence, most)
            offset, stretch = np.where(better, moved, offset), np.where(better, fitted.stretch + change, stretch)
    inside, is_heard, evidence = held.weighed(offset, stretch)
    gained, upto = _gained(evidence)
    ends = gained.argmax(axis=1)
    half = _EVIDENCE**2 * min(max(output.duration_s, _SCORED_S[0]), _SCORED_S[1]) / _SCORED_S[1]
    for row, end in enumerate(ends.tolist()):
        begin = int(upto[row, : end + 1].argmin())
        counted = np.flatnonzero(inside[row, begin:end]) + begin
        if not len(counted):
            continue
        luck = held.by_chance[row, counted]
        share = max(0.0, float((is_heard[row, counted] - luck).sum() / (1 - luck).sum()))
        nats = float(gained[row, end])
        start_s, end_s = (float(held.clip_frames[row, place]) * FRAME_S for place in (counted[0], counted[-1]))
        yield Copy(
            clip=int(fitted.clip[row]),
            score=share * nats**2 / (share * nats**2 + half),
            at_s=max(0.0, float(offset[row]) * FRAME_S + start_s * float(stretch[row])),
            clip_at_s=start_s,
            duration_s=(end_s - start_s) * float(stretch[row]),
            pitch_semitones=float(fitted.shift[row]) / BINS_PER_SEMITONE,
            stretch=float(stretch[row]),
            share=share,
            evidence=nats,
        )
