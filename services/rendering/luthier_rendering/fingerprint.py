"""A song's identity by content, so that duplicates are found and all its renders stay in one split.

What counts: which notes start when, in beats, per program or drums. What does not: names, texts, track order, the
split into tracks, resolution (ticks per beat), silence before the first note, velocities and note lengths, and the
whole tempo map. A transposition or another song differs.
"""

import hashlib
from typing import Final

import numpy as np

from luthier_rendering.midi import Song

_STEPS_PER_BEAT: Final = 12  # holds sixteenths (3) and eighth triplets (4)
_VERSION: Final = b"luthier-fingerprint-1"


def fingerprint(song: Song) -> str:
    """64 lowercase hexadecimal digits."""
    notes, per_beat = song.notes, song.tempo.ticks_per_beat
    first = notes.start_tick.min()
    steps = (2 * (notes.start_tick - first) * _STEPS_PER_BEAT + per_beat) // (2 * per_beat)
    voices = np.array([128 if p.instrument.is_drum else p.instrument.program for p in song.parts])[notes.part]
    rows = np.unique(np.stack([steps, voices, notes.pitch], axis=1), axis=0)
    return hashlib.sha256(_VERSION + rows.astype("<i8").tobytes()).hexdigest()
