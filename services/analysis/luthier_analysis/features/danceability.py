"""Danceability by essentia: detrended fluctuation analysis (Streich and Herrera 2005)."""

from luthier_analysis.engine import algorithms
from luthier_analysis.facts import Descriptor
from luthier_analysis.onsets import has_pulse
from luthier_analysis.sound import Sound

MIN_S = 10.0  # the longest fluctuation it looks at


def measure(sound: Sound) -> Descriptor | None:
    """0 to 3 for most music, higher = more danceable; None below 10 s and without a pulse."""
    if sound.duration_s < MIN_S or not has_pulse(sound):
        return None
    value, _ = algorithms.Danceability()(sound.mono)
    return Descriptor("danceability", float(value), "essentia/Danceability")
