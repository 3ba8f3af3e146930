"""Dynamics: how far the loud moments lie above the soft ones."""

import numpy as np

from luthier_analysis.facts import Descriptor
from luthier_analysis.sound import FRAME_S, SILENCE_DBFS, Sound

WINDOW_S = 0.4  # the momentary window of EBU R 128
LOUD, SOFT = 95, 10  # percentiles of EBU Tech 3342, there on 3 s windows


def measure(sound: Sound) -> Descriptor | None:
    """Spread in dB between the percentiles of the momentary level, silence left out; None for silence."""
    per_window = round(WINDOW_S / FRAME_S)
    power = 10 ** (sound.levels_dbfs / 10)
    smooth = np.convolve(power, np.full(per_window, 1 / per_window), "valid") if len(power) >= per_window else power
    levels = 10 * np.log10(smooth)
    sounding = levels[levels >= SILENCE_DBFS]
    if not len(sounding):
        return None
    loud, soft = np.percentile(sounding, [LOUD, SOFT])
    return Descriptor("dynamic_range_db", float(loud - soft), "luthier/dynamic-range-1")
