"""Descriptors: scalars about the sound, each with its unit in its name; None = cannot be said of this sound."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from luthier_analysis.engine import algorithms
from luthier_analysis.facts import Descriptor
from luthier_analysis.rhythm import has_pulse, onsets_s
from luthier_analysis.sound import ESSENTIA_RATE_HZ, FRAME_S, SILENCE_DBFS, Sound, projected_power

_CENTROID_FRAME: Final = 4096  # samples at 44.1 kHz
_CENTROID_GATE: Final = 1e-4  # of the loudest frame's power: -40 dB
_CENTROID_MIN_POWER: Final = 1e-12  # -120 dBFS
_MOMENTARY_S: Final = 0.4  # the momentary window of EBU R 128
_LOUD_PERCENTILE, _SOFT_PERCENTILE = 95, 10  # of EBU Tech 3342, there on 3 s windows
_DANCEABILITY_MIN_S: Final = 10.0  # the longest fluctuation it looks at
_BUSY_HZ: Final = 8.0  # onsets per second of full energy: sixteenths at 120 BPM
_WIDE_DB: Final = 20.0  # dynamic range of none
_DULL_HZ, _BRIGHT_HZ = 125.0, 2_000.0  # spectral centroids of none and of full energy


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


def energy(found: Sequence[Descriptor]) -> Descriptor | None:
    """How intense and active the music is, 0 to 1: the mean of how busy, how evenly loud and how bright it is.

    Each is a straight line between the bounds above, brightness by octaves, from the descriptors of these names. These
    are qualities by which the Echo Nest, later Spotify, described its energy (onset rate, dynamic range, timbre); its
    formula was never published. Level does not count: renders are brought to one loudness.
    None where one of the three cannot be said.
    """
    value = {one.name: one.value for one in found}
    if not {"onset_rate_hz", "dynamic_range_db", "spectral_centroid_hz"} <= value.keys():
        return None
    busy = value["onset_rate_hz"] / _BUSY_HZ
    even = 1 - value["dynamic_range_db"] / _WIDE_DB
    bright = np.log(value["spectral_centroid_hz"] / _DULL_HZ) / np.log(_BRIGHT_HZ / _DULL_HZ)
    return Descriptor("energy", float(np.clip([busy, even, bright], 0, 1).mean()), "luthier/energy-1")


DESCRIPTORS: Final[tuple[Callable[[Sound], Descriptor | None], ...]] = (
    spectral_centroid,
    onset_rate,
    dynamic_range,
    danceability,
)


def measure(sound: Sound) -> tuple[Descriptor, ...]:
    """All descriptors that can be said of the sound, and its energy, which is made of them."""
    found = [one for describe in DESCRIPTORS if (one := describe(sound)) is not None]
    of_all = energy(found)
    return (*found, of_all) if of_all else tuple(found)
