"""Clips as the model hears them: its sample rate, its channels, silence up to its window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from luthier_kit.errors import InvalidRequest
from luthier_model.configuration import Configuration

REASON = "AUDIO_INVALID"
MAX_CLIP_S = 3600.0


def read(path: Path, configuration: Configuration) -> torch.Tensor:
    """A clip as (channels, samples) at the model's rate. InvalidRequest AUDIO_INVALID when it is no audio."""
    try:
        with soundfile.SoundFile(path) as file:
            if not 0 < file.frames <= MAX_CLIP_S * file.samplerate:
                text = (
                    f"a clip must last more than 0 and at most {MAX_CLIP_S:g} s, {path.name} has {file.frames} frames"
                )
                raise InvalidRequest(text, reason=REASON)
            samples, rate_hz = file.read(dtype="float32", always_2d=True), file.samplerate
    except soundfile.SoundFileError:
        raise InvalidRequest(f"{path.name} is not readable audio", reason=REASON) from None
    if not np.isfinite(samples).all():
        raise InvalidRequest(f"{path.name} holds samples that are not finite", reason=REASON)
    audio = _channels(torch.from_numpy(samples.T.copy()), configuration.channels)
    return resample(audio, rate_hz, configuration.sample_rate_hz)


def _channels(audio: torch.Tensor, wanted: int) -> torch.Tensor:
    if audio.shape[0] == wanted:
        return audio
    mono = audio.mean(0, keepdim=True)
    return mono.expand(wanted, -1)


def excerpt(audio: torch.Tensor, configuration: Configuration, start_s: float, length_s: float) -> torch.Tensor:
    """(channels, samples) of a stretch of a clip."""
    first = round(start_s * configuration.sample_rate_hz)
    return audio[:, first : first + round(length_s * configuration.sample_rate_hz)]


def window(audio: torch.Tensor, configuration: Configuration) -> torch.Tensor:
    """(channels, window samples): the clip from its beginning, silence behind its end; what is longer is cut."""
    cut = audio[:, : configuration.window_samples]
    return torch.nn.functional.pad(cut, (0, configuration.window_samples - cut.shape[1]))


def sounding_latents(audio: torch.Tensor, configuration: Configuration) -> torch.Tensor:
    """(window latents,) bool: True where a latent holds any of the clip, False where it is padding."""
    held = -(-min(audio.shape[1], configuration.window_samples) // configuration.downsampling_ratio)
    return torch.arange(configuration.window_latents) < held
