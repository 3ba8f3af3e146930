"""What the embedders of the papers' metrics share: the input that they take, and how stable-audio-metrics levels it."""

from typing import Final

import numpy as np

from luthier_evaluation.embedders.base import SILENT_BELOW, Floats
from luthier_kit.rpc import InvalidRequest

PEAK_DBFS: Final = -1.0
"""To which stable-audio-metrics brings the highest sample of a file before each of its three metrics."""
MIN_S, MAX_S = 0.5, 3600.0


def levelled(samples: Floats, channels: int, sample_rate_hz: int) -> Floats:
    """Samples (frames, channels), the highest of all channels at PEAK_DBFS.

    InvalidRequest where they are not that, not of MIN_S to MAX_S, not finite (AUDIO_NOT_FINITE) or silent
    (AUDIO_SILENT).
    """
    shortest, longest = int(MIN_S * sample_rate_hz), int(MAX_S * sample_rate_hz)
    if samples.ndim != 2 or samples.shape[1] != channels or not shortest <= len(samples) <= longest:
        bound = f"must be (frames, {channels}), {shortest} to {longest} frames, got {samples.shape}"
        raise InvalidRequest(violations=[("samples", bound)])
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise InvalidRequest("the audio holds NaN or infinity", reason="AUDIO_NOT_FINITE")
    if peak < SILENT_BELOW:
        raise InvalidRequest("silence has no embedding", reason="AUDIO_SILENT")
    return (samples * (10 ** (PEAK_DBFS / 20) / peak)).astype(np.float32)


def finite(name: str, *outputs: Floats) -> None:
    """InvalidRequest AUDIO_NOT_FINITE where a network gave NaN or infinity."""
    if not all(np.isfinite(output).all() for output in outputs):
        raise InvalidRequest(f"{name} gives NaN or infinity for this audio", reason="AUDIO_NOT_FINITE")
