"""Clips as the model takes them: its sample rate and its channels."""

from pathlib import Path

import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import Configuration
from luthier_music.audio import AudioError, audio_info, read_audio
from luthier_music.audio_rate import resampled

REASON = "AUDIO_INVALID"
MAX_CLIP_S = 3600.0
RESAMPLING_MARGIN_S = 0.05
"""Longer than what libsoxr's filter reaches, at the rates of clips and models."""


def read(path: Path, configuration: Configuration) -> torch.Tensor:
    """A clip as (channels, samples) float32 at the model's rate; a clip of another number of channels becomes mono
    on all of them. InvalidRequest AUDIO_INVALID when it is not audio, is empty or lasts longer than MAX_CLIP_S.
    """
    return _read(path, configuration)


def read_crop(path: Path, configuration: Configuration, first: int, count: int) -> torch.Tensor:
    """(channels, count) samples of a clip from sample `first` (0 to its length) at the model's rate, silence behind it.

    Only this part of the file is decoded, with a margin, so that resampling gives it no edges of its own.
    """
    rate_hz = configuration.sample_rate_hz
    start_s = max(0.0, first / rate_hz - RESAMPLING_MARGIN_S)
    duration_s = (first + count) / rate_hz + RESAMPLING_MARGIN_S - start_s
    samples = _read(path, configuration, start_s, duration_s)
    begin = first - round(start_s * rate_hz)
    crop = samples[:, begin : begin + count]
    return torch.nn.functional.pad(crop, (0, count - crop.shape[1]))


def duration_s(path: Path) -> float:
    """How long a clip lasts by its header; InvalidRequest AUDIO_INVALID as `read`."""
    try:
        found = audio_info(path).duration_s
    except AudioError as error:
        raise InvalidRequest(str(error), reason=REASON) from None
    if not 0 < found <= MAX_CLIP_S:
        raise InvalidRequest(
            f"{path.name} lasts {found:g} s, must be above 0 and at most {MAX_CLIP_S:g} s", reason=REASON
        )
    return found


def _read(
    path: Path, configuration: Configuration, start_s: float = 0.0, length_s: float | None = None
) -> torch.Tensor:
    try:
        samples, rate_hz = read_audio(path, start_s=start_s, duration_s=length_s, max_duration_s=MAX_CLIP_S)
    except AudioError as error:
        raise InvalidRequest(str(error), reason=REASON) from None
    if not len(samples):  # (frames, channels)
        raise InvalidRequest(f"{path.name} holds no sound", reason=REASON)
    if samples.shape[1] != configuration.channels:
        samples = samples.mean(axis=1, keepdims=True).repeat(configuration.channels, axis=1)
    return torch.from_numpy(resampled(samples, rate_hz, configuration.sample_rate_hz).T.copy())  # (channels, samples)
