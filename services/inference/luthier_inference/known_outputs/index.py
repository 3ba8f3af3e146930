"""Which outputs are heard in a sound, where, and how surely.

Windows of ten seconds are laid on every place of every output: a bitwise comparison of words, in compiled code
(`luthier_music.native.masked_distances`). The places that agree most are then held against the waves, sample by sample.
What agrees there must do so in most parts of the window and of the spectrum: two songs that hold the same note of the
same instrument, or have the same drums, agree as much as a copy below other music does, but in few of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from luthier_inference.known_outputs.fingerprint import (
    HOP,
    HOP_S,
    MIN_S,
    RATE_HZ,
    WAVE_RATE_HZ,
    WAVES_HZ,
    Fingerprint,
    Floats,
    Words,
    band_energies,
    is_silent,
    mono_of,
    wave_signs,
    words_of,
)
from luthier_music.native import bit_agreements, masked_distances

WINDOW_S: Final = 10.0
STEP_S: Final = 5.0
KNOWN_SCORE: Final = 0.5
"""From this score on an output is told."""
WAVES_SURE: Final = 18.0
"""Standard deviations of agreement of waves by chance, were samples independent, that score half. They are not, in
music: sounds that were not logged reach 32 (`tests/bench/inference/known_outputs.py`). Agreement of words alone tells
nothing: sounds that are held for long reach as much of it as copies."""
EVERYWHERE_SURE: Final = 0.057
"""`agreement_everywhere` that scores half: of 435 copies below other music 1 had less, of 8,120 excerpts of songs that
were not logged the highest had 0.054 (songs of the bench's part "chosen")."""
_PROMISING: Final = 0.5  # score of all waves together from which on a look at the parts is worth its time
_CELL_HZ: Final = 50.0
_CELL_S: Final = 1.0
_CELL_MOST, _CELL_LEAST = 0.1, -0.2  # coherence that a cell counts at most and at least; by chance it is within 0.1
_CELL_FRAME, _CELL_HOP = 512, 256  # samples of a Fourier transform of waves, 232 ms, and from one to the next
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
    duration_s: float


class Index:
    """Fingerprints in memory, at most `max_bytes` of them: the oldest give way. Not for several threads at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._words, self._mask = np.zeros(_ROOM_WORDS, np.uint32), np.zeros(_ROOM_WORDS, np.uint32)
        self._used = _GAP
        self._entries: list[_Entry] = []
        self._waves_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Of what is kept."""
        return 8 * self._used + self._waves_bytes

    def add(self, name: str, fingerprint: Fingerprint) -> list[str]:
        """One more output. Where there is no room, the oldest tenth goes: those are returned."""
        gone: list[str] = []
        needed = 8 * (fingerprint.words.size + _GAP) + fingerprint.waves.size
        while self._entries and self.size_bytes + needed > self._max_bytes:
            oldest = max(1, len(self._entries) // 10)
            gone += [entry.name for entry in self._entries[:oldest]]
            self._forget(oldest)
        self._append(name, fingerprint.words, fingerprint.mask, fingerprint.waves, fingerprint.duration_s)
        return gone

    def _forget(self, oldest: int) -> None:
        kept, words, mask = self._entries[oldest:], self._words.copy(), self._mask.copy()
        self._words[:], self._mask[:] = 0, 0
        self._used, self._waves_bytes, self._entries = _GAP, 0, []
        for entry in kept:
            own = slice(entry.first, entry.first + entry.words)
            self._append(entry.name, words[own], mask[own], entry.waves, entry.duration_s)

    def _append(self, name: str, words: Words, mask: Words, waves: NDArray[np.uint8], duration_s: float) -> None:
        end = self._used + words.size + _GAP
        if end > self._words.size:
            room = max(end, self._words.size + max(self._words.size // 4, _ROOM_WORDS))
            self._words, self._mask = (
                np.concatenate([each, np.zeros(room - each.size, np.uint32)]) for each in (self._words, self._mask)
            )
        own = slice(self._used, self._used + words.size)
        self._words[own], self._mask[own] = words, mask
        self._entries.append(_Entry(name, self._used, words.size, waves, duration_s))
        self._used, self._waves_bytes = end, self._waves_bytes + waves.size

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
        waves = wave_signs(mono) > 0
        best: dict[int, tuple[float, float]] = {}
        firsts = np.array([entry.first for entry in self._entries])
        for place, shift in self._places(mono):
            # the last output that begins before the window ends: a gap is as long as a window, so it lies on no other
            entry = int(np.searchsorted(firsts, place + len(mono) // HOP)) - 1
            offset_s = (place - self._entries[entry].first) * HOP_S - shift / RATE_HZ
            score, exact_s = _verified(self._entries[entry], waves, offset_s)
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


def _verified(output: _Entry, waves: NDArray[np.bool_], offset_s: float) -> tuple[float, float]:
    """How surely the signs of a window's waves are those of an output from `offset_s` on, and where exactly: 0 to 1,
    the lesser of what all of them tell together and what the parts of time and spectrum do, each for itself."""
    total = int(output.duration_s * WAVE_RATE_HZ)
    offset = round(offset_s * WAVE_RATE_HZ)
    # of the window's samples, those that are on the output wherever around the place it lies
    first, last = max(0, _REACH - offset), min(waves.size, total - offset - _REACH)
    count = last - first
    if count < MIN_S * WAVE_RATE_HZ / 2:
        return 0.0, offset_s
    begin = offset + first - _REACH
    equal = bit_agreements(np.packbits(waves[first:last]), count, output.waves, begin, 2 * _REACH + 1)
    agreed = 2 * equal - count
    at = int(np.argmax(np.abs(agreed)))
    exact_s = (begin + at - first) / WAVE_RATE_HZ
    if abs(exact_s - offset_s) > 3 * HOP_S:
        return 0.0, offset_s
    together = _score(abs(float(agreed[at])) / np.sqrt(count), WAVES_SURE)
    if together < _PROMISING:
        return together, exact_s
    theirs = np.unpackbits(output.waves[(begin + at) // 8 :])[(begin + at) % 8 :][:count]
    everywhere = agreement_everywhere(_as_waves(waves[first:last]), _as_waves(theirs) * np.float32(np.sign(agreed[at])))
    return min(together, max(0.0, everywhere / (2 * EVERYWHERE_SURE))), exact_s


def _as_waves(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Floats:
    """-1 or 1 of each."""
    return bits.astype(np.float32) * 2 - 1


def agreement_everywhere(ours: Floats, theirs: Floats) -> float:
    """How evenly two rows of waves (n,), -1 or 1 each, agree over time and frequency: the mean coherence of cells of
    _CELL_S by _CELL_HZ, each of which counts at most _CELL_MOST. 0.1 where they agree in every cell, less than 0 by
    chance; 0 where they are shorter than a frame."""
    if ours.size < _CELL_FRAME:
        return 0.0
    a, b = (np.fft.rfft(np.lib.stride_tricks.sliding_window_view(each, _CELL_FRAME)[::_CELL_HOP] * _CELL_WINDOW, axis=1)
            for each in (ours, theirs))  # fmt: skip
    of_a_cell = min(round(_CELL_S * WAVE_RATE_HZ / _CELL_HOP), len(a))
    starts = np.arange(0, len(a) - of_a_cell + 1, of_a_cell)

    def in_cells(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """(frames, bins) summed, to (cells of time, cells of frequency)."""
        bands = np.add.reduceat(values[:, : _CELL_EDGES[-1]], _CELL_EDGES[:-1], axis=1)
        return np.add.reduceat(bands[: starts[-1] + of_a_cell], starts, axis=0)

    cross, ours_power, theirs_power = (
        in_cells(each) for each in ((a * np.conj(b)).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    coherence = cross / np.sqrt(ours_power * theirs_power + np.finfo(np.float32).tiny)
    return float(np.mean(np.clip(coherence, _CELL_LEAST, _CELL_MOST)))


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


_CELL_WINDOW: Final = np.hanning(_CELL_FRAME).astype(np.float32)
_CELL_BINS: Final = _CELL_HZ * _CELL_FRAME / WAVE_RATE_HZ
_CELL_EDGES: Final = np.round(np.arange(WAVES_HZ[0] / _CELL_HZ, WAVES_HZ[1] / _CELL_HZ + 1) * _CELL_BINS).astype(int)


def _whole(windows: list[Heard]) -> Heard:
    """The best window of an output, as long as it and those that go on from it are heard."""
    best = max(windows, key=lambda heard: heard.score)
    offset_s = best.output_at_s - best.at_s
    same = [heard for heard in windows if abs(heard.output_at_s - heard.at_s - offset_s) < _SAME_S]
    begin_s, end_s = min(heard.at_s for heard in same), max(heard.at_s + heard.duration_s for heard in same)
    return Heard(best.output, begin_s, begin_s + offset_s, end_s - begin_s, best.score)
