"""Neural codecs that reconstruct audio: EnCodec and DAC by transformers.

A codec of one channel does each channel by itself, so that stereo stays stereo. Audio is resampled to the codec's rate,
and comes out at that rate, as long as it was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch

from luthier_baselines.loading import load
from luthier_baselines.work import Result, as_frames
from luthier_kit.rpc import InvalidRequest
from luthier_music.audio import AudioError, Samples, read_audio
from luthier_music.audio_rate import resampled

MAX_DURATION_S: Final = 600.0
ENCODEC_KBPS: Final = 6.0
"""Of EnCodec, where its weights have it: what the papers compare with. The library's own default is the lowest, 1.5."""


class Codec(Protocol):
    """A codec that is loaded."""

    sample_rate_hz: int

    def reconstruct(self, samples: Samples) -> Samples:
        """[frames, channels] at the codec's rate, encoded and decoded: as long, with as many channels."""


def reconstruct(codec: Codec, path: Path) -> Result:
    """A file through the codec, its first two channels. Raises InvalidRequest AUDIO_UNREADABLE for one that cannot be
    read or is longer than MAX_DURATION_S."""
    try:
        samples, rate = read_audio(path, max_duration_s=MAX_DURATION_S)
    except AudioError as error:
        raise InvalidRequest(reason="AUDIO_UNREADABLE", violations=[(str(path), str(error))]) from None
    seconds = len(samples) / rate
    at_rate = resampled(samples[:, :2], rate, codec.sample_rate_hz)
    frames = round(seconds * codec.sample_rate_hz)
    return Result(as_frames(codec.reconstruct(at_rate).T, frames), codec.sample_rate_hz)


class EnCodec:
    """EnCodec at a bandwidth in kbit/s; None = ENCODEC_KBPS where the weights have it, else their highest."""

    def __init__(self, folder: Path, device: torch.device, *, kbps: float | None = None) -> None:
        from transformers import EncodecModel

        self._model = load(EncodecModel, folder).to(device).eval()
        config = self._model.config
        known: Sequence[float] = [float(one) for one in config.target_bandwidths]
        self.kbps = kbps if kbps is not None else ENCODEC_KBPS if ENCODEC_KBPS in known else max(known)
        if self.kbps not in known:
            bound = f"must be one of {', '.join(f'{one:g}' for one in known)} for these weights, got {self.kbps:g}"
            raise InvalidRequest(reason="BANDWIDTH_UNKNOWN", violations=[("--kbps", bound)])
        self.sample_rate_hz, self._channels = int(config.sampling_rate), int(config.audio_channels)

    @torch.inference_mode()
    def reconstruct(self, samples: Samples) -> Samples:
        audio = _batch(samples, self._channels).to(self._model.device)  # (batch, channels, samples)
        codes = self._model.encode(audio, bandwidth=self.kbps)
        decoded = self._model.decode(
            codes.audio_codes, codes.audio_scales, last_frame_pad_length=codes.last_frame_pad_length
        ).audio_values
        return _frames(decoded, samples.shape)


class DAC:
    """DAC with all its quantizers, or the first `quantizers`."""

    def __init__(self, folder: Path, device: torch.device, *, quantizers: int | None = None) -> None:
        from transformers import DacModel

        self._model = load(DacModel, folder).to(device).eval()
        config = self._model.config
        most = int(config.n_codebooks)
        self.quantizers = most if quantizers is None else quantizers
        if not 1 <= self.quantizers <= most:
            bound = f"must be 1 to {most} for these weights, got {self.quantizers}"
            raise InvalidRequest(reason="QUANTIZERS_OUT_OF_RANGE", violations=[("--quantizers", bound)])
        self.sample_rate_hz, self._hop = int(config.sampling_rate), int(config.hop_length)

    @torch.inference_mode()
    def reconstruct(self, samples: Samples) -> Samples:
        """Filled to whole frames and one more: the decoder gives less than its frames hold where a stride is odd."""
        audio = _batch(samples, 1).to(self._model.device)  # (channels, 1, samples)
        padded = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % self._hop + self._hop))
        decoded = self._model(padded, n_quantizers=self.quantizers).audio_values  # (channels, samples)
        return _frames(decoded, samples.shape)


def _batch(samples: Samples, channels: int) -> torch.Tensor:
    """[frames, n] -> (n, 1, frames) of a codec of one channel, (1, 2, frames) of one of two."""
    audio = torch.from_numpy(np.ascontiguousarray(samples.T))
    if channels == 1:
        return audio[:, None]
    return audio.expand(channels, -1)[None] if len(audio) == 1 else audio[None]


def _frames(decoded: torch.Tensor, shape: tuple[int, ...]) -> Samples:
    """(n, 1, samples), (1, 2, samples) or (n, samples) -> [frames, n]; of mono that went as stereo the mean."""
    frames, channels = shape
    audio = decoded.float().cpu().numpy().reshape(-1, decoded.shape[-1])
    audio = audio.mean(axis=0, keepdims=True) if channels == 1 and len(audio) > 1 else audio
    return as_frames(audio, frames)
