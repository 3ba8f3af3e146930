"""What near-duplicates of a song have in common, for finding them among many thousands.

The method is that of Mitzenmacher and Owen, "Estimating Resemblance of MIDI Documents" (ALENEX 2001): Broder's shingles
("On the resemblance and containment of documents", 1997) of the pitches of a MIDI file. Of each voice (what one track
plays on one channel) the highest and the lowest of the notes that are struck together make two lines; every _LONG
successive intervals of a line are a shingle, a hash of 32 bits. Intervals make it invariant to transposition; that
durations are no part of it, to tempo, resolution and touch; voices are apart, so that a track more or less changes
nothing of the others. Left out are shingles of fewer than _LONG_DISTINCT different intervals (repeated notes, trills,
scales) and drums, which songs share that have nothing else in common; programs, velocities and note lengths.

A song with little melody has shorter shingles as well, in which durations count as ratios between onsets (Doraisamy and
Rüger, "Robust Polyphonic Music Retrieval with N-grams", 2003), and its drums.

Of a song with more than _MOST hashes the smallest are kept (Broder's sketch): two songs are compared below the lower of
their bounds. Almost all songs keep all.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from luthier.rendering.v1.rendering_pb2 import NoteSignature
from luthier_rendering.midi import Notes, Song

_LONG: Final = 6  # intervals of a shingle: of 82 real songs no two shared more than a tenth of theirs
_LONG_DISTINCT: Final = 3
_SHORT: Final = 4
_SHORT_DISTINCT: Final = 2
_LITTLE: Final = 128  # long shingles; with fewer, short ones and drums count as well
_STROKES: Final = 8  # of drums, successive ones
_STROKES_DISTINCT: Final = 3
_TOGETHER_BEATS: Final = 1 / 12  # from the first of them on
_MOST: Final = 1024

_Hashes = NDArray[np.uint64]
_NOTHING: Final[_Hashes] = np.zeros(0, dtype=np.uint64)


def signature(song: Song) -> NoteSignature:
    """The signature of a song; without voices where it has too little of anything."""
    voices = [_voice(song, notes) for notes in _voices(song)]
    long = [_united([_shingles(line, _LONG, _LONG_DISTINCT) for line in voice.lines]) for voice in voices]
    short = [_NOTHING] * len(voices)
    if _united(long).size < _LITTLE:
        short = [
            _united([_shingles(line, _SHORT, _SHORT_DISTINCT, voice.ratios) for line in voice.lines])
            for voice in voices
        ]
        long.append(_NOTHING)
        short.append(_drums(song))
    every = _united([*long, *short])
    below = int(every[_MOST]) if every.size > _MOST else None
    message = NoteSignature(below=below)
    for hashes, short_hashes in zip(long, short, strict=True):
        if hashes.size or short_hashes.size:
            message.voices.add(hashes=_kept(hashes, below), short_hashes=_kept(short_hashes, below))
    return message


def _kept(hashes: _Hashes, below: int | None) -> list[int]:
    kept: list[int] = (hashes if below is None else hashes[hashes < below]).tolist()
    return kept


@dataclass(frozen=True)
class _Voice:
    """`lines` are the intervals in semitones of the highest and of the lowest notes; `ratios`, one fewer, are by how
    much each lasts longer than the one before it, in half octaves of duration."""

    lines: list[NDArray[np.int64]]
    ratios: NDArray[np.int64]


def _voices(song: Song) -> list[Notes]:
    """The notes of each voice, without drums, by start. A program change leaves a voice the same."""
    numbers = {player: number for number, player in enumerate(dict.fromkeys(part.player for part in song.parts))}
    pitched = song.notes.of(~song.is_drum)
    of_note = np.array([numbers[part.player] for part in song.parts])[pitched.part]
    order = np.argsort(of_note, kind="stable")
    ends = np.flatnonzero(np.diff(of_note[order])) + 1
    return [pitched.of(chosen) for chosen in np.split(order, ends) if chosen.size]


def _voice(song: Song, notes: Notes) -> _Voice:
    first = _strokes(song, notes)
    lines = [np.diff(extreme.reduceat(notes.pitch, first)) for extreme in (np.maximum, np.minimum)]
    durations = np.diff(notes.start_tick[first]).astype(np.float64)
    # 1, 4/3, 3/2, 2, 3 and their inverses lie far from where rounding changes: a tick more or less leaves them
    return _Voice(lines, np.rint(2 * np.log2(durations[1:] / durations[:-1])).astype(np.int64))


def _strokes(song: Song, notes: Notes) -> NDArray[np.int64]:
    """Which of some notes, ordered by their start, are the first of those that are struck together: with however many
    notes a run is played, it never becomes one chord."""
    together = max(1.0, _TOGETHER_BEATS * song.tempo.ticks_per_beat)
    following = np.searchsorted(notes.start_tick, notes.start_tick + together).tolist()
    first, at = list[int](), 0
    while at < len(following):
        first.append(at)
        at = following[at]
    return np.array(first)


def _drums(song: Song) -> _Hashes:
    """Shingles of what is struck together on the drums."""
    notes = song.notes.of(song.is_drum)
    if not len(notes):
        return _NOTHING
    first = _strokes(song, notes)
    keys = np.add.reduceat(_mixed(notes.pitch.astype(np.uint64)) >> np.uint64(44), first)  # whatever their order
    return _united([_shingles(keys.astype(np.int64), _STROKES, _STROKES_DISTINCT)])


def _shingles(steps: NDArray[np.int64], length: int, distinct: int, ratios: NDArray[np.int64] | None = None) -> _Hashes:
    """Hashes of every `length` successive steps (and the ratios between them) of which `distinct` differ."""
    if steps.size < length:
        return _NOTHING
    windows = sliding_window_view(steps, length)  # [shingle, step]
    columns = [*windows.T, *(() if ratios is None else sliding_window_view(ratios, length - 1).T)]
    hashes: _Hashes = np.full(windows.shape[0], length, dtype=np.uint64)
    for column in columns:
        hashes = _mixed(hashes * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64))
    different = 1 + np.count_nonzero(np.diff(np.sort(windows, axis=1), axis=1), axis=1)
    found: _Hashes = hashes[different >= distinct] >> np.uint64(32)
    return found


def _mixed(numbers: _Hashes) -> _Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): the same on every machine, unlike Python's hash."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _united(parts: list[_Hashes]) -> _Hashes:
    """All of them, each once, ascending."""
    return np.unique(np.concatenate([_NOTHING, *parts]))
