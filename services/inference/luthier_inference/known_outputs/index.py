"""Which outputs are heard in a sound, where, and how surely.

Windows of ten seconds are laid on every place of every output: a bitwise comparison of words, in compiled code
(`luthier_music.native.masked_distances`). The places that agree most are then held against the waves, sample by sample,
and those of them that agree by more than chance cell by cell of time and frequency. Two songs that hold the same note
of the same instrument, or have the same drums, agree as much as a copy below other music does. But a copy is there at
one gain in every cell: where the output is loud and the window is not louder, the window must be the output.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from luthier_inference.known_outputs.fingerprint import (
    CELL,
    CELL_BINS,
    CELL_WIDTHS,
    HOP,
    HOP_S,
    LOWEST_DB,
    MIN_S,
    RATE_HZ,
    WAVE_FRAME,
    WAVE_HOP,
    WAVE_RATE_HZ,
    Fingerprint,
    Floats,
    band_energies,
    cell_spectra,
    cells_of,
    in_cells,
    is_silent,
    mono_of,
    power_of,
    wave_signs,
    waves_of,
    words_of,
)
from luthier_music.native import bit_agreements, masked_distances

WINDOW_S: Final = 10.0
STEP_S: Final = 5.0
KNOWN_SCORE: Final = 0.5
"""From this score on an output is told."""
SURE_NATS: Final = 80.0
"""Evidence that scores half, see `evidence_of`. Of songs of the bench's part "chosen", 435 copies below other music had
168 and more, 3,480 excerpts that were not logged 21 at most; sounds that share a loud note with what is logged 72."""
_ENOUGH_CELLS: Final = 8
"""Of a window of 8 s, from which on as much evidence is needed as in one of WINDOW_S: 78 excerpts of 3 s of rendered
songs had 74 nats and more, 78 of songs that were not logged none."""
_PROMISING: Final = 12.0
"""Standard deviations of agreement of all waves by chance, were samples independent, from which on cells are looked at.
They are not, in music: sounds that were not logged reach 30, copies below other music have 20 and more."""
_KEPT: Final = 2 / np.pi
"""Of the power of the signs of Gaussian waves, what is the waves themselves; the rest is noise (Van Vleck)."""
_COPY_SPREAD, _CHANCE_SPREAD = 0.12, 0.14  # of the coherence of a cell around what is expected, and around 0
_ODD, _SHARED = 0.02, 0.05  # density of any coherence: in a copy, and in another song, which may have the same note
_MOST_NATS, _LEAST_NATS = 3.0, -3.0  # of a cell
_GAINS_DB: Final = np.arange(-48.0, 37.5, 1.5)
"""Of the output in a window, that are tried."""
_LATE: Final = np.arange(-0.5, 0.55, 0.1)
"""Parts of a sample of waves by which a window may lie beside the output's samples."""
_GAP: Final = round(WINDOW_S / HOP_S)  # words without meaning between two outputs: an excerpt may begin before one
_MIN_COUNTED: Final = 250  # bits that a place needs, some 1.4 s of telling ones
_PLACES: Final = 24  # that are held against the waves, and one for every 20 outputs
_MOST_PLACES: Final = 512
_SHIFTS: Final = (0, HOP // 2)  # samples: an excerpt begins anywhere within a hop
_REACH: Final = round(2 * HOP_S * WAVE_RATE_HZ)
"""Samples around a place in which its exact one is looked for."""
_ROOM_WORDS: Final = 1 << 16  # that the index grows by at least
_SAME_S: Final = 0.15  # places of an output that lie within are one passage


@dataclass(frozen=True)
class Heard:
    """An output that is heard: `output` as it was added, seconds in the sound and in the output, and how surely, 0 to
    1, KNOWN_SCORE or more."""

    output: str
    at_s: float
    output_at_s: float
    duration_s: float
    score: float


@dataclass(frozen=True)
class _Entry:
    name: str
    first: int  # of its words in the index
    words: int
    waves: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    duration_s: float


class Index:
    """Fingerprints in memory, at most `max_bytes` of them: the oldest give way. Not for several threads at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._words, self._mask = np.zeros(_ROOM_WORDS, np.uint32), np.zeros(_ROOM_WORDS, np.uint32)
        self._used = _GAP
        self._entries: list[_Entry] = []
        self._other_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Of what is kept."""
        return 8 * self._used + self._other_bytes

    def add(self, name: str, fingerprint: Fingerprint) -> list[str]:
        """One more output. Where there is no room, the oldest tenth goes: those are returned."""
        gone: list[str] = []
        needed = 8 * (fingerprint.words.size + _GAP) + fingerprint.waves.size + fingerprint.levels.size
        while self._entries and self.size_bytes + needed > self._max_bytes:
            oldest = max(1, len(self._entries) // 10)
            gone += [entry.name for entry in self._entries[:oldest]]
            self._forget(oldest)
        self._append(name, fingerprint)
        return gone

    def _forget(self, oldest: int) -> None:
        kept, words, mask = self._entries[oldest:], self._words.copy(), self._mask.copy()
        self._words[:], self._mask[:] = 0, 0
        self._used, self._other_bytes, self._entries = _GAP, 0, []
        for entry in kept:
            own = slice(entry.first, entry.first + entry.words)
            again = Fingerprint(words[own], mask[own], entry.waves, entry.levels, entry.duration_s)
            self._append(entry.name, again)

    def _append(self, name: str, made: Fingerprint) -> None:
        end = self._used + made.words.size + _GAP
        if end > self._words.size:
            room = max(end, self._words.size + max(self._words.size // 4, _ROOM_WORDS))
            self._words, self._mask = (
                np.concatenate([each, np.zeros(room - each.size, np.uint32)]) for each in (self._words, self._mask)
            )
        own = slice(self._used, self._used + made.words.size)
        self._words[own], self._mask[own] = made.words, made.mask
        self._entries.append(_Entry(name, self._used, made.words.size, made.waves, made.levels, made.duration_s))
        self._used, self._other_bytes = end, self._other_bytes + made.waves.size + made.levels.size

    def search(self, samples: Floats, sample_rate_hz: int, stop: Callable[[], bool] = lambda: False) -> list[Heard]:
        """The outputs that are heard in a sound (frames, channels), the surest first, each once with its best window
        and those beside it. Empty where the sound is shorter than MIN_S or silent. `stop` is asked before each window:
        True ends the search with what is found by then."""
        if not self._entries:
            return []
        mono = mono_of(samples, sample_rate_hz)
        passages: dict[str, list[Heard]] = {}
        for at_s, window in _windows(mono):
            if stop():
                break
            for heard in self._in_window(at_s, window):
                passages.setdefault(heard.output, []).append(heard)
        found = [_whole(each) for each in passages.values()]
        return sorted(found, key=lambda heard: (-heard.score, heard.output))

    def _in_window(self, at_s: float, mono: Floats) -> Iterator[Heard]:
        """Outputs in a window of a sound that begins at `at_s`, each at its best place."""
        waves = waves_of(mono)
        signs = wave_signs(waves) > 0
        best: dict[int, tuple[float, float]] = {}
        firsts = np.array([entry.first for entry in self._entries])
        for place, shift in self._places(mono):
            # the last output that begins before the window ends: a gap is as long as a window, so it lies on no other
            entry = int(np.searchsorted(firsts, place + len(mono) // HOP)) - 1
            offset_s = (place - self._entries[entry].first) * HOP_S - shift / RATE_HZ
            score, exact_s = _verified(self._entries[entry], waves, signs, offset_s)
            if score >= KNOWN_SCORE and (entry not in best or score > best[entry][0]):
                best[entry] = score, exact_s
        for entry, (score, offset_s) in best.items():
            skipped_s = max(0.0, -offset_s)  # of the window, before the output begins
            length_s = min(len(mono) / RATE_HZ - skipped_s,
                           self._entries[entry].duration_s - max(0.0, offset_s))  # fmt: skip
            yield Heard(self._entries[entry].name, at_s + skipped_s, max(0.0, offset_s), length_s, score)

    def _places(self, mono: Floats) -> list[tuple[int, int]]:
        """Places of the index where a window agrees most, with the shift of the window, the surest first, none of them
        beside another."""
        most = min(_PLACES + len(self._entries) // 20, _MOST_PLACES)
        found: list[tuple[float, int, int]] = []
        for shift in _SHIFTS:
            query = words_of(band_energies(mono[shift:]))
            differ, counted = masked_distances(self._words[: self._used], self._mask[: self._used], query)
            enough = np.flatnonzero(counted >= _MIN_COUNTED)
            sure = (counted[enough] - 2.0 * differ[enough]) / np.sqrt(counted[enough])
            some = np.argpartition(-sure, min(4 * most, len(sure) - 1))[: 4 * most] if len(sure) else enough
            found += [(float(sure[at]), int(enough[at]), shift) for at in some.tolist()]
        chosen: list[tuple[int, int]] = []
        taken: set[int] = set()
        for _, place, shift in sorted(found, reverse=True):
            if place not in taken:
                taken |= {place - 1, place, place + 1}
                chosen.append((place, shift))
                if len(chosen) == most:
                    break
        return chosen


def _verified(output: _Entry, waves: Floats, signs: NDArray[np.bool_], offset_s: float) -> tuple[float, float]:
    """How surely a window is an output from `offset_s` on, 0 to 1, by its waves and their signs, and where exactly."""
    total = int(output.duration_s * WAVE_RATE_HZ)
    offset = round(offset_s * WAVE_RATE_HZ)
    # of the window's samples, those that are on the output wherever around the place it lies
    first, last = max(0, _REACH - offset), min(signs.size, total - offset - _REACH)
    count = last - first
    if count < MIN_S * WAVE_RATE_HZ / 2:
        return 0.0, offset_s
    begin = offset + first - _REACH
    equal = bit_agreements(np.packbits(signs[first:last]), count, output.waves, begin, 2 * _REACH + 1)
    agreed = np.abs(2 * equal - count)
    at = int(np.argmax(agreed))
    exact = begin + at - first
    if abs(exact / WAVE_RATE_HZ - offset_s) > 3 * HOP_S or agreed[at] < _PROMISING * np.sqrt(count):
        return 0.0, offset_s
    first_cell = -(-max(exact, 0) // CELL)
    cells = min(len(output.levels), cells_of(exact + waves.size)) - first_cell
    if cells < 1:
        return 0.0, offset_s
    begin, samples = first_cell * CELL, cells * CELL + WAVE_FRAME - WAVE_HOP
    theirs = np.unpackbits(output.waves[begin // 8 : (begin + samples) // 8]).astype(np.float32) * 2 - 1
    ours = waves[begin - exact : begin - exact + samples]
    these = slice(first_cell, first_cell + cells)
    evidence = evidence_of(ours, theirs, output.levels[these], faithfulness(output.levels)[these])
    return _score(evidence, sure_nats(cells_of(waves.size))), exact / WAVE_RATE_HZ


def sure_nats(cells: int) -> float:
    """Evidence that scores half in a window of so many cells: less in a short one, where less agrees by chance."""
    return SURE_NATS * min(1.0, 0.7 + 0.3 * cells / _ENOUGH_CELLS)


def faithfulness(levels: NDArray[np.uint8]) -> Floats:
    """Coherence of whitened waves and their signs, 0 to 1, in each cell of an output whose levels (cells, CELL_BANDS)
    are these: the loudest cells of a moment determine the signs, and their noise is as loud in all of them."""
    power = np.power(np.float32(10), (levels.astype(np.float32) + LOWEST_DB) / 10)
    whitened = power / power.mean(axis=0)
    whitened /= (whitened @ CELL_WIDTHS)[:, np.newaxis] / np.float32(CELL_WIDTHS.sum())
    faithful: Floats = np.sqrt(_KEPT * whitened / (_KEPT * whitened + (1 - _KEPT))).astype(np.float32)
    return faithful


def evidence_of(waves: Floats, signs: Floats, levels: NDArray[np.uint8], faithful: Floats) -> float:
    """Log likelihood ratio, in nats, of that waves (samples,) hold the sound whose signs (samples,), -1 or 1, levels
    and faithfulness (cells, CELL_BANDS) these are, at some gain, against that they hold another one: a sum over cells.

    A cell of power P in which a copy has power S is coherent with the copy by the root of S / P, and with its signs by
    as much as they are faithful; with another sound by 0, but for notes that both have. Both spread, as in music.
    """
    ours, theirs = cell_spectra(waves), cell_spectra(signs)
    power, cross = power_of(ours), ours * np.conj(theirs)
    # where between two samples the copy lies, and whether upside down, is what makes the sum over all bins largest
    sums = (cross.sum(axis=0) / np.sqrt(power.sum(axis=0) + _TINY)) @ _RAMPS
    best = int(np.argmax(np.abs(sums.real)))
    turned = np.real(cross * (_RAMPS[:, best] * np.sign(sums.real[best]))).astype(np.float32)
    ours_power = in_cells(power) + _TINY
    coherence = (in_cells(turned) / np.sqrt(ours_power * in_cells(power_of(theirs)) + _TINY)).ravel()
    alone_db = levels.ravel() + np.float32(LOWEST_DB) - 10 * np.log10(ours_power.ravel())
    share = np.minimum(1, 10 ** ((_GAINS_DB[:, np.newaxis] + alone_db) / 20))  # (gains, cells)
    expected = faithful.ravel() * share
    copy = (1 - _ODD) * _normal(coherence - expected, _COPY_SPREAD) + _ODD
    chance = (1 - _SHARED) * _normal(coherence, _CHANCE_SPREAD) + _SHARED
    return float(np.clip(np.log(copy / chance), _LEAST_NATS, _MOST_NATS).sum(axis=1).max())


def _normal(apart: NDArray[np.floating[Any]], spread: float) -> NDArray[np.floating[Any]]:
    """By the normal distribution, but for a factor that is left out for all."""
    density: NDArray[np.floating[Any]] = np.exp(-0.5 * np.square(apart / spread)) / spread
    return density


def _score(sure: float, half: float) -> float:
    """0 to 1, half where `sure` is `half`."""
    return sure * sure / (sure * sure + half * half) if sure > 0 else 0.0


def _windows(mono: Floats) -> Iterator[tuple[float, Floats]]:
    """Windows of a sound and where each begins, seconds; the last ends with it."""
    size, step = round(WINDOW_S * RATE_HZ), round(STEP_S * RATE_HZ)
    starts = list(range(0, max(len(mono) - size, 0) + 1, step))
    if len(mono) > size and starts[-1] + size < len(mono):
        starts.append(len(mono) - size)
    for start in starts:
        window = mono[start : start + size]
        if len(window) >= MIN_S * RATE_HZ and not is_silent(window):
            yield start / RATE_HZ, window


_TINY: Final = np.float32(1e-9)
_RAMPS: Final = np.exp(
    2j * np.pi * np.arange(CELL_BINS.start, CELL_BINS.stop)[:, np.newaxis] / WAVE_FRAME * _LATE
).astype(np.complex64)
"""(bins, parts): what a transform is multiplied by where a sound comes so much earlier."""


def _whole(windows: list[Heard]) -> Heard:
    """The best window of an output, as long as it and those that go on from it are heard."""
    best = max(windows, key=lambda heard: heard.score)
    offset_s = best.output_at_s - best.at_s
    same = [heard for heard in windows if abs(heard.output_at_s - heard.at_s - offset_s) < _SAME_S]
    begin_s, end_s = min(heard.at_s for heard in same), max(heard.at_s + heard.duration_s for heard in same)
    return Heard(best.output, begin_s, begin_s + offset_s, end_s - begin_s, best.score)
