"""Acousticness, instrumentalness and valence of audio without notes, by vibenet where its extra is installed."""

from luthier_analysis.extra import NoEstimate
from luthier_analysis.facts import Perceptual
from luthier_analysis.features import vibenet
from luthier_analysis.sound import Sound


def measure(sound: Sound) -> Perceptual:
    """Descriptors by what listeners would say; empty for silence and what is too short."""
    try:
        return Perceptual(vibenet.measure(sound))
    except NoEstimate as reason:
        return Perceptual(note=f"acousticness, instrumentalness and valence not computed: {reason}")
