"""Beats by essentia's BeatTrackerDegara (Degara et al. 2012); with downbeats by BeatNet where asked for and possible.

Of essentia's two trackers the cheaper one is nearer to the notes (tests/bench/truth.py); neither says where bars begin.
"""

from typing import Final

from luthier_analysis.extra import NoEstimate
from luthier_analysis.facts import Beats
from luthier_analysis.features import beatnet
from luthier_analysis.rhythm import beats_s, has_pulse
from luthier_analysis.settings import Options
from luthier_analysis.sound import Sound

ESTIMATOR: Final = "essentia/BeatTrackerDegara"
MIN_S: Final = 2.0  # below this there are too few beats
MIN_BEATS: Final = 2


def measure(sound: Sound, options: Options) -> Beats | None:
    """Beats in seconds, with the name of their estimator; None without a pulse or for what is too short."""
    if sound.duration_s < MIN_S or not has_pulse(sound):
        return None
    if options.beat_estimator != "beatnet":
        return _essentia(sound, note="downbeats not computed: essentia finds none, the estimator beatnet does")
    try:
        return beatnet.beats(sound)
    except NoEstimate as reason:
        return _essentia(sound, note=f"beatnet gave no beats: {reason}; these are essentia's, downbeats not computed")


def _essentia(sound: Sound, note: str) -> Beats | None:
    times_s = beats_s(sound)
    if len(times_s) < MIN_BEATS:
        return None
    return Beats(tuple(times_s.astype(float).tolist()), (False,) * len(times_s), ESTIMATOR, note=note)
