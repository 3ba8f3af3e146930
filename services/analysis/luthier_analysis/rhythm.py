"""Onsets and beats of a sound, found once for all features that ask: essentia's OnsetRate, BeatTrackerDegara and
BeatTrackerMultiFeature with the detection functions of `onset_functions`."""

from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from luthier_analysis.engine import algorithms
from luthier_analysis.onset_functions import COARSE_HOP, HOP, beat_functions, complex_difference, onset_functions
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound

MAX_CONFIDENCE: Final = 5.32  # of the beats, as essentia's documentation says; trackers that are equal reach 5
_MIN_PULSE_HZ: Final = 0.4  # fewer onsets than this per second bear no beat: trackers then invent one


@dataclass(frozen=True)
class AgreedBeats:
    """Beats in seconds, (n,) ascending, and how far the trackers agree: 0 to MAX_CONFIDENCE."""

    times_s: np.ndarray
    confidence: float


_onsets: WeakKeyDictionary[Sound, np.ndarray] = WeakKeyDictionary()
_beats: WeakKeyDictionary[Sound, np.ndarray] = WeakKeyDictionary()  # by the complex domain alone


def onsets_s(sound: Sound) -> np.ndarray:
    """(n,) ascending times in seconds by OnsetRate (complex domain and high frequencies).

    None for what is mostly silent, in which the detector finds some.
    """
    if sound.mostly_silent:
        return np.empty(0)
    if sound not in _onsets:
        functions = np.stack(onset_functions(sound.mono))
        _onsets[sound] = algorithms.Onsets()(functions, np.ones(len(functions), np.float32))
    return _onsets[sound]


def has_pulse(sound: Sound) -> bool:
    """Whether there are onsets enough for a rhythm."""
    return len(onsets_s(sound)) >= _MIN_PULSE_HZ * sound.duration_s


def beats_s(sound: Sound) -> np.ndarray:
    """(n,) ascending times in seconds, tracked by the complex domain difference (Degara et al. 2012)."""
    if sound not in _beats:
        _beats[sound] = _tracked(complex_difference(sound.mono), COARSE_HOP)
    return _beats[sound]


def agreed_beats(sound: Sound) -> AgreedBeats:
    """Beats tracked by five detection functions: those that the others agree with most (Zapata et al. 2014)."""
    functions = beat_functions(sound.mono)
    candidates = [
        _tracked(functions.complex_difference, COARSE_HOP),
        _tracked(functions.energy_flux, COARSE_HOP),
        _tracked(functions.mel_flux, COARSE_HOP),
        _tracked(functions.beat_emphasis, HOP),
        _tracked(functions.information_gain, HOP),
    ]
    _beats[sound] = candidates[0]
    times_s, confidence = _MaxAgreement()(candidates)
    return AgreedBeats(times_s, float(confidence))


def _tracked(function: np.ndarray, hop: int) -> np.ndarray:
    """Beats of a detection function, of which the coarse ones are brought to HOP."""
    resample = "x2" if hop == COARSE_HOP else "none"
    tracker = algorithms.TempoTapDegara(sampleRateODF=ESSENTIA_RATE_HZ / hop, resample=resample)
    times_s: np.ndarray = tracker(function)
    return times_s


class _MaxAgreement(algorithms.TempoTapMaxAgreement):  # type: ignore[misc]
    """As BeatTrackerMultiFeature has it. essentia's Python configures algorithms twice, and this one then has each bin
    of its histogram twice: it picks other beats."""

    def configure(self) -> None:
        """Not again."""
