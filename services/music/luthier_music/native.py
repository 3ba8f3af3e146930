"""The compiled loops of native/, for arrays: what numpy would need several passes for is one here.

Arrays become pointers here, once they are converted or, where they are changed in place, checked. Calls let other
threads of Python run.
"""

import ctypes
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


def _load() -> ctypes.CDLL:
    spec = find_spec("luthier_music_native")
    if spec is None or spec.origin is None:
        raise ImportError("luthier_music has no compiled part: `uv sync` builds it")
    library = ctypes.CDLL(str(Path(spec.origin).with_name("luthier_music.so")))
    pointer, whole, number, single = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
    runs: list[Any] = [pointer, pointer, pointer, pointer, whole, pointer, ctypes.c_uint32, ctypes.c_uint32]
    map_of: list[Any] = [pointer, pointer, whole, whole, whole]
    peaks: list[Any] = [pointer, pointer, pointer]
    some: list[Any] = [pointer, pointer, number, whole, pointer, pointer, pointer, pointer]
    level_map: list[Any] = [pointer, pointer, whole, whole, number, number, single]
    levelled: list[Any] = [pointer, pointer, pointer, whole, whole]
    gained: list[Any] = [single, single, single, number, number, whole, pointer, pointer, pointer, pointer]
    moved: list[Any] = [pointer, whole, single, single, number, pointer, pointer]
    takes: dict[str, list[Any]] = {
        "hop_energies": [pointer, number, pointer, whole, pointer, pointer, pointer],
        "add_to_mix": [pointer, whole, single, pointer, whole, pointer, whole, pointer],
        "to_steps": [pointer, whole, number, single, pointer],
        "highest": [pointer, whole],
        "read_warped": [pointer, whole, pointer, number, number, pointer, whole, pointer],
        "count_votes": [*runs, pointer, pointer, whole, pointer],
        "mark_peaks": [pointer, whole, whole, pointer, pointer, whole],
        "count_marks": [pointer, whole, whole, whole, pointer, pointer],
        "sum_evidence": [*map_of, *peaks, *some, pointer],
        "align_peaks": [*map_of, *peaks, *some, pointer, single, number, pointer],
        "peak_classes": [*map_of, pointer, pointer, whole, whole, single, single, single, pointer],
        "votes_in_cells": [pointer, whole, pointer, whole, whole, pointer],
        "best_places": [*[pointer] * 6, whole, *[pointer] * 3, number, number, *[pointer] * 5],
        "level_evidence": [*level_map, *levelled, *gained],
        "sum_levels": [*level_map, *levelled, *moved],
        "masked_distances": [pointer, pointer, whole, pointer, whole, pointer, pointer],
        "bit_agreements": [pointer, whole, pointer, whole, whole, pointer, pointer],
        "band_powers": [pointer, whole, whole, *[pointer] * 3, whole, whole, whole, pointer, pointer, whole],
        "decimated": [pointer, whole, number, pointer, number, number, pointer, whole],
    }
    gives: dict[str, Any] = {"to_steps": single, "highest": single, "votes_in_cells": whole, "level_evidence": number}
    for name, arguments in takes.items():
        function = getattr(library, f"luthier_{name}")
        function.argtypes, function.restype = arguments, gives.get(name)
    return library


_LIBRARY: Final = _load()
_MOST_WEIGHTS: Final = 1024  # as in warped.c
_MOST_FACTOR, _MOST_TAPS = 16, 512  # as in decimated.c
_COLUMN_BITS: Final = 8  # of a place, as in votes.c
PEAK_CLASSES: Final = 4  # these, as in peaks.c
PEAK_GROUPS: Final = 5
PEAK_STEPS: Final = 64  # of a bin
PEAK_OUTSIDE: Final = 255
LEVELS: Final = 128  # as in levels.c
_FRAME_PARTS, _BIN_PARTS, _MARGIN = 2, 3, 8
_MOST_REACH: Final = 16  # as in peaks.c
_BAND_FRAMES: Final = 8  # as in bands.c
_CHUNK: Final = 64  # as in places.c
_MAX_MAP_BYTES: Final = 1 << 30


def hop_energies(
    samples: NDArray[np.float32], edges: NDArray[np.int64], sos: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Of samples [frames, 1..2], from each of the frames `edges` [hops + 1] to the next: the mean square [hops] once
    filtered by two second-order sections [2, 6], summed over channels; the peak [hops] before, NaN or infinity where
    there is one."""
    hops = edges.size - 1
    energies, peaks = np.empty(hops), np.empty(hops, np.float32)
    edges = np.ascontiguousarray(edges, np.int64)
    samples, sos = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(sos, np.float64)
    pointers = (samples.ctypes.data, samples.shape[1], edges.ctypes.data, hops, sos.ctypes.data)
    _LIBRARY.luthier_hop_energies(*pointers, energies.ctypes.data, peaks.ctypes.data)
    return energies, peaks


def add_to_mix(
    samples: NDArray[np.float32], gain: float, fade: NDArray[np.float32], mix: NDArray[np.float32], block_frames: int
) -> NDArray[np.float32]:
    """Multiply samples [frames, 2] by a gain and their end by `fade` [any], in place, and add them to the mix [frames,
    2]. Of each `block_frames` of them, the last one shorter, the peak then [blocks]."""
    if not samples.shape == mix.shape == (len(samples), 2):
        raise ValueError("samples and mix must be [frames, 2], of one length")
    if not all(array.dtype == np.float32 and array.flags.c_contiguous for array in (samples, mix, fade)):
        raise ValueError("samples, mix and fade must be whole arrays of float32")
    if not (samples.flags.writeable and mix.flags.writeable):
        raise ValueError("samples and mix are changed, so they must be writeable")
    peaks = np.empty(-(-len(samples) // block_frames), np.float32)
    faded = fade.ctypes.data, fade.size
    _LIBRARY.luthier_add_to_mix(
        samples.ctypes.data, len(samples), gain, *faded, mix.ctypes.data, block_frames, peaks.ctypes.data
    )
    return peaks


def bit_agreements(
    ours: NDArray[np.uint8], count: int, theirs: NDArray[np.uint8], first: int, lags: int
) -> NDArray[np.int32]:
    """Of the first `count` bits of `ours`, eight a byte, the first highest, how many are those of `theirs` from bit
    `first` on, and from each of `lags` bits on. ValueError where these rows are not as long."""
    last = first + lags - 1 + count
    if not (0 < count <= 8 * ours.size and lags >= 1 and first >= 0 and last <= 8 * theirs.size):
        raise ValueError("our bits must lie on theirs at every lag")
    padded = np.zeros(-(-count // 64) * 8, np.uint8)
    padded[: -(-count // 8)] = ours[: -(-count // 8)]
    begin = first % 8
    theirs = np.ascontiguousarray(theirs[first // 8 : -(-last // 8)], np.uint8)
    room, agreed = np.empty(theirs.size + 8, np.uint8), np.empty(begin + lags, np.int32)
    row = theirs.ctypes.data, theirs.size, begin + lags
    _LIBRARY.luthier_bit_agreements(padded.ctypes.data, count, *row, room.ctypes.data, agreed.ctypes.data)
    return agreed[begin:]


def decimated(samples: NDArray[np.float32], taps: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The mean of the channels of samples [frames, channels] or [frames], weighed by a filter's taps [odd], at each
    `factor`th frame: as many as last as long, to the nearest. ValueError where they do not fit."""
    samples, taps = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(taps, np.float32)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise ValueError("samples must be [frames, 1 or more channels] or [frames]")
    if not (taps.ndim == 1 and taps.size % 2 and taps.size <= _MOST_TAPS and 1 <= factor <= _MOST_FACTOR):
        raise ValueError(f"taps must be [odd], at most {_MOST_TAPS}, and the factor 1 to {_MOST_FACTOR}")
    out = np.empty(round(len(samples) / factor), np.float32)
    channels = samples.shape[1] if samples.ndim == 2 else 1
    by = taps.ctypes.data, taps.size, factor
    _LIBRARY.luthier_decimated(samples.ctypes.data, len(samples), channels, *by, out.ctypes.data, out.size)
    return out


@dataclass(frozen=True)
class Bands:
    """Bands of a spectrum of so many `bins`: band b weighs those from `first` [bands] on by `weights` [any] from
    `starts` [bands + 1] of b to that of the next. int32, but weights, float32. ValueError where they leave it."""

    bins: int
    first: NDArray[np.int32]
    starts: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        arrays = (self.first, self.starts, self.weights)
        whole = all(array.flags.c_contiguous and array.ndim == 1 for array in arrays)
        if [array.dtype for array in arrays] != [np.int32, np.int32, np.float32] or not whole:
            raise ValueError("first, starts and weights must be whole rows of int32, int32 and float32")
        if self.starts.size != self.first.size + 1 or self.starts[0] or self.starts[-1] != self.weights.size:
            raise ValueError("starts must be [bands + 1], from 0 to the number of weights")
        if np.any(self.starts[1:] < self.starts[:-1]):
            raise ValueError("starts must ascend")
        if self.first.size and not (self.first.min() >= 0 and self._ends().max() <= self.bins):
            raise ValueError(f"bands must lie within the {self.bins} bins")

    def _ends(self) -> NDArray[np.int64]:
        return self.first.astype(np.int64) + np.diff(self.starts)

    def powers(self, spectra: NDArray[np.complex64], out: NDArray[np.float32]) -> None:
        """The weighed sums of the squared magnitudes of spectra [frames, bins] to `out` [bands, frames], which may be
        some columns of a whole array. ValueError where they do not fit."""
        if spectra.dtype != np.complex64 or not spectra.flags.c_contiguous or spectra.shape[1:] != (self.bins,):
            raise ValueError(f"spectra must be a whole array [frames, {self.bins}] of complex64")
        if out.dtype != np.float32 or out.shape != (self.first.size, len(spectra)) or out.strides[1] != out.itemsize:
            raise ValueError(f"out must be [{self.first.size}, {len(spectra)}] of float32, its rows whole")
        squares = np.empty((self.bins, _BAND_FRAMES), np.float32)
        _LIBRARY.luthier_band_powers(
            spectra.ctypes.data,
            *spectra.shape,
            *(array.ctypes.data for array in (self.starts, self.first, self.weights)),
            self.first.size,
            int(self.first.min(initial=self.bins)),
            int(self._ends().max(initial=0)),
            squares.ctypes.data,
            out.ctypes.data,
            out.strides[0] // out.itemsize,
        )


def masked_distances(
    words: NDArray[np.uint32], mask: NDArray[np.uint32], query: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Of a query [m] laid on words [n] from each place [n - m + 1] on, the bits that differ and the bits that count,
    which are those that `mask` [n] has. ValueError where they do not fit."""
    places = words.size - query.size + 1
    arrays = (words, mask, query)
    if not all(each.dtype == np.uint32 and each.ndim == 1 and each.flags.c_contiguous for each in arrays):
        raise ValueError("words, mask and query must be whole rows of uint32")
    if words.size != mask.size or not query.size or places < 1:
        raise ValueError("mask must be as long as words, and the query from 1 word to as many")
    differ, counted = np.empty(places, np.int32), np.empty(places, np.int32)
    pointers = words.ctypes.data, mask.ctypes.data, places, query.ctypes.data, query.size
    _LIBRARY.luthier_masked_distances(*pointers, differ.ctypes.data, counted.ctypes.data)
    return differ, counted


def to_steps(samples: NDArray[np.floating], gain: float) -> tuple[NDArray[np.int32], float]:
    """Samples [frames, channels] times a gain in steps of 16 bit [channels, frames], and their peak before they are
    rounded, NaN or infinity where there is one. Above 1.0 the steps mean nothing."""
    samples = np.ascontiguousarray(samples, np.float32)
    steps = np.empty(samples.shape[::-1], np.int32)
    return steps, _LIBRARY.luthier_to_steps(samples.ctypes.data, *samples.shape, gain, steps.ctypes.data)


def highest(samples: NDArray[np.float32]) -> float:
    """Largest absolute sample, 0 for none; NaN or infinity where there is one."""
    samples = np.ascontiguousarray(samples, np.float32)
    return float(_LIBRARY.luthier_highest(samples.ctypes.data, samples.size))


def read_warped(
    played: NDArray[np.float32], phases: NDArray[np.float32], at: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What was played [any, 2], read at the places `at` [frames], 0 or more, of a grid that is as many times as fine as
    `phases` [up, taps] has rows: those of a low-pass filter, of an odd number of taps. [frames, 2]; behind the end, the
    last value."""
    played, at = np.ascontiguousarray(played, np.float32), np.ascontiguousarray(at, np.float64)
    phases = np.ascontiguousarray(phases, np.float32)
    if played.ndim != 2 or played.shape[1] != 2 or not len(played):
        raise ValueError("samples must be [1 or more, 2]")
    if not phases.shape[1] % 2 or phases.size > _MOST_WEIGHTS:
        raise ValueError(f"phases must be [up, odd], at most {_MOST_WEIGHTS}")
    if at.size and not at.min() >= 0:
        raise ValueError("places must be 0 or more")
    out = np.empty((at.size, 2), np.float32)
    sizes = phases.ctypes.data, *phases.shape
    _LIBRARY.luthier_read_warped(played.ctypes.data, len(played), *sizes, at.ctypes.data, at.size, out.ctypes.data)
    return out


@dataclass(frozen=True)
class Votes:
    """What an inverted index says of places, each a row << 8 | a column.

    Runs of its `entries` [any], from `first` [runs], `lengths` [runs] of them, vote for places: an entry less `asked`
    [runs], with the weight `weights` [runs]. Places are counted in cells: `cell_rows` high, a power of two, and
    `column_cells` [256] tells a column's, below `width`. All are uint32, but `column_cells` and `weights`,
    uint8. ValueError where runs leave the entries or cells the width.
    """

    entries: NDArray[np.uint32]
    first: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    asked: NDArray[np.uint32]
    column_cells: NDArray[np.uint8]
    width: int
    weights: NDArray[np.uint8]
    cell_rows: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.cell_rows <= 1 << 16 or self.cell_rows & (self.cell_rows - 1):
            raise ValueError(f"cell_rows must be a power of two, 1 to {1 << 16}: got {self.cell_rows}")
        arrays = (self.entries, self.first, self.lengths, self.asked)
        if not all(array.dtype == np.uint32 and array.flags.c_contiguous for array in arrays):
            raise ValueError("entries, first, lengths and asked must be whole arrays of uint32")
        if not self.first.shape == self.lengths.shape == self.asked.shape == (self.first.size,):
            raise ValueError("first, lengths and asked must be [runs], of one length")
        if (
            self.weights.dtype != np.uint8
            or not self.weights.flags.c_contiguous
            or self.weights.shape != self.first.shape
        ):
            raise ValueError("weights must be a whole array [runs] of uint8")
        ends = self.first.astype(np.int64) + self.lengths
        if ends.max(initial=0) > self.entries.size:
            raise ValueError(f"runs must end within the {self.entries.size} entries: got {ends.max()}")
        whole = self.column_cells.dtype == np.uint8 and self.column_cells.flags.c_contiguous
        if not whole or self.column_cells.shape != (256,) or self.column_cells.max() >= self.width:
            raise ValueError("column_cells must be a whole array [256] of uint8, below the width")

    def counts(self, rows: int) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        """The weights of the votes for each cell, summed: `width` cells for each `cell_rows` of so many rows. No more
        is added to what is above 32512. And the cell [votes] of each vote, in the order of the runs."""
        counts = np.zeros(-(-rows // self.cell_rows) * self.width, np.uint16)
        cells = np.empty(int(self.lengths.sum(dtype=np.int64)), np.uint32)
        of_cells = counts.ctypes.data, counts.size, cells.ctypes.data
        _LIBRARY.luthier_count_votes(*self._pointers(), self.weights.ctypes.data, *of_cells)
        return counts, cells

    def told(self, votes: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """Run and entry of these votes, by their positions in the order of the runs."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        runs = np.searchsorted(ends, votes, side="right")
        return runs, self.entries[self.first[runs] + votes - (ends - self.lengths)[runs]]

    def _pointers(self) -> tuple[int, int, int, int, int, int, int, int]:
        arrays = (self.entries, self.first, self.lengths, self.asked)
        entries, first, lengths, asked = (array.ctypes.data for array in arrays)
        bits = _COLUMN_BITS + self.cell_rows.bit_length() - 1
        return entries, first, lengths, asked, self.first.size, self.column_cells.ctypes.data, self.width, bits


def votes_in_cells(cells: NDArray[np.uint32], chosen: NDArray[np.int64], room: int) -> NDArray[np.uint32]:
    """The votes for one of the `chosen` cells, of all whose `cells` these are [votes], by their positions, the first
    `room` of them."""
    most = int(chosen.max(initial=-1)) + 1
    if cells.dtype != np.uint32 or not cells.flags.c_contiguous or chosen.min(initial=0) < 0:
        raise ValueError("cells must be a whole array of uint32, chosen ones 0 or more")
    bits = np.zeros(-(-most // 64), np.uint64)  # a bit each, so that they stay in the cache
    np.bitwise_or.at(bits, chosen // 64, np.uint64(1) << (chosen % 64).astype(np.uint64))
    found = np.empty(room, np.uint32)
    sizes = cells.ctypes.data, cells.size, bits.ctypes.data, most, room
    return found[: _LIBRARY.luthier_votes_in_cells(*sizes, found.ctypes.data)]


@dataclass(frozen=True)
class BestPlaces:
    """Arrays [some] int32 of clips: at their best place of a recording, what two neighbouring ticks count together
    (`most`) and the tick at which the clip begins (`at`), below 0 where that is before the recording; the most that
    eight ticks count (`wide`); what there is at all places (`total`)."""

    most: NDArray[np.int32]
    at: NDArray[np.int32]
    wide: NDArray[np.int32]
    total: NDArray[np.int32]


@dataclass(frozen=True)
class PlacedPeaks:
    """Peaks of a recording by their bin, on which those of clips are laid at every place.

    `ticks` [peaks] uint16: those of bin b from `starts` [bins + 1] uint32 of b to that of b + 1; all below `rows`. Each
    counts `weights` [bins] uint8. ValueError where they are something else.
    """

    ticks: NDArray[np.uint16]
    starts: NDArray[np.uint32]
    weights: NDArray[np.uint8]
    rows: int

    def __post_init__(self) -> None:
        arrays = (self.ticks, self.starts, self.weights)
        whole = all(array.flags.c_contiguous and array.ndim == 1 for array in arrays)
        if [array.dtype for array in arrays] != [np.uint16, np.uint32, np.uint8] or not whole:
            raise ValueError("ticks, starts and weights must be whole rows of uint16, uint32 and uint8")
        if not 1 <= self.rows <= 1 << 16 or self.ticks.max(initial=0) >= self.rows:
            raise ValueError(f"ticks must be below rows, which must be 1 to {1 << 16}")
        if self.starts.size != self.weights.size + 1 or self.starts[-1] > self.ticks.size:
            raise ValueError("starts must be [bins + 1] and lie within the ticks, weights [bins]")
        if np.any(self.starts[1:] < self.starts[:-1]):
            raise ValueError("starts must ascend")

    def best(
        self,
        ticks: NDArray[np.uint16],
        bins: NDArray[np.uint8],
        bounds: NDArray[np.int64],
        lengths: NDArray[np.int32],
        some: NDArray[np.int64],
    ) -> BestPlaces:
        """The best places of `some` of the clips whose peaks are `ticks` and `bins` [peaks] from `bounds` [clips, 2] on
        and up to there, those below `lengths` [clips], in ticks. Counts above 65535 begin at 0 again."""
        types = [array.dtype for array in (ticks, bins, bounds, lengths, some)]
        if types != [np.uint16, np.uint8, np.int64, np.int32, np.int64]:
            raise ValueError("ticks, bins, bounds, lengths and some must be of uint16, uint8, int64, int32 and int64")
        if not all(array.flags.c_contiguous for array in (ticks, bins, lengths, some)):
            raise ValueError("ticks, bins, lengths and some must be whole arrays")
        if ticks.shape != bins.shape or bounds.shape != (lengths.size, 2):
            raise ValueError("ticks and bins must be [peaks], bounds [clips, 2] and lengths [clips]")
        first, last = (np.ascontiguousarray(bounds[:, side]) for side in (0, 1))
        if lengths.size and not (first.min() >= 0 and last.max() <= ticks.size and lengths.min() >= 1):
            raise ValueError("bounds must lie within the peaks, and lengths be 1 or more")
        if some.size and not (some.min() >= 0 and some.max() < lengths.size and lengths.max() <= 1 << 16):
            raise ValueError(f"some must be of the clips, and lengths be at most {1 << 16}")
        counts = np.empty(self.rows + int(lengths.max(initial=0)) + 2 * _CHUNK, np.uint16)
        best = BestPlaces(*(np.empty(some.size, np.int32) for _ in range(4)))
        clips = (ticks, bins, first, last, lengths, some)
        room = (counts, best.most, best.at, best.wide, best.total)
        _LIBRARY.luthier_best_places(
            *(array.ctypes.data for array in clips),
            some.size,
            *(array.ctypes.data for array in (self.starts, self.ticks, self.weights)),
            self.weights.size,
            self.rows,
            *(array.ctypes.data for array in room),
        )
        return best


Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Peaks:
    """Spectral peaks: `frames` and `bins` [peaks] uint16, bins in 64ths; `ranks` [peaks] uint8. ValueError where
    they are something else."""

    frames: NDArray[np.uint16]
    bins: NDArray[np.uint16]
    ranks: NDArray[np.uint8]

    def __post_init__(self) -> None:
        types = [array.dtype for array in (self.frames, self.bins, self.ranks)]
        whole = all(array.flags.c_contiguous for array in (self.frames, self.bins, self.ranks))
        if types != [np.uint16, np.uint16, np.uint8] or not whole:
            raise ValueError("frames, bins and ranks must be whole arrays of uint16, uint16 and uint8")
        if self.frames.ndim != 1 or not self.frames.shape == self.bins.shape == self.ranks.shape:
            raise ValueError("frames, bins and ranks must be [peaks], of one length")


@dataclass
class Alignments:
    """Peaks `first` to `last` of many [alignments] int64 at a place: a peak's frame times `stretches` plus `offsets`,
    its bin plus `shifts`, [alignments] float32."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    offsets: Singles
    stretches: Singles
    shifts: Singles

    def __post_init__(self) -> None:
        self.first, self.last = (np.ascontiguousarray(array, np.int64) for array in (self.first, self.last))
        self.offsets, self.stretches, self.shifts = (
            np.array(array, np.float32) for array in (self.offsets, self.stretches, self.shifts)
        )
        shapes = {array.shape for array in (self.first, self.last, self.offsets, self.stretches, self.shifts)}
        if shapes != {(self.first.size,)}:
            raise ValueError("first, last, offsets, stretches and shifts must be [alignments], of one length")


class PeakMap:
    """Where peaks of a recording are near, of so many bins and frames: others are held against it.

    `near` [3 bins, 2 frames + 16]: in thirds of a bin and half frames a class, 1 where a peak is within 0.75 frames, 2
    within 1.75 and 3 within 2.75, all within half a bin; 3 also up to a bin further within 1.75; 0 elsewhere.
    `counts` [bins, 4]: cells of each class; `heard` [frames]: cells at each frame that are near a peak. Peaks beyond
    the map are a ValueError.
    """

    def __init__(self, peaks: Peaks, bins: int, frames: int) -> None:
        self.bins, self.frames = bins, frames
        columns = _FRAME_PARTS * frames + 2 * _MARGIN
        if not (bins > 0 and frames > 0 and columns * bins * _BIN_PARTS <= _MAX_MAP_BYTES):
            raise ValueError(f"bins and frames must be 1 or more, and few enough for {_MAX_MAP_BYTES} bytes")
        if peaks.frames.max(initial=0) >= frames or peaks.bins.max(initial=0) > (bins - 1) * PEAK_STEPS:
            raise ValueError(f"peaks must lie within {bins} bins and {frames} frames")
        self.near = np.zeros((bins * _BIN_PARTS, columns), np.uint8)
        self.counts = np.zeros((bins, PEAK_CLASSES), np.int64)
        self.heard = np.zeros(frames, np.int32)
        near = self.near.ctypes.data
        _LIBRARY.luthier_mark_peaks(
            near, bins, columns, peaks.frames.ctypes.data, peaks.bins.ctypes.data, peaks.frames.size
        )
        _LIBRARY.luthier_count_marks(near, bins, frames, columns, self.counts.ctypes.data, self.heard.ctypes.data)

    def sums(self, evidence: Singles, peaks: Peaks, some: Alignments, below: int) -> NDArray[np.float64]:
        """[alignments] of `evidence` [bins, 5, 4], by bin, tenth of the rank and class, over the peaks of each
        alignment whose rank is below this, 50 at most, and that lie within the map."""
        sums, held = np.empty(some.first.size, np.float64), _room(some)
        pointers = self._pointers(evidence, peaks, some, below)
        _LIBRARY.luthier_sum_evidence(*pointers, held.ctypes.data, sums.ctypes.data)
        return sums

    def align(
        self, evidence: Singles, peaks: Peaks, some: Alignments, below: int, pivots: Singles, step: float, reach: int
    ) -> NDArray[np.float64]:
        """Moves alignments, in place, to where `sums` are highest: by up to `reach` frames and two and a half `step` of
        stretch around the frames `pivots` [alignments] of the peaks, and a quarter of a bin. Returns those sums."""
        pivots = np.ascontiguousarray(pivots, np.float32)
        if pivots.shape != some.first.shape:
            raise ValueError("pivots must be [alignments]")
        if not 0 <= reach <= _MOST_REACH:
            raise ValueError(f"reach must be 0 to {_MOST_REACH}: got {reach}")
        sums, held = np.empty(some.first.size, np.float64), _room(some)
        pointers = self._pointers(evidence, peaks, some, below)
        _LIBRARY.luthier_align_peaks(*pointers, held.ctypes.data, pivots.ctypes.data, step, reach, sums.ctypes.data)
        return sums

    def classes(self, evidence: Singles, peaks: Peaks, some: Alignments, which: int) -> NDArray[np.uint8]:
        """Of each peak of one alignment its class; 255 where it lies beyond the map."""
        pointers = self._pointers(evidence, peaks, some, 0)
        first, last = int(some.first[which]), int(some.last[which])
        classes = np.empty(last - first, np.uint8)
        place = float(some.offsets[which]), float(some.stretches[which]), float(some.shifts[which])
        _LIBRARY.luthier_peak_classes(*pointers[:7], first, last, *place, classes.ctypes.data)
        return classes

    def _pointers(self, evidence: Singles, peaks: Peaks, some: Alignments, below: int) -> tuple[int, ...]:
        if evidence.shape != (self.bins, PEAK_GROUPS, PEAK_CLASSES) or evidence.dtype != np.float32:
            raise ValueError(f"evidence must be [{self.bins}, {PEAK_GROUPS}, {PEAK_CLASSES}] of float32")
        if not evidence.flags.c_contiguous:
            raise ValueError("evidence must be a whole array")
        if not 0 <= below <= 10 * PEAK_GROUPS:
            raise ValueError(f"below must be 0 to {10 * PEAK_GROUPS}: got {below}")
        if some.first.size and not (
            some.first.min() >= 0 and np.all(some.first <= some.last) and some.last.max() <= peaks.frames.size
        ):
            raise ValueError(f"alignments must be of some of the {peaks.frames.size} peaks")
        arrays = (peaks.frames, peaks.bins, peaks.ranks, some.first, some.last)
        places = (some.offsets, some.stretches, some.shifts)
        return (
            self.near.ctypes.data,
            evidence.ctypes.data,
            self.bins,
            self.frames,
            self.near.shape[1],
            *(array.ctypes.data for array in arrays),
            below,
            some.first.size,
            *(array.ctypes.data for array in places),
        )


@dataclass(frozen=True)
class LevelMap:
    """How loud a recording is, against which the levels of another's peaks are held, of which it may be one part.

    `levels` [bins, frames] uint8, in steps, below LEVELS. `near` [bins, LEVELS] float32: what it counts that it is as
    loud as expected, by bin and the level expected. Softer by more than `below` steps counts `missed`, louder by more
    than `above` nothing. ValueError where they are something else.
    """

    levels: NDArray[np.uint8]
    near: Singles
    below: int
    above: int
    missed: float

    def __post_init__(self) -> None:
        bins = len(self.levels)
        if self.levels.dtype != np.uint8 or self.levels.ndim != 2 or not self.levels.size:
            raise ValueError("levels must be [bins, frames] of uint8")
        if self.near.dtype != np.float32 or self.near.shape != (bins, LEVELS):
            raise ValueError(f"near must be [{bins}, {LEVELS}] of float32")
        if not (self.levels.flags.c_contiguous and self.near.flags.c_contiguous):
            raise ValueError("levels and near must be whole arrays")

    def evidence(
        self, peaks: Peaks, levels: NDArray[np.uint8], some: Alignments, which: int, most_gain: int, block_frames: int
    ) -> tuple[Singles, int]:
        """What each peak of one alignment counts [peaks], 0 beyond the map, and the gain in steps, from -`most_gain`
        to `most_gain`, that they are at: the one at which a run of blocks of so many frames counts most. `levels` are
        those of all `peaks`."""
        first, last = self._bounds(peaks, levels, some, which)
        if not (block_frames > 0 and 0 <= most_gain <= LEVELS):
            raise ValueError(f"block_frames must be 1 or more, most_gain 0 to {LEVELS}")
        evidence = np.empty(last - first, np.float32)
        held = np.empty(4 * (last - first), np.int32)
        blocks, gains = -(-self.levels.shape[1] // block_frames), 2 * most_gain + 1
        sums, misses = np.zeros((blocks, gains)), np.zeros((blocks, gains), np.int32)
        place = float(some.offsets[which]), float(some.stretches[which]), float(some.shifts[which])
        room = held.ctypes.data, sums.ctypes.data, misses.ctypes.data, evidence.ctypes.data
        pointers = self._pointers(peaks, levels, first, last)
        gain = _LIBRARY.luthier_level_evidence(*pointers, *place, -most_gain, most_gain, block_frames, *room)
        return evidence, int(gain)

    def sums(
        self, peaks: Peaks, levels: NDArray[np.uint8], some: Alignments, which: int, gain: int, offsets: Singles
    ) -> NDArray[np.float64]:
        """[offsets] of what the peaks of one alignment count together, moved to each offset, at a gain in steps."""
        first, last = self._bounds(peaks, levels, some, which)
        offsets, sums = np.ascontiguousarray(offsets, np.float32), np.empty(offsets.size, np.float64)
        place = float(some.stretches[which]), float(some.shifts[which])
        held = np.empty(3 * (last - first), np.int64)  # 24 bytes of each
        moved = offsets.ctypes.data, offsets.size
        pointers = self._pointers(peaks, levels, first, last)
        _LIBRARY.luthier_sum_levels(*pointers, *moved, *place, gain, held.ctypes.data, sums.ctypes.data)
        return sums

    def _bounds(self, peaks: Peaks, levels: NDArray[np.uint8], some: Alignments, which: int) -> tuple[int, int]:
        first, last = int(some.first[which]), int(some.last[which])
        if not 0 <= first <= last <= peaks.frames.size:
            raise ValueError(f"alignments must be of some of the {peaks.frames.size} peaks")
        if levels.dtype != np.uint8 or levels.shape != peaks.frames.shape or not levels.flags.c_contiguous:
            raise ValueError("levels of peaks must be a whole array [peaks] of uint8")
        return first, last

    def _pointers(self, peaks: Peaks, levels: NDArray[np.uint8], first: int, last: int) -> tuple[float, ...]:
        arrays = (peaks.frames, peaks.bins, levels)
        rules = self.below, self.above, self.missed
        size = self.levels.ctypes.data, self.near.ctypes.data, *self.levels.shape
        return *size, *rules, *(array.ctypes.data for array in arrays), first, last


def _room(some: Alignments) -> NDArray[np.float32]:
    """For as many peaks as an alignment has: three numbers of 4 bytes each."""
    return np.empty(3 * int((some.last - some.first).max(initial=0)), np.float32)
