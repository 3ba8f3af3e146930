"""Brightness: the median spectral centroid of the frames that sound."""

import numpy as np

from luthier_analysis.facts import Descriptor
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound
from luthier_analysis.spectrum import projected_power

FRAME = 4096
GATE = 1e-4  # of the loudest frame's power: -40 dB
MIN_POWER = 1e-12  # -120 dBFS


def measure(sound: Sound) -> Descriptor | None:
    """Centroid of the power spectrum in Hz; None for silence."""
    hertz = np.fft.rfftfreq(FRAME, 1 / ESSENTIA_RATE_HZ)
    moments = projected_power(sound.mono, FRAME, FRAME, np.stack([np.ones_like(hertz), hertz], axis=1))
    total = moments[:, 0]  # (frames,)
    sounding = total > max(GATE * total.max(), MIN_POWER)
    if not sounding.any():
        return None
    centroid_hz = float(np.median(moments[sounding, 1] / total[sounding]))
    return Descriptor("spectral_centroid_hz", centroid_hz, "luthier/spectral-centroid-1")
