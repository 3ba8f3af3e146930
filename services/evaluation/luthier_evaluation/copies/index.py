"""An index of the landmarks of many clips, in which passages are looked up by triplets of peaks.

A triplet is an anchor and two later peaks, one soon after it and one later. What neither a pitch shift nor the place in
the clip changes is its *shape*: the two intervals in semitones and the two steps in time, in bins so wide that a
stretch of 4 % mostly stays within. All triplets of all clips are sorted by shape and then by the anchor's frequency, so
that those which a recording may have at any shift of up to `MAX_SHIFT` semitones are one run of the table.

Beside them the strongest peaks of each clip are kept by themselves, to be laid on a recording's at every place: under
other music single peaks survive more often than three of a triplet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_evaluation.copies.landmarks import BINS, BINS_PER_SEMITONE, FRAME_S, STEPS, Landmarks, NoLandmarks
from luthier_music.native import Peaks

Ints = NDArray[np.int32]

MAX_CLIPS: Final = 100_000
INDEXED_PER_S: Final = 10
"""Peaks of a second that are anchors and ends of triplets in the index: the strongest are heard in a mix, too."""
VERIFIED_PER_S: Final = 50
"""Peaks of a second of a clip that are held against an output."""
TICK: Final = 2
"""Frames: anchors are placed so exactly on the time line of all clips."""
GAP_TICKS: Final = 100
"""Silence of 4.6 s between clips on that time line: a passage that runs over two clips is found in each."""

_INTERVAL: Final = 15  # semitones, up or down, from the anchor to another peak
_INTERVALS: Final = 2 * _INTERVAL + 1
_SOON: Final = np.array([3, 6, 9, 12, 15, 18, 21, 24])  # frames: edges of the steps in time to the second peak
_LATER: Final = np.array([24, 28, 32, 37, 42, 48, 55, 63])  # and to the third
SHAPES: Final = _INTERVALS * (len(_SOON) - 1) * _INTERVALS * (len(_LATER) - 1)
SEMITONES: Final = BINS // BINS_PER_SEMITONE
PLACED_PER_S: Final = 10
"""Peaks of a second that are laid on those of an output at every place."""
FIRST_PER_S: Final = 3
"""Of them those that are laid first."""
MAX_TICKS: Final = (1 << 24) - (1 << 15)  # with 8 bits of frequency in 32 bits, and an output before it


@dataclass(frozen=True)
class Targets:
    """How many peaks are joined with an anchor: the strongest of those soon after it, and of those later."""

    soon: int
    later: int


INDEXED: Final = Targets(2, 3)


@dataclass(frozen=True)
class Triplets:
    """`anchors` (n,): positions among the peaks they were made of; `shapes` (n,): 0 to SHAPES."""

    anchors: Ints
    shapes: Ints


def triplets(peaks: Landmarks, targets: Targets) -> Triplets:
    """The triplets of all peaks."""
    frames, bins, ranks = peaks.frames.astype(np.int32), peaks.bins, peaks.ranks
    soon, has_soon = _strongest_between(frames, bins, ranks, _SOON, targets.soon)
    later, has_later = _strongest_between(frames, bins, ranks, _LATER, targets.later)
    first = _side(frames, bins, soon, _SOON)  # (peaks, targets)
    second = _side(frames, bins, later, _LATER)
    shapes = first[:, :, None] * (_INTERVALS * (len(_LATER) - 1)) + second[:, None, :]
    anchors, one, other = np.nonzero(has_soon[:, :, None] & has_later[:, None, :])
    return Triplets(anchors.astype(np.int32), shapes[anchors, one, other])


def _side(frames: Ints, bins: NDArray[np.float32], others: NDArray[np.int64], edges: NDArray[np.int64]) -> Ints:
    """Interval and step in time from each peak to others (peaks, targets), as one number."""
    steps = frames[others] - frames[:, None]
    step_bins = np.searchsorted(edges, np.arange(edges[-1] + 1), side="right").astype(np.int32) - 1
    step = step_bins[np.clip(steps, edges[0], edges[-1] - 1)]
    interval = np.rint((bins[others] - bins[:, None]) * np.float32(1 / BINS_PER_SEMITONE)).astype(np.int32)
    side: Ints = (np.clip(interval, -_INTERVAL, _INTERVAL) + _INTERVAL) * np.int32(len(edges) - 1) + step
    return side


def _strongest_between(
    frames: Ints, bins: NDArray[np.float32], ranks: NDArray[np.uint8], edges: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions (peaks, count) of the strongest peaks between the edges in time and within the interval, and which
    of them there are."""
    starts = np.searchsorted(frames, frames + edges[0])
    widest = int((np.searchsorted(frames, frames + edges[-1]) - starts).max(initial=0))
    others = starts[:, None] + np.arange(max(widest, count))
    there = others < len(frames)
    others = np.minimum(others, max(len(frames) - 1, 0))
    there &= frames[others] < frames[:, None] + edges[-1]
    there &= np.abs(bins[others] - bins[:, None]) < np.float32((_INTERVAL + 0.5) * BINS_PER_SEMITONE)
    order = np.where(there, ranks[others], np.uint8(255))
    chosen = np.argsort(order, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(others, chosen, 1), np.take_along_axis(there, chosen, 1)


@dataclass(frozen=True)
class Index:
    """All triplets and peaks of clips that are known by their position, 0 to clips - 1.

    Memory: 4 bytes a triplet, about 1,100 of 30 s, 6 bytes of each of 1,500 peaks, 3 of the strongest 300, and a table
    of 11 MB: 143 MB for 10,000 clips of 30 s.
    """

    clips: int
    starts: NDArray[np.int64]  # (clips,) ticks on the time line of all
    ticks: int  # of that time line
    table: NDArray[np.uint32]  # (SHAPES * SEMITONES + 1,): where each shape with its anchor's semitone starts
    anchors: NDArray[np.uint32]  # (triplets,): tick << 8 | bin
    placed_ticks: NDArray[np.uint16]  # (placed,) of the strongest peaks, in the clip
    placed_bins: NDArray[np.uint8]  # (placed,)
    placed_bounds: NDArray[np.int64]  # (clips, 3): where those of a clip begin, those of FIRST_PER_S end, and all do
    lengths: NDArray[np.int32]  # (clips,) ticks
    peak_starts: NDArray[np.int64]  # (clips + 1,)
    peak_frames: NDArray[np.uint16]  # (peaks,) in the clip
    peak_bins: NDArray[np.uint16]  # in STEPS of a bin
    peak_ranks: NDArray[np.uint8]  # 0 = the strongest of its second
    peak_levels: NDArray[np.uint8]  # power, as landmarks have it

    @classmethod
    def of(cls, clips: Sequence[Landmarks]) -> "Index":
        """The index of clips, in their order; the same clips give the same index. Silent ones are found nowhere.

        NoLandmarks where they are more than MAX_CLIPS or last more than 216 h together with gaps of 4.6 s.
        """
        if len(clips) > MAX_CLIPS:
            raise NoLandmarks(f"clips must be at most {MAX_CLIPS}: got {len(clips)}")
        lengths = np.array([clip.frame_count // TICK + 1 + GAP_TICKS for clip in clips], np.int64)
        starts = np.cumsum(lengths) - lengths
        ticks = int(lengths.sum())
        if ticks > MAX_TICKS:
            hours = MAX_TICKS * TICK * FRAME_S / 3600
            raise NoLandmarks(f"clips and gaps of 4.6 s must last at most {hours:.0f} h together")
        keys, anchors, frames, bins, ranks, levels = [], [], [], [], [], []
        placed_ticks, placed_bins, placed = [], [], []
        for start, clip in zip(starts, clips, strict=True):
            peaks = clip.strongest(INDEXED_PER_S)
            made = triplets(peaks, INDEXED)
            at, of = peaks.frames[made.anchors], peaks.bins[made.anchors]
            keys.append(made.shapes * np.int32(SEMITONES) + (of * np.float32(1 / BINS_PER_SEMITONE)).astype(np.int32))
            anchors.append((start + at // TICK).astype(np.uint32) << 8 | np.rint(of).astype(np.uint32))
            strong = clip.strongest(PLACED_PER_S)
            of = np.rint(strong.bins).astype(np.uint8)
            order = np.lexsort((of, strong.ranks >= FIRST_PER_S))  # by bin, since what is counted is listed by bin
            placed_ticks.append(strong.frames[order] // np.uint16(TICK))
            placed_bins.append(of[order])
            placed.append((int((strong.ranks < FIRST_PER_S).sum()), len(order)))
            held = clip.strongest(VERIFIED_PER_S)
            frames.append(held.frames)
            bins.append(np.rint(held.bins * STEPS).astype(np.uint16))
            ranks.append(held.ranks)
            levels.append(held.levels)
        table, sorted_anchors = _inverted(keys, anchors, SHAPES * SEMITONES)
        placed_sizes = np.array(placed, np.int64).reshape(-1, 2)
        placed_starts = np.cumsum(placed_sizes[:, 1]) - placed_sizes[:, 1]
        return cls(
            clips=len(clips),
            starts=starts,
            ticks=ticks,
            table=table,
            anchors=sorted_anchors,
            placed_ticks=np.concatenate([np.empty(0, np.uint16), *placed_ticks]),
            placed_bins=np.concatenate([np.empty(0, np.uint8), *placed_bins]),
            placed_bounds=np.stack([placed_starts, *(placed_starts + placed_sizes.T)], axis=1),
            lengths=(lengths - GAP_TICKS).astype(np.int32),
            peak_starts=np.cumsum([0, *(len(one) for one in frames)]),
            peak_frames=np.concatenate([np.empty(0, np.uint16), *frames]),
            peak_bins=np.concatenate([np.empty(0, np.uint16), *bins]),
            peak_ranks=np.concatenate([np.empty(0, np.uint8), *ranks]),
            peak_levels=np.concatenate([np.empty(0, np.uint8), *levels]),
        )

    @property
    def peaks(self) -> Peaks:
        """All peaks, as compiled code takes them."""
        return Peaks(self.peak_frames, self.peak_bins, self.peak_ranks)

    @property
    def size_bytes(self) -> int:
        """Memory of its arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def _inverted(
    keys: Sequence[Ints], anchors: Sequence[NDArray[np.uint32]], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where each of so many keys starts (count + 1,), and the anchors in the order of their keys."""
    all_keys = np.concatenate([np.empty(0, np.int32), *keys])
    table = np.zeros(count + 1, np.uint32)
    np.cumsum(np.bincount(all_keys, minlength=count), out=table[1:])
    order = np.argsort(all_keys, kind="stable")
    return table, np.concatenate([np.empty(0, np.uint32), *anchors])[order]
