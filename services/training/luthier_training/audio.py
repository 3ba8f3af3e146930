"""Clips as the model takes them: its sample rate and its channels."""

from pathlib import Path

import torch

from luthier_kit.rpc import InvalidRequest
from luthier_model.configuration import Configuration
from luthier_music.audio import AudioError, read_audio
from luthier_music.audio_rate import resampled

REASON = "AUDIO_INVALID"
MAX_CLIP_S = 3600.0


def read(path: Path, configuration: Configuration) -> torch.Tensor:
    """A clip as (channels, samples) float32 at the model's rate; a clip of another number of channels becomes mono
    on all of them. InvalidRequest AUDIO_INVALID when it is not audio, is empty or lasts longer than MAX_CLIP_S.
    """
    try:
        samples, rate_hz = read_audio(path, max_duration_s=MAX_CLIP_S)  # (frames, channels)
    except AudioError as error:
        raise InvalidRequest(str(error), reason=REASON) from None
    if not len(samples):
        raise InvalidRequest(f"{path.name} holds no sound", reason=REASON)
    if samples.shape[1] != configuration.channels:
        samples = samples.mean(axis=1, keepdims=True).repeat(configuration.channels, axis=1)
    return torch.from_numpy(resampled(samples, rate_hz, configuration.sample_rate_hz).T.copy())  # (channels, samples)
