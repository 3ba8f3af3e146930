"""essentia, imported once and quiet, and the note onsets that several features ask of it.

Its algorithms hold the GIL for seconds: they run in worker processes only.
"""

from typing import Final
from weakref import WeakKeyDictionary

import essentia
import numpy as np

from luthier_analysis.sound import Sound

essentia.log.infoActive = False
essentia.log.warningActive = False

import essentia.standard as algorithms  # noqa: E402  (the import itself logs)

__all__ = ["algorithms", "has_pulse", "onsets_s"]

_MIN_PULSE_HZ: Final = 0.4  # fewer onsets than this per second bear no beat: trackers then invent one
_found: WeakKeyDictionary[Sound, np.ndarray] = WeakKeyDictionary()


def onsets_s(sound: Sound) -> np.ndarray:
    """(n,) ascending times in seconds by OnsetRate (complex domain and high frequencies); found once for all who ask.

    None for what is mostly silent, in which the detector finds some.
    """
    if sound.mostly_silent:
        return np.empty(0)
    if sound not in _found:
        _found[sound] = algorithms.OnsetRate()(sound.mono)[0]
    return _found[sound]


def has_pulse(sound: Sound) -> bool:
    """Whether there are onsets enough for a rhythm."""
    return len(onsets_s(sound)) >= _MIN_PULSE_HZ * sound.duration_s
