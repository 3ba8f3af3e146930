"""Decoded audio, and the views of it that features share."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from luthier_analysis.header import MAX_S, read_header
from luthier_music.audio import AudioError, read_audio

ESSENTIA_RATE_HZ = 44_100  # what essentia's algorithms assume
SILENCE_DBFS = -60.0  # a frame below this is silent
MOSTLY = 0.9  # estimators hear things in what is silent for more than this share
FRAME_S = 0.05  # of the level envelope


@dataclass(frozen=True, eq=False)
class Sound:
    """Decoded audio, equal only to itself. samples: (frames, channels) float32, nominally -1..1, finite."""

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    @cached_property
    def mono(self) -> np.ndarray:
        """Mean of the channels at 44.1 kHz: (n,) float32, for essentia and for sections."""
        mono = self.samples.mean(axis=1, dtype=np.float32)
        return np.ascontiguousarray(resampled(mono, self.sample_rate_hz, ESSENTIA_RATE_HZ))

    @cached_property
    def levels_dbfs(self) -> np.ndarray:
        """RMS level of each whole FRAME_S: (n,) dBFS, -200 for digital silence."""
        step = round(FRAME_S * self.sample_rate_hz)
        count = max(1, len(self.samples) // step)
        frames = self.samples[: count * step].reshape(count, -1)
        power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
        return 10 * np.log10(np.maximum(power, 1e-20))

    @cached_property
    def mostly_silent(self) -> bool:
        """Too little sounds to speak of its music."""
        return self.silent_share() > MOSTLY

    def part(self, start_s: float, end_s: float) -> "Sound":
        """The stretch [start_s, end_s), a view of the same samples."""
        first, last = (round(edge * self.sample_rate_hz) for edge in (start_s, end_s))
        return Sound(self.samples[first:last], self.sample_rate_hz)

    def silent_share(self) -> float:
        """Share of its time below SILENCE_DBFS, 0..1."""
        return float(np.mean(self.levels_dbfs < SILENCE_DBFS))


def resampled(signal: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """(n,) float32 at another rate, polyphase."""
    if rate_hz == wanted_hz:
        return signal
    shared = gcd(rate_hz, wanted_hz)
    return resample_poly(signal, wanted_hz // shared, rate_hz // shared).astype(np.float32)


def load(path: Path, span: tuple[float, float] | None = None) -> Sound:
    """Decode a file within the bounds of `read_header`, all of it or one span in seconds.

    Raises AudioError where the audio data is damaged, shorter than its header says, or not finite.
    """
    info = read_header(path)
    start_s, end_s = span or (0.0, info.duration_s)
    samples, rate_hz = read_audio(path, start_s=start_s, duration_s=end_s - start_s, max_duration_s=MAX_S)
    promised = min(round((end_s - start_s) * rate_hz), info.frames)
    if len(samples) < promised - 1:
        raise AudioError(f"ends after {len(samples)} of the {promised} frames that its header promises")
    return Sound(samples, rate_hz)
