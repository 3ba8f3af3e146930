"""Onset rate: how busy the music is."""

from luthier_analysis.facts import Descriptor
from luthier_analysis.onsets import onsets_s
from luthier_analysis.sound import Sound


def measure(sound: Sound) -> Descriptor | None:
    """Onsets per second; None for silence."""
    if sound.mostly_silent:
        return None
    return Descriptor("onset_rate_hz", len(onsets_s(sound)) / sound.duration_s, "essentia/OnsetRate")
