"""Integrated loudness after ITU-R BS.1770-4, and the sample peak."""

import math

from luthier_analysis.facts import Loudness
from luthier_analysis.sound import Sound
from luthier_music.audio import peak
from luthier_music.loudness import integrated_loudness_lufs


def measure(sound: Sound) -> Loudness | None:
    """LUFS and dBFS; None for silence, which has no loudness."""
    loudness_lufs = integrated_loudness_lufs(sound.samples, sound.sample_rate_hz)
    if not math.isfinite(loudness_lufs):
        return None
    return Loudness(loudness_lufs, 20 * math.log10(peak(sound.samples)))
