"""Audio files under bounds, decoded, and the views of them that features share.

The header decides before anything is decoded. The service reads headers and must not load SciPy for that: its imports
stand inside.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from luthier_music.audio import AudioError, AudioInfo, audio_info, read_audio
from luthier_music.audio_rate import resampled

MIN_S, MAX_S = 0.5, 1800.0
ESSENTIA_RATE_HZ: Final = 44_100  # what essentia's algorithms assume
SILENCE_DBFS: Final = -60.0  # a frame below this is silent
FRAME_S: Final = 0.05  # of the level envelope
REST_S: Final = 2.0  # a bar of four beats at 120 BPM; longer silence between sounds is silence
ANTIPHASE_SHARE: Final = 0.05  # of the channels' mean power, below which their mean has lost the music (-13 dB)
_LARGE_OFFSET: Final = 0.01  # of the power of a frame
_CONSTANT: Final = 1e-10  # of the power of an offset, which float32 leaves of a constant
_MOSTLY: Final = 0.9  # estimators find things in what is silent for more than this share
_FORMATS: Final = ("FLAC", "WAV", "WAVEX")
_MAX_CHANNELS: Final = 2
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
_SPECTRUM_BLOCK: Final = 256  # frames at a time, so that memory stays small for long songs


def read_header(path: Path) -> AudioInfo:
    """Header of a FLAC or WAV file. AudioError naming the bound that it breaks."""
    info = audio_info(path)
    if info.format not in _FORMATS:
        raise AudioError(f"must be FLAC or WAV, got {info.format}")
    if not 1 <= info.channels <= _MAX_CHANNELS:
        raise AudioError(f"must have 1 or {_MAX_CHANNELS} channels, got {info.channels}")
    if not MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
        raise AudioError(f"must be sampled at {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {info.sample_rate_hz}")
    if not MIN_S <= info.duration_s <= MAX_S:
        raise AudioError(f"must last {MIN_S} to {MAX_S:.0f} s, its header says {info.duration_s:.3f} s")
    return info


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
        """One channel at 44.1 kHz without offset: (n,) float32, for essentia and for sections.

        The mean of the channels; where they are in antiphase, so that it cancels the music, the louder one.
        """
        left, right = self.samples[:, 0], self.samples[:, -1]
        mono = left if self.channels == 1 else left + right
        if self.channels > 1:
            mono *= np.float32(0.5)
        powers = [_variance(left), _variance(right)]
        if _variance(mono) < ANTIPHASE_SHARE * np.mean(powers):
            mono = left if powers[0] >= powers[1] else right
        offset = mono.mean()
        if abs(offset) > 10 ** (SILENCE_DBFS / 20):  # else all stays to the bit: beat trackers turn on less
            mono = mono - offset
        return np.ascontiguousarray(resampled(mono, self.sample_rate_hz, ESSENTIA_RATE_HZ))

    @cached_property
    def levels_dbfs(self) -> np.ndarray:
        """RMS level of each whole FRAME_S without its offset: (n,) dBFS, -200 for digital silence."""
        count = max(1, len(self.samples) // round(FRAME_S * self.sample_rate_hz))
        frame = min(len(self.samples), round(FRAME_S * self.sample_rate_hz))
        frames = np.ascontiguousarray(self.samples[: count * frame]).reshape(count, frame * self.channels)
        power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
        pairs = frames.view(np.complex64) if self.channels == 2 else frames  # NumPy is slow on a short last axis
        means = pairs.mean(axis=1).view(np.float32).reshape(count, self.channels)
        offset = np.square(means).mean(axis=1)
        large = offset > _LARGE_OFFSET * power  # their difference is then too small for float32
        power -= offset
        centred = frames[large].reshape(-1, frame, self.channels) - means[large, None]
        power[large] = np.square(centred).mean(axis=(1, 2))
        power[power <= _CONSTANT * offset] = 0.0
        levels: np.ndarray = 10 * np.log10(np.maximum(power, 1e-20))
        return levels

    @cached_property
    def silent(self) -> np.ndarray:
        """Whether each frame of `levels_dbfs` is silent: (n,). Rests shorter than REST_S between sounds, as between the
        clicks of a click track, are music."""
        silent: np.ndarray = self.levels_dbfs < SILENCE_DBFS
        edges = np.flatnonzero(np.diff(silent)) + 1
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if silent[first] and (last - first) * FRAME_S < REST_S:
                silent[first:last] = False
        return silent

    @cached_property
    def mostly_silent(self) -> bool:
        """Whether there is too little sound to say anything of its music."""
        return self.silent_share() > _MOSTLY

    def silent_share(self) -> float:
        """Share of its time that is silent, 0..1."""
        return float(np.mean(self.silent))

    def excerpt(self, start_s: float, end_s: float) -> "Sound":
        """The span [start_s, end_s), a view of the same samples."""
        first, last = (round(edge * self.sample_rate_hz) for edge in (start_s, end_s))
        return Sound(self.samples[first:last], self.sample_rate_hz)


def _variance(signal: np.ndarray) -> float:
    """Power without offset of (n,) samples; 0 for what float32 leaves of a constant."""
    return max(0.0, float(np.dot(signal, signal)) / len(signal) - float(signal.mean()) ** 2)


def load(path: Path, span: tuple[float, float] | None = None) -> Sound:
    """Decode a file within the bounds of `read_header`, all of it or one span in seconds.

    AudioError where the audio data is damaged, shorter than its header says, or not finite.
    """
    info = read_header(path)
    start_s, end_s = span or (0.0, info.duration_s)
    return Sound(*read_audio(path, start_s=start_s, duration_s=end_s - start_s, max_duration_s=MAX_S))


def projected_power(signal: np.ndarray, frame: int, hop: int, basis: np.ndarray) -> np.ndarray:
    """Hann-windowed power spectra of whole frames, times `basis` (frame // 2 + 1, k): (frames, k) float32.

    A full-scale sine has power 1 at its bin. At least one frame, zero-padded where the signal is shorter.
    """
    from scipy import fft

    if len(signal) < frame:
        signal = np.pad(signal, (0, frame - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame)[::hop]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)).astype(np.float32)
    window /= window.sum() / 2
    basis = basis.astype(np.float32)
    projected = np.empty((len(frames), basis.shape[1]), np.float32)
    for first in range(0, len(frames), _SPECTRUM_BLOCK):
        block = fft.rfft(frames[first : first + _SPECTRUM_BLOCK] * window, axis=1)
        projected[first : first + _SPECTRUM_BLOCK] = (block.real**2 + block.imag**2) @ basis
    return projected
