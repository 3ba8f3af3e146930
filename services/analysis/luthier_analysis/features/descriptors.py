"""Descriptors: scalars about the sound, each with its unit in its name; None = cannot be said of this sound."""

from collections.abc import Callable
from typing import Final

import numpy as np

from luthier_analysis.engine import algorithms, has_pulse, onsets_s
from luthier_analysis.facts import Descriptor
from luthier_analysis.sound import ESSENTIA_RATE_HZ, FRAME_S, SILENCE_DBFS, Sound, projected_power

_CENTROID_FRAME: Final = 4096  # samples at 44.1 kHz
_CENTROID_GATE: Final = 1e-4  # of the loudest frame's power: -40 dB
_CENTROID_MIN_POWER: Final = 1e-12  # -120 dBFS
_MOMENTARY_S: Final = 0.4  # the momentary window of EBU R 128
_LOUD_PERCENTILE, _SOFT_PERCENTILE = 95, 10  # of EBU Tech 3342, there on 3 s windows
_DANCEABILITY_MIN_S: Final = 10.0  # the longest fluctuation it looks at


def spectral_centroid(sound: Sound) -> Descriptor | None:
    """Brightness: the median centroid of the power spectrum, in Hz, of the frames that are not silent."""
    hertz = np.fft.rfftfreq(_CENTROID_FRAME, 1 / ESSENTIA_RATE_HZ)
    basis = np.stack([np.ones_like(hertz), hertz], axis=1)
    moments = projected_power(sound.mono, _CENTROID_FRAME, _CENTROID_FRAME, basis)
    total = moments[:, 0]  # (frames,)
    loud = total > max(_CENTROID_GATE * total.max(), _CENTROID_MIN_POWER)
    if not loud.any():
        return None
    centroid_hz = float(np.median(moments[loud, 1] / total[loud]))
    return Descriptor("spectral_centroid_hz", centroid_hz, "luthier/spectral-centroid-1")


def onset_rate(sound: Sound) -> Descriptor | None:
    """How busy the music is: onsets per second; None for silence."""
    if sound.mostly_silent:
        return None
    return Descriptor("onset_rate_hz", len(onsets_s(sound)) / sound.duration_s, "essentia/OnsetRate")


def dynamic_range(sound: Sound) -> Descriptor | None:
    """How far the loud moments lie above the soft ones: spread in dB between percentiles of the momentary level.

    Silence is left out; None for nothing but silence.
    """
    per_window = round(_MOMENTARY_S / FRAME_S)
    power = 10 ** (sound.levels_dbfs / 10)
    smooth = np.convolve(power, np.full(per_window, 1 / per_window), "valid") if len(power) >= per_window else power
    levels = 10 * np.log10(smooth)
    loud_enough = levels[levels >= SILENCE_DBFS]
    if not len(loud_enough):
        return None
    loud, soft = np.percentile(loud_enough, [_LOUD_PERCENTILE, _SOFT_PERCENTILE])
    return Descriptor("dynamic_range_db", float(loud - soft), "luthier/dynamic-range-1")


def danceability(sound: Sound) -> Descriptor | None:
    """By essentia: detrended fluctuation analysis (Streich and Herrera 2005), 0 to 3 for most music, higher = more.

    None below 10 s and without a pulse.
    """
    if sound.duration_s < _DANCEABILITY_MIN_S or not has_pulse(sound):
        return None
    value, _ = algorithms.Danceability()(sound.mono)
    return Descriptor("danceability", float(value), "essentia/Danceability")


DESCRIPTORS: Final[tuple[Callable[[Sound], Descriptor | None], ...]] = (
    spectral_centroid,
    onset_rate,
    dynamic_range,
    danceability,
)


def measure(sound: Sound) -> tuple[Descriptor, ...]:
    """All descriptors that can be said of the sound."""
    return tuple(found for describe in DESCRIPTORS if (found := describe(sound)) is not None)
