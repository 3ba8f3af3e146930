"""The sound of which `tests/bench/basic_pitch_reference.py` keeps the notes that the package basic-pitch hears."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 22_050
CHORDS: Final = ((45, 57, 60, 64, 76), (41, 53, 57, 60, 72), (48, 55, 60, 64, 67), (43, 55, 59, 62, 74))
"""MIDI pitches: bass, three of a chord, melody."""


def reference_sound() -> NDArray[np.float32]:
    """8 s: four chords of two seconds with a bass and a melody of quavers that leans into the chord from below."""
    found = np.zeros(RATE_HZ * 8)
    for bar, (bass, *chord, top) in enumerate(CHORDS):
        for pitch in (bass, *chord):
            add(found, pitch, 2 * bar, 1.9, 0.2)
        for quaver in range(8):
            add(found, top - (2 if quaver % 4 == 0 else 0) + (3 if quaver == 6 else 0), 2 * bar + quaver / 4, 0.22, 0.3)
    return (0.5 * found / np.abs(found).max()).astype(np.float32)


def add(to: NDArray[np.float64], pitch: int, start_s: float, seconds: float, level: float) -> None:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sines = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((pitch - 69) / 12) * t) / k**1.5 for k in range(1, 7))
    first = round(start_s * RATE_HZ)
    to[first : first + t.size] += level * sines * np.minimum(1, np.minimum(t / 0.01, (seconds - t) / 0.03)) * np.exp(-t)
