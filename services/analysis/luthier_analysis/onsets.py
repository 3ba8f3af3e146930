"""Note onsets by essentia's OnsetRate (complex domain and high frequencies), found once for all who ask."""

from weakref import WeakKeyDictionary

import numpy as np

from luthier_analysis.engine import algorithms
from luthier_analysis.sound import Sound

MIN_PULSE_HZ = 0.4  # fewer onsets than this per second bear no beat: trackers then invent one

_found: WeakKeyDictionary[Sound, np.ndarray] = WeakKeyDictionary()


def onsets_s(sound: Sound) -> np.ndarray:
    """(n,) ascending times in seconds; none for what is mostly silent, in which the detector hears some."""
    if sound.mostly_silent:
        return np.empty(0)
    if sound not in _found:
        _found[sound] = algorithms.OnsetRate()(sound.mono)[0]
    return _found[sound]


def has_pulse(sound: Sound) -> bool:
    """Whether there are onsets enough to speak of rhythm."""
    return len(onsets_s(sound)) >= MIN_PULSE_HZ * sound.duration_s
