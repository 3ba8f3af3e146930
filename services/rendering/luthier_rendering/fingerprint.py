"""A song's identity by content, so that duplicates are found and all its renders stay in one split.

Per program, and drums: the keys in the order in which they are struck, those that are struck together as one chord; and
in beats from the first note, where the strokes lie: their mean, their spread, and how pitch moves with time. These are
averages, so that a tick more or less, as another sequencer's tempo map or resolution leaves it, moves them by next to
nothing, where a digest of quantised onsets would fall apart at the first note near a quantisation boundary. For the
same reason, what counts as together is decided in the widest hole of the song's own distances between strokes.

What does not count: names, texts, track order, the split into tracks, resolution (ticks per beat), silence before the
first note, velocities, note lengths and the whole tempo map. A transposition, another rhythm or another song differs.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_rendering.midi import Song

_STEP: Final = 0.25  # of the averages, in beats (and beats times semitones)
_OFFSET: Final = 0.3178  # keeps the simple fractions that music is made of away from the rounding's boundaries
_DRUMS: Final = 128
_TOGETHER_BEATS: Final = (1 / 96, 1 / 8)  # strokes closer than the first are a chord, further than the second are not
_VERSION: Final = b"luthier-fingerprint-2"


def fingerprint(song: Song) -> str:
    """64 lowercase hexadecimal digits."""
    notes = song.notes
    beats = (notes.start_tick - notes.start_tick.min()) / song.tempo.ticks_per_beat
    voices = np.array([_DRUMS if p.instrument.is_drum else p.instrument.program for p in song.parts])[notes.part]
    order = np.lexsort((notes.pitch, beats, voices))
    beats, voices, pitches = beats[order], voices[order], notes.pitch[order]
    digest = hashlib.sha256(_VERSION)
    for voice in np.unique(voices).tolist():
        mine = voices == voice
        digest.update(_digits(voice, pitches[mine], beats[mine]).astype("<i8").tobytes())
    return digest.hexdigest()


def _digits(voice: int, pitches: NDArray[np.int64], beats: NDArray[np.float64]) -> NDArray[np.int64]:
    """What is hashed of one voice, whose strokes are ordered by time: its program, its keys, where chords start among
    them, and the three averages in steps."""
    gaps = np.diff(beats)
    low, high = _TOGETHER_BEATS
    edges = np.unique(np.concatenate([[low, high], gaps[(gaps > low) & (gaps < high)]]))
    widest = int(np.diff(edges).argmax())
    chord = np.concatenate([[0], np.cumsum(gaps > (edges[widest] + edges[widest + 1]) / 2)])
    in_order = np.lexsort((pitches, chord))
    centred = beats - beats.mean()
    averages = [beats.mean(), np.sqrt(np.mean(centred**2)), np.mean(centred * (pitches - pitches.mean()))]
    steps = np.floor(np.array(averages) / _STEP + _OFFSET)
    return np.concatenate([[voice, pitches.size], pitches[in_order], chord[in_order], steps]).astype(np.int64)
